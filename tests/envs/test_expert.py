"""The expert: what it achieves, how it moves, and what it does when something pushes the block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.expert import HUMAN_LEAD_99, HUMAN_SPEED_99, Expert, best_push, steps_to_go
from sim2real_aug.envs.geometry import GOAL_POSE
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.pushing import outline_contacts
from sim2real_aug.errors import BadInput
from sim2real_aug.seeding import numpy_generator


@dataclass(frozen=True)
class Run:
    """states: (T, 5) before actions: (T, 2)."""

    states: np.ndarray
    actions: np.ndarray
    success: bool

    @property
    def speeds(self) -> np.ndarray:
        return np.linalg.norm(np.diff(self.actions, axis=0), axis=1)

    @property
    def leads(self) -> np.ndarray:
        return np.linalg.norm(self.actions - self.states[:, :2], axis=1)


def run(seed: int, steps: int = 300, env: PushTEnv | None = None) -> Run:
    """One episode from seed's start, or from where `env` is."""
    if env is None:
        env = PushTEnv("state")
        env.reset(seed=seed)
    expert = Expert(seed)
    states, actions, success = [], [], False
    while len(actions) < steps and not success:
        states.append(env.state)
        actions.append(expert(states[-1]))
        _, _, success, _, _ = env.step(actions[-1])
    return Run(np.array(states), np.array(actions), success)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [run(seed) for seed in range(30)]


def test_it_succeeds_as_fast_as_people_do(runs: list[Run]) -> None:
    assert sum(one.success for one in runs) >= 29
    assert np.mean([len(one.actions) for one in runs]) < 124  # the published demonstrations' mean


def test_it_moves_within_what_people_do(runs: list[Run]) -> None:
    for one in runs:
        assert one.speeds.max() <= HUMAN_SPEED_99
        assert one.leads.max() <= HUMAN_LEAD_99


def test_the_limits_are_the_published_demonstrations(published_store: Path) -> None:
    store = ReplayBuffer.open(published_store)
    actions, states = store.read("action"), store.read("state")
    within = np.setdiff1d(np.arange(1, store.n_frames), store.episode_ends)
    speeds = np.linalg.norm(actions[within] - actions[within - 1], axis=1)
    leads = np.linalg.norm(actions - states[:, :2], axis=1)
    assert np.percentile(speeds, 99) == pytest.approx(HUMAN_SPEED_99, abs=0.1)
    assert np.percentile(leads, 99) == pytest.approx(HUMAN_LEAD_99, abs=0.1)


def test_its_hand_is_steady(runs: list[Run]) -> None:
    """Half the changes of the target's velocity are small, and it seldom rests."""
    changes = np.concatenate([np.linalg.norm(np.diff(one.actions, n=2, axis=0), axis=1) for one in runs])
    assert np.median(changes) < 3.5  # people: 3.2
    assert np.percentile(changes, 99) < 34  # people: 33.6
    assert np.mean(np.concatenate([one.speeds for one in runs]) < 0.01) < 0.1


def test_targets_are_in_the_window_and_follow_the_seed() -> None:
    first, again = run(4, 60), run(4, 60)
    np.testing.assert_array_equal(first.actions, again.actions)
    assert first.actions.dtype == np.float32
    assert first.actions.min() >= 0
    assert first.actions.max() <= 512
    env = PushTEnv("state")
    env.reset(seed=4)
    other, state = Expert(5), env.state
    assert not np.array_equal([other(state) for _ in range(3)], [Expert(4)(state)] * 3)


def test_it_recovers_when_the_block_is_moved() -> None:
    recovered = 0
    for seed in range(5):
        env, expert = PushTEnv("state"), Expert(seed)
        env.reset(seed=seed)
        for step in range(300):
            if step == 40:  # someone takes the block and turns it
                agent, rng = env.state[:2], np.random.default_rng(seed)
                env.reset(options={"reset_to_state": [*agent, *rng.uniform(150, 360, 2), rng.uniform(0, 6.28)]})
            _, _, terminated, _, _ = env.step(expert(env.state))
            if terminated:
                break
        recovered += terminated
    assert recovered == 5


def test_a_block_in_a_corner_comes_out() -> None:
    for pose in ((60.0, 60.0, -0.8), (450.0, 450.0, 2.36), (450.0, 62.0, 0.8)):
        env = PushTEnv("state")
        env.reset(options={"reset_to_state": [256.0, 256.0, *pose]})
        assert run(0, 300, env).success, pose


def test_it_finishes_when_one_push_is_enough() -> None:
    # The block is 20 units short of the goal along its own axis: pushed in the middle of the bar's edge, it
    # is there. The way to that push is the same for all contacts.
    axis = np.array([-np.sin(GOAL_POSE[2]), np.cos(GOAL_POSE[2])])
    pose = np.array([*(GOAL_POSE[:2] - 20.0 * axis), GOAL_POSE[2]])
    walk = np.full(len(outline_contacts().point), 100.0)
    push = best_push(pose, walk, numpy_generator(0))
    assert push.left < 1.5
    assert push.length == pytest.approx(20.0, abs=1.5)


def test_a_state_is_five_finite_numbers() -> None:
    with pytest.raises(BadInput, match="five finite numbers"):
        Expert(0)([1.0, 2.0, 3.0])


def test_more_is_left_to_do_from_farther_away() -> None:
    steps = steps_to_go(np.array([0.0, 1.0, 2.0, 50.0, 200.0]))
    assert steps[0] == 0
    assert (np.diff(steps) > 0).all()
