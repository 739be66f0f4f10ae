"""The demonstrations that ship: whole, true to our physics, and made by the documented command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.envs.expert import HUMAN_LEAD_99, HUMAN_SPEED_99
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.recordings import SHIPPED_EPISODES, Recordings, load_recordings, record
from sim2real_aug.errors import BadInput


@pytest.fixture(scope="module")
def shipped() -> Recordings:
    return load_recordings()


def test_what_ships(shipped: Recordings) -> None:
    n = len(shipped.state)
    assert shipped.n_episodes == SHIPPED_EPISODES >= 500
    found = {name: (array.shape, str(array.dtype)) for name, array in vars(shipped).items() if name != "n_dropped"}
    assert found == {
        "state": ((n, 5), "float32"),
        "action": ((n, 2), "float32"),
        "n_contacts": ((n, 1), "uint8"),
        "coverage": ((n, 1), "float32"),
        "episode_ends": ((SHIPPED_EPISODES,), "int64"),
    }
    assert shipped.n_dropped <= 0.01 * SHIPPED_EPISODES


def test_every_episode_succeeds_at_its_last_step_and_not_before(shipped: Recordings) -> None:
    last = shipped.episode_ends - 1
    assert (shipped.coverage[last] > 0.95).all()
    assert (np.delete(shipped.coverage, last) <= 0.95).all()
    assert np.diff(shipped.episode_ends, prepend=0).max() <= 300


def test_states_and_actions_are_in_range(shipped: Recordings) -> None:
    for positions in (shipped.state[:, :4], shipped.action):
        assert positions.min() >= 0
        assert positions.max() <= 512
    assert shipped.state[:, 4].min() >= 0
    assert shipped.state[:, 4].max() <= 2 * np.pi
    assert shipped.n_contacts[[0, *shipped.episode_ends[:-1]]].max() == 0
    assert 0.3 < (shipped.n_contacts > 0).mean() < 0.6  # people: 0.46


def test_targets_move_within_what_people_do(shipped: Recordings) -> None:
    steps = np.linalg.norm(np.diff(shipped.action, axis=0), axis=1)
    within = np.delete(steps, shipped.episode_ends[:-1] - 1)
    assert within.max() <= HUMAN_SPEED_99
    assert np.linalg.norm(shipped.action - shipped.state[:, :2], axis=1).max() <= HUMAN_LEAD_99


@pytest.mark.parametrize("index", [0, 99, 333, 599])
def test_states_follow_from_actions(shipped: Recordings, index: int) -> None:
    """In our physics, from the stored start: the stored states differ from it by their rounding only."""
    steps = shipped.episode(index)
    env = PushTEnv("state")
    env.reset(options={"reset_to_state": shipped.state[steps][0]})
    for state, action, covered in zip(
        shipped.state[steps], shipped.action[steps], shipped.coverage[steps, 0], strict=True
    ):
        difference = env.state - state
        assert np.abs(difference[:4]).max() < 0.5
        assert abs(np.remainder(difference[4] + np.pi, 2 * np.pi) - np.pi) < 0.01
        *_, info = env.step(action)
        assert info["coverage"] == pytest.approx(covered, abs=0.01)


def test_the_last_millimetres_are_quick(shipped: Recordings) -> None:
    """From 85 % of the goal on: at most two more short pushes, no dithering."""
    left = []
    for index in range(shipped.n_episodes):
        covered = shipped.coverage[shipped.episode(index), 0]
        left.append(len(covered) - int((covered > 0.85).argmax()))
    assert np.median(left) <= 25
    assert max(left) <= 60


def test_starts_differ(shipped: Recordings) -> None:
    starts = shipped.state[[0, *shipped.episode_ends[:-1]]]
    assert len(np.unique(starts, axis=0)) == shipped.n_episodes


def test_recording_begins_with_the_same_episodes(shipped: Recordings) -> None:
    two = record(2)
    assert two.n_episodes == 2
    begin = slice(0, 30)  # on another machine's arithmetic a push may be chosen otherwise later on
    np.testing.assert_allclose(two.state[begin], shipped.state[begin], atol=1e-3)
    np.testing.assert_allclose(two.action[begin], shipped.action[begin], atol=1e-3)


def test_the_command_writes_the_same_file_again(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        command = [sys.executable, "-m", "sim2real_aug.envs.recordings", str(tmp_path / name), "--episodes", "1"]
        subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert load_recordings(tmp_path / "a.npz").n_episodes == 1


def test_what_is_wrong_is_said(shipped: Recordings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"0 to {SHIPPED_EPISODES - 1}; got {SHIPPED_EPISODES}"):
        shipped.episode(SHIPPED_EPISODES)
    with pytest.raises(BadInput, match=r"nowhere.npz cannot be read \(No such file"):
        load_recordings(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "other.npz", state=np.zeros((3, 5)))
    np.save(tmp_path / "array.npy", np.zeros((3, 5)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    (tmp_path / "empty.npz").touch()
    for name in ("other.npz", "array.npy", "cut.npz", "empty.npz"):
        with pytest.raises(BadInput, match=f"{name} holds no recordings"):
            load_recordings(tmp_path / name)
    with pytest.raises(BadInput, match=r"action must have shape \(1, 2\); got \(2, 2\)"):
        Recordings(
            np.zeros((1, 5)), np.zeros((2, 2)), np.zeros((1, 1)), np.zeros((1, 1)), np.array([1]), 0
        )
    with pytest.raises(BadInput, match="at least 1; got 0"):
        record(0)
