"""The recorder: a row holds what was seen before the action, and what the action led to."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.recorder import ROWS, EpisodeRecorder, draw_states, open_writer
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput

TOUCHING = [256.0, 110.0, 256.0, 130.0, 0.0]  # pusher above the bar: the bar's outer edge is 20 units below


def test_rows_are_of_before_and_after() -> None:
    env = PushTEnv()
    env.reset(options={"reset_to_state": TOUCHING})
    recorder = EpisodeRecorder(env)
    assert len(recorder) == 0
    contacts, coverages = [0], []
    for target in ((256.0, 110.0), (256.0, 200.0), (256.0, 200.0)):
        assert recorder.step(target) is False
        contacts.append(env._info(env.coverage)["n_contacts"])
        coverages.append(env.coverage)
    rows = recorder.arrays()
    assert tuple(rows) == ROWS
    assert [rows[name].shape for name in ROWS] == [(3, 5), (3, 2), (3, 9, 2), (3, 1), (3, 1)]
    assert {rows[name].dtype for name in ROWS} == {np.dtype(np.float32)}
    np.testing.assert_allclose(rows["state"][0], TOUCHING, atol=1e-4)
    assert rows["action"].tolist() == [[256.0, 110.0], [256.0, 200.0], [256.0, 200.0]]
    assert rows["n_contacts"][:, 0].tolist() == contacts[:-1], "of the step that led to the state"
    assert contacts[-1] >= 1, "the push must touch for the test to mean anything"
    np.testing.assert_allclose(rows["coverage"][:, 0], coverages, atol=1e-6)
    # Keypoint 3 lies 25.5 units down the stem from the bar's outer edge, at angle 0.
    np.testing.assert_allclose(rows["keypoint"][0, 3], (256 - 0.2705, 130 + 25.5436), atol=1e-3)


def test_the_goal_ends_it() -> None:
    env = PushTEnv()
    env.reset(options={"reset_to_state": [50.0, 50.0, 256.0, 256.0, math.pi / 4]})
    recorder = EpisodeRecorder(env)
    assert recorder.step((50.0, 50.0)) is True
    np.testing.assert_allclose(recorder.arrays()["coverage"], [[1.0]], atol=1e-5)


def test_frames_are_those_of_the_states() -> None:
    renderer = make_renderer("flat")
    states = np.array([TOUCHING, [50.0, 50.0, 256.0, 256.0, 1.0]], np.float32)
    frames = draw_states(renderer, states, 32)
    assert frames.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(frames[1], make_renderer("flat").image(states[1], 32))


def test_a_store_is_taken_up_by_its_own_command_only(tmp_path: Path) -> None:
    path = tmp_path / "store.zarr"
    episode = {"action": np.ones((2, 2), np.float32)}
    open_writer(path, "teleop", {"seed": 1}, 3).append_episode(episode)
    again = open_writer(path, "teleop", {"seed": 1}, 3)
    assert again.n_episodes == 1
    with pytest.raises(BadInput, match="not made by simulate"):
        open_writer(path, "simulate", {"seed": 1}, 3)
    with pytest.raises(BadInput, match="made with another seed"):
        open_writer(path, "teleop", {"seed": 2}, 3)
    (tmp_path / "notes").mkdir()
    with pytest.raises(BadInput, match="not made by teleop"):
        open_writer(tmp_path / "notes", "teleop", {"seed": 1}, 3)
    assert ReplayBuffer.open(path).attrs["teleop"] == {"seed": 1}
    assert open_writer(path, "simulate", {"seed": 1}, 3, overwrite=True).n_episodes == 0
