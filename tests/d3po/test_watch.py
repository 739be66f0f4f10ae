"""What watches a run: a guard that is another judge, and the real look of held-out states."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.config import compose
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.watch import held_out_targets, open_guard
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.writer import ReplayBufferWriter
from sim2real_aug.envs import make_renderer
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import SHIPPED_JUDGE, load_judge
from sim2real_aug.judges.compact import CompactJudge

CPU = torch.device("cpu")


def test_the_judge_that_is_trained_against_is_no_guard(tmp_path: Path) -> None:
    CompactJudge(channels=(8, 8), embedding_dim=8).save_pretrained(tmp_path / "other")
    settings, judge = D3POSettings(), load_judge()
    copy = shutil.copytree(SHIPPED_JUDGE, tmp_path / "copy")
    for same in ([], [f"guard.path={SHIPPED_JUDGE}"], [f"guard.path={copy}"]):
        config = compose("train_editor", ["guard=compact", *same])
        with pytest.raises(BadInput, match="the guard is the judge that is trained against"):
            open_guard(config, judge, settings, CPU)
    config = compose("train_editor", ["guard=compact", f"guard.path={tmp_path / 'other'}"])
    guard = open_guard(config, judge, settings, CPU)
    assert guard is not None
    assert guard.regions == settings.regions
    assert open_guard(compose("train_editor"), judge, settings, CPU) is None


def test_targets_are_the_renders_of_the_held_out_states(tmp_path: Path) -> None:
    states = np.array(
        [[100, 100, 200, 200, 0.5], [400, 300, 256, 256, 1.0], [50, 60, 300, 300, 2.0]], np.float32
    )
    with ReplayBufferWriter.create(tmp_path / "store.zarr") as writer:
        writer.append_episode({"img": np.zeros((3, 32, 32, 3), np.uint8), "state": states})
    buffer = ReplayBuffer.open(tmp_path / "store.zarr")
    targets = held_out_targets(make_renderer("flat"), buffer, np.array([2, 0]), 32)
    assert targets is not None
    expected = [make_renderer("flat").image(states[index], 32) for index in (2, 0)]
    np.testing.assert_array_equal(targets, np.stack(expected))
    assert held_out_targets(None, buffer, np.array([0]), 32) is None


def test_a_target_without_states_is_refused(tmp_path: Path) -> None:
    with ReplayBufferWriter.create(tmp_path / "store.zarr") as writer:
        writer.append_episode({"img": np.zeros((3, 32, 32, 3), np.uint8)})
    with pytest.raises(BadInput, match="state"):
        held_out_targets(make_renderer("flat"), ReplayBuffer.open(tmp_path / "store.zarr"), np.array([0]), 32)
