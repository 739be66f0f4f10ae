"""The demo: its budget, its arithmetic, and the whole of it at the smallest size."""

import json
from pathlib import Path

import pytest
from PIL import Image

from sim2real_aug.cli.demo_stages import ARMS
from sim2real_aug.config import compose
from sim2real_aug.gain.arms import ARMS as EXPERIMENT_ARMS

D3PO = "rounds: 1, conditions_per_round: 1, trajectories_per_condition: 2, num_inference_steps: 2"
TINY = [
    "picture_rows=2",
    "stages.simulate.settings.episodes=3",
    "+stages.simulate.settings.max_steps=20",
    "stages.photos.settings.count=2",
    f"+stages.train_editor.settings.d3po={{{D3PO}, train_timesteps: 1, held_out_frames: 1}}",
    "+stages.augment.settings.episodes='0:2'",
    "stages.train_policy.settings.policy.training.steps=2",
    "+stages.train_policy.settings.policy.training.batch_size=4",
    "+stages.train_policy.settings.policy.model.down_dims=[16,32]",
    "stages.evaluate.settings.episodes=2",
    "+stages.evaluate.settings.max_steps=9",
]


def test_the_budget_is_at_most_twenty_minutes():
    stages = compose("demo").stages
    assert sum(stage.budget_seconds for stage in stages.values()) <= 20 * 60


def test_the_real_domain_is_a_scene_that_pretraining_leaves_out():
    domain, scene = compose("demo").real_domain.split("/")
    assert domain == "randomized"
    assert int(scene) < 1_000_000


def test_the_arms_are_those_of_the_experiment():
    assert list(ARMS) == ["sim-only", "edited", "oracle"]
    assert set(ARMS.values()) <= set(EXPERIMENT_ARMS)


@pytest.mark.slow
def test_the_whole_demo_resumes_and_shows_its_table(cli, tmp_path):
    first = cli("demo", "--out", "demo", "--json", *TINY)
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary == json.loads((tmp_path / "demo/summary.json").read_text())
    assert set(summary["arms"]) == {"sim-only", "edited", "oracle"}
    assert set(summary["seconds"]) == set(summary["budget_seconds"])
    assert "pretraining has not seen" in summary["note"]
    assert all(found["action_error"] > 0 for by_domain in summary["arms"].values() for found in by_domain.values())
    width, height = Image.open(Path(tmp_path / summary["picture"])).size
    assert width > 3 * height / 2 > 0  # four columns, two rows
    (tmp_path / "demo/summary.json").unlink()
    (tmp_path / "demo/stages/evaluate.json").unlink()
    again = cli("demo", "--out", "demo", *TINY)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "demo/summary.json").read_text())["arms"] == summary["arms"]
    for word in (
        "sim-only",
        "edited",
        "oracle",
        compose("demo").real_domain,
        "gap closed",
        "picture:",
        "summary:",
    ):
        assert word in again.stdout
    other = cli("demo", "--out", "demo", "--seed", 5, *TINY)
    assert other.returncode == 2
    assert "seed" in other.stderr.splitlines()[-1]
