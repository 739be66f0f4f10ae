"""The experiment at its smallest size, as a user types it: units one by one, records, table, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sim2real_aug.config import compose
from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import ARMS, Unit
from sim2real_aug.gain.materials import Experiment, cotrained, redrawn, simulated
from sim2real_aug.gain.plan import plan_of
from sim2real_aug.gain.units import read_record

D3PO = "rounds: 1, conditions_per_round: 1, trajectories_per_condition: 2, num_inference_steps: 2"
STAGES = {
    "simulate": {"episodes": 3, "max_steps": 12, "workers": 1},
    "redraw": {"workers": 1},
    "photos": {"count": 2},
    "train_editor": {"d3po": f"{{{D3PO}, train_timesteps: 1, held_out_frames: 1}}"},
    "train_cut": {"steps": 2, "batch_size": 1, "channels": 4},
    "train_policy": {
        "policy.model.down_dims": "[16,32]",
        "policy.training.steps": 2,
        "policy.training.batch_size": 4,
    },
    "evaluate": {"episodes": 2, "max_steps": 9},
    "proxy": {"steps": 2, "batch_size": 8},
}
TINY = [
    "scenes=[randomized/25]",
    "seeds=[0]",
    "cut_frames=8",
    "real_episodes=1",
    *(
        f"++stages.{stage}.settings.{key}={value}"
        for stage, keys in STAGES.items()
        for key, value in keys.items()
    ),
]


@pytest.mark.slow
def test_units_fill_one_table(cli, tmp_path):
    arms = f"arms=[{','.join(ARMS)}]"
    command = ("gain", "--out", "gain", "--records", "records")
    chosen = ("--arm", "sim_only", "--arm", "oracle", "--json", arms, *TINY)
    quick = cli(*command, *chosen, "proxy=false")
    assert quick.returncode == 0, quick.stderr
    assert json.loads(quick.stdout)["measured"] == 2
    assert "2 of 11 units to measure" in quick.stderr
    oracle = tmp_path / "records/randomized-25-oracle-0.json"
    without = json.loads(oracle.read_text())
    first = cli(*command, *chosen)
    assert first.returncode == 0, first.stderr
    completed = json.loads(oracle.read_text())
    assert (without.pop("proxy"), "proxy" in without["plan"]["stages"]) == (None, False)
    assert completed.pop("proxy")["block_position"] > 0
    assert completed["evaluation"] == without["evaluation"], "only the proxy was measured"
    assert "training policy" not in first.stderr
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "records").iterdir()}
    rest = cli(*command, "--json", arms, *TINY)
    assert rest.returncode == 0, rest.stderr
    summary = json.loads(rest.stdout)
    assert summary["measured"] == 11
    for name, stamp in stamps.items():
        assert (tmp_path / "records" / name).stat().st_mtime_ns == stamp, "not measured again"
    record = json.loads((tmp_path / "records/randomized-25-specialist-0.json").read_text())
    assert len(record["evaluation"]["per_episode"]) == 2
    assert record["plan"]["stages"]["proxy"]["steps"] == 2
    assert record["proxy"]["block_position"] > 0
    for name in ("table.md", "gain.png", "randomized-25/episodes.webp"):
        assert (tmp_path / "gain" / name).stat().st_size > 100
    assert "specialist_gate" in (tmp_path / "gain/table.md").read_text()

    again = cli("gain", "--out", "elsewhere", "--records", "records", "--json", arms, *TINY)
    assert json.loads(again.stdout)["arms"] == summary["arms"], "records are enough for the table"
    other = cli(*command, arms, *TINY, "++stages.photos.settings.count=3")
    assert other.returncode == 2
    assert "stages.photos.settings.count" in other.stderr

    share = "++stages.train_policy.settings.policy.training.augmented_probability=0.25"
    shares = ("gain", "--out", "shares", "--arm", "reinhard", "materials=gain", "proxy=false", share, *TINY)
    shared = cli(*shares, arms)
    assert shared.returncode == 0, shared.stderr
    made = {path.name for path in (tmp_path / "shares/randomized-25").iterdir()}
    assert made == {"policy-reinhard-0", "episodes.webp"}, "all else is the other run's"
    others = cli(*shares, arms, "++stages.photos.settings.count=3")
    assert others.returncode == 2
    assert "the materials in gain were made with another stages.photos.settings.count" in others.stderr

    unplanned = cli(*command, "--arm", "orakel", arms, *TINY)
    assert unplanned.returncode == 2
    assert "Did you mean 'oracle'" in unplanned.stderr


def test_a_plan_holds_what_its_unit_uses(tmp_path):
    experiment = Experiment(tmp_path, compose("gain", TINY))
    scene = "randomized/25"
    plans = {arm: plan_of(experiment, Unit(arm, scene, 0)) for arm in ARMS}
    assert {arm for arm, plan in plans.items() if "editor" in plan} == {"base", "specialist", "specialist_gate"}
    assert {arm for arm, plan in plans.items() if "train_editor" in plan["stages"]} == {
        "specialist",
        "specialist_gate",
    }
    defaults = plans["specialist"]["stages"]["train_editor"]["d3po"]
    assert (defaults["rounds"], defaults["alpha"]) == (1, compose("train_editor").d3po.alpha)


def test_a_record_of_other_settings_is_refused(tmp_path):
    unit = Unit("sim_only", "randomized/25", 0)
    plan = plan_of(Experiment(tmp_path, compose("gain", TINY)), unit)
    file = tmp_path / unit.file_name
    file.write_text(json.dumps({"plan": plan}))
    assert read_record(tmp_path, unit, plan) == {"plan": plan}
    stages = plan["stages"]
    longer = {**stages["evaluate"], "max_steps": 10}
    with pytest.raises(BadInput, match=r"measured with another stages\.evaluate\.max_steps;"):
        read_record(tmp_path, unit, {**plan, "stages": {**stages, "evaluate": longer}})
    later = {**stages["evaluate"], "setting_of_tomorrow": 1}
    assert read_record(tmp_path, unit, {**plan, "stages": {**stages, "evaluate": later}}), "came after the record"


def test_a_start_of_the_dataset_is_no_start_of_the_evaluation(cli, tmp_path):
    env = PushTEnv(obs_type="state")
    env.reset(seed=7)
    state = np.tile(env.state, (20, 1)).astype(np.float32)
    with ReplayBufferWriter.create(tmp_path / "known.zarr") as writer:
        for offset in (1, 0):
            frames = np.zeros((20, 96, 96, 3), np.uint8)
            writer.append_episode({"img": frames, "state": state + offset, "action": state[:, :2]})
    seed = "++stages.evaluate.settings.seed=5"
    refused = cli(
        "gain", "known.zarr", "--arm", "sim_only", *TINY, seed, "stages.evaluate.settings.episodes=3"
    )
    assert refused.returncode == 2
    assert "evaluation seed 7 starts where episode 1 of known.zarr does" in refused.stderr


def test_cotraining_takes_its_last_episodes_from_the_scene(tmp_path):
    config = compose("gain", [*TINY, "real_episodes=1"])
    experiment = Experiment(tmp_path, config)
    flat, real, mixed = (
        ReplayBuffer.open(path)
        for path in (
            simulated(experiment),
            redrawn(experiment, "randomized/25"),
            cotrained(experiment, "randomized/25"),
        )
    )
    last = flat.episode(2)
    np.testing.assert_array_equal(mixed.images()[: last.start], flat.images()[: last.start])
    np.testing.assert_array_equal(mixed.images()[last], real.images()[last])
    np.testing.assert_array_equal(mixed.read("action"), flat.read("action"))
    too_many = Experiment(tmp_path / "other", compose("gain", [*TINY, "real_episodes=3"]))
    with pytest.raises(BadInput, match="real_episodes must be below the dataset's 3; got 3"):
        cotrained(too_many, "randomized/25")
