"""The mixing studies: the usual value of each is known before anything is measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from mixing import PLAN, STUDIES, Mixing

from sim2real_aug.errors import BadInput


@pytest.mark.parametrize(("study", "usual"), [("share", 0.75), ("photos", 8), ("episodes", 80)])
def test_the_usual_value_is_the_experiment_s(study: str, usual: float) -> None:
    assert Mixing(Path(), Path(), PLAN).usual(study) == usual
    assert usual not in STUDIES[study][2]


def test_a_default_counts_and_a_value_that_is_open_is_refused() -> None:
    mixing = Mixing(Path(), Path(), (*PLAN, "experiment=full", "~stages.photos.settings.count"))
    assert mixing.usual("photos") == 20, "as `photos` has it"
    with pytest.raises(BadInput, match=r"number of episodes must be known .*; add .*simulate.settings.episodes=80"):
        mixing.usual("episodes")


def test_each_value_is_compared_with_the_usual_one_start_by_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered = {"usual": [0.1, 0.9], "photos-1": [0.2, 1.0], "photos-4": [0.1, 0.9], "photos-32": [0.0, 0.8]}
    for name, values in covered.items():
        record = {"arm": "composed", "evaluation": {"per_episode": [{"max_coverage": value} for value in values]}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "unit.json").write_text(json.dumps(record))
    mixing = Mixing(tmp_path, tmp_path, PLAN)
    monkeypatch.setattr(Mixing, "arms", lambda *_: {"composed": {}})
    rows = mixing.measure("photos", 8)
    assert [row["photos"] for row in rows] == [1, 4, 8, 32]
    leads = [row["lead"]["composed"] for row in rows if "lead" in row]
    bounds = [[lead[key] for key in ("low", "value", "high")] for lead in leads]
    np.testing.assert_allclose(bounds, [[0.1] * 3, [0] * 3, [-0.1] * 3], atol=1e-12)
