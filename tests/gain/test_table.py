"""The experiment's arithmetic on records made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import ARMS, Unit, units_of
from sim2real_aug.gain.experiment import Experiment
from sim2real_aug.gain.plan import minutes
from sim2real_aug.gain.table import as_json, correlation, gap_closed, markdown, rows_of


def record(
    arm: str, coverage: list[float], scene: str = "flat", seed: int = 0, proxy: float = 0
) -> dict[str, Any]:
    episodes = [{"max_coverage": value, "success": value >= 0.95} for value in coverage]
    errors = {"block_position": proxy, "block_angle": proxy, "action": proxy}
    measured = {"per_episode": episodes, "mean_max_coverage": float(np.mean(coverage))}
    return {"arm": arm, "scene": scene, "seed": seed, "evaluation": measured, "proxy": errors}


RECORDS = [
    record("sim_only", [0.1, 0.3], proxy=9),
    record("specialist", [0.5, 0.7], proxy=3),
    record("oracle", [0.6, 1.0], proxy=1),
    record("reinhard", [0.2, 0.2], proxy=7),
]


def test_gap_closed() -> None:
    assert gap_closed(0.2, 0.5, 0.8) == pytest.approx(0.5)
    assert gap_closed(0.2, 0.1, 0.4) == pytest.approx(-0.5)
    assert np.isnan(gap_closed(0.5, 0.6, 0.5))


def test_rows_by_hand() -> None:
    rows = {row.arm: row for row in rows_of(RECORDS)}
    assert list(rows) == ["sim_only", "reinhard", "specialist", "oracle"], "the order of ARMS"
    assert rows["oracle"].success.value == pytest.approx(0.5)
    assert rows["specialist"].max_coverage.value == pytest.approx(0.6)
    closed = rows["specialist"].gap_closed
    assert closed is not None
    assert closed.value == pytest.approx(0.4 / 0.6)
    lead = rows["reinhard"].lead
    assert lead is not None
    assert lead.value == pytest.approx(0.4)
    assert (lead.low, lead.high) == (pytest.approx(0.3), pytest.approx(0.5)), "two episodes, drawn in pairs"
    assert rows["oracle"].gap_closed is None
    assert rows["specialist"].lead is None


def test_an_oracle_that_may_be_no_better_leaves_the_gap_closed_without_bound() -> None:
    records = [
        record("sim_only", [0.1, 0.5, 0.3]),
        record("specialist", [0.5, 0.7, 0.6]),
        record("oracle", [0.9, 0.4, 0.8]),
    ]
    row = next(row for row in rows_of(records) if row.arm == "specialist")
    assert row.gap_closed is not None
    assert row.gap_closed.value == pytest.approx(0.9 / 1.2)
    assert (np.isfinite(row.gap_closed.low), row.gap_closed.high) == (True, np.inf)
    assert "unbounded]" in markdown(records)
    saved = json.loads(json.dumps(as_json([row]), allow_nan=False))
    assert saved["specialist"]["gap_closed"]["high"] is None


def test_no_success_at_all_has_an_interval() -> None:
    row = next(row for row in rows_of(RECORDS) if row.arm == "sim_only")
    assert (row.success.value, row.success.low) == (0, 0)
    assert row.success.high == pytest.approx(3.8415 / (2 + 3.8415), abs=1e-3), "Wilson's of 0 of 2"


def test_a_comparison_uses_only_units_that_both_arms_have() -> None:
    more = [*RECORDS, record("specialist", [0, 0], seed=1)]
    row = next(row for row in rows_of(more) if row.arm == "specialist")
    assert row.units == 2
    assert row.max_coverage.value == pytest.approx(0.3)
    assert row.gap_closed is not None
    assert row.gap_closed.value == pytest.approx(0.4 / 0.6)


def test_without_oracle_there_is_no_gap() -> None:
    row = next(row for row in rows_of(RECORDS[:2]) if row.arm == "specialist")
    assert row.gap_closed is None


def test_correlation_and_markdown() -> None:
    assert correlation(RECORDS, "action") == pytest.approx(-1)
    assert correlation(RECORDS[:2], "action") is None
    text = markdown([*RECORDS, record("sim_only", [0.5, 0.5], scene="randomized/1")])
    assert text.count("## ") == 4, "all scenes, each scene, the proxy"
    assert "| specialist | 1 | 0.6 [" in text


def test_units_and_their_time(tmp_path: Path) -> None:
    from sim2real_aug.config import compose

    config = compose("gain")
    experiment = Experiment(tmp_path, config)
    stages = {name: float(stage.budget_seconds) for name, stage in config.stages.items()}
    every_arm = ("simulate", "redraw", "train_policy", "evaluate", "proxy")
    edited = (*every_arm, "photos", "augment")
    alone = minutes(experiment, units_of(["flat"], ["specialist"], [0])) * 60
    assert alone == pytest.approx(sum(stages[name] for name in (*edited, "train_editor")))
    both = minutes(experiment, units_of(["flat"], ["specialist", "specialist_gate"], [0])) * 60
    own = ("train_policy", "evaluate", "proxy")
    late = minutes(experiment, units_of(["flat"], ["sim_only"], [0]), [Unit("sim_only", "flat", 0)]) * 60
    assert late == pytest.approx(sum(stages[name] for name in ("simulate", "redraw", "proxy"))), "a late proxy"
    assert both - alone == pytest.approx(sum(stages[name] for name in own)), "one store for both"
    (tmp_path / "flat" / "specialist-0.zarr").mkdir(parents=True)
    rest = minutes(experiment, units_of(["flat"], ["specialist"], [0])) * 60
    assert alone - rest == pytest.approx(stages["augment"]), "what is there takes no time"
    assert len(list(units_of(config.scenes, config.arms, config.seeds))) == 24
    with pytest.raises(BadInput, match=r"unknown arm 'oracel'. Did you mean 'oracle'"):
        list(units_of(["flat"], ["oracel"], [0]))


def test_the_experiments_name_only_what_there_is() -> None:
    from sim2real_aug.config import compose
    from sim2real_aug.envs.rendering import make_renderer

    for experiment in ("small", "full"):
        config = compose("gain", [f"experiment={experiment}"])
        assert set(config.arms) <= set(ARMS)
        for scene in config.scenes:
            assert make_renderer(scene)
    assert set(config.arms) == set(ARMS), "the full one has them all"
