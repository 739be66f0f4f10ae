"""The scripted pusher: its model beside pymunk, its ways, and what it achieves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sim2real_aug.envs.physics import PushTPhysics
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.pushing import clearance, goal_distance, outline_contacts, predict_pushes
from sim2real_aug.envs.scripted import ScriptedPusher, way_around


def run(seed: int, steps: int = 300) -> tuple[float, float, np.ndarray]:
    """First and best coverage, and the actions, of one episode."""
    env = PushTEnv()
    state, info = env.reset(seed=seed)
    policy = ScriptedPusher(seed)
    first = best = info["coverage"]
    actions = []
    for _ in range(steps):
        actions.append(policy(state))
        state, _, terminated, _, info = env.step(actions[-1])
        best = max(best, info["coverage"])
        if terminated:
            break
    return first, best, np.array(actions)


def test_most_episodes_succeed() -> None:
    results = [run(seed) for seed in range(10)]
    assert sum(best > 0.95 for _, best, _ in results) >= 8  # all of 200 measured
    assert all(best > first for first, best, _ in results)


def test_actions_are_targets_in_the_window_and_follow_the_seed() -> None:
    _, _, actions = run(4, 60)
    _, _, again = run(4, 60)
    np.testing.assert_array_equal(actions, again)
    assert actions.dtype == np.float32
    assert actions.min() >= 0
    assert actions.max() <= 512
    env = PushTEnv()
    state, _ = env.reset(seed=4)
    assert not np.array_equal(ScriptedPusher(5)(state), actions[0])


def test_distance_from_the_goal_by_hand() -> None:
    # Moved by (3, 4): every corner is 5 away. Turned half about its position: a corner at r moves by 2 r.
    goal = np.array([256.0, 256.0, 0.7])
    assert goal_distance(goal + np.array([3.0, 4.0, 0.0]), goal) == pytest.approx(5.0)
    squared = [60**2] * 2 + [60**2 + 30**2] * 2 + [15**2 + 30**2] * 2 + [15**2 + 120**2] * 2
    assert goal_distance(goal + np.array([0, 0, math.pi]), goal) == pytest.approx(
        2 * math.sqrt(np.mean(squared))
    )


def test_predicted_pushes_are_what_pymunk_does() -> None:
    contacts = outline_contacts(30.0)
    pose = np.array([250.0, 230.0, 0.4])
    predicted = predict_pushes(pose, contacts, np.arange(1.0, 21.0))[:, -1]
    cos, sin = math.cos(0.4), math.sin(0.4)
    turn = np.array([[cos, -sin], [sin, cos]])
    compared = 0
    for index in range(len(predicted)):
        if np.isnan(predicted[index]).any():
            continue
        start = pose[:2] + turn @ (contacts.point[index] + 15 * contacts.normal[index])
        physics = PushTPhysics()
        physics.reset((*start, *pose))
        for step in range(1, 80):
            physics.step(start - turn @ contacts.normal[index] * min(0.5 * step, 20.0))
        difference = physics.block_pose - predicted[index]
        assert np.abs(difference[:2]).max() < 1.5
        assert abs(difference[2]) < 0.03
        compared += 1
    assert compared >= 10


def test_contacts_leave_room_for_the_pusher() -> None:
    contacts = outline_contacts()
    centres = contacts.point + 15 * contacts.normal
    np.testing.assert_allclose(clearance(centres), 15, atol=1e-6)
    assert len({tuple(normal) for normal in contacts.normal.round().tolist()}) == 4


def test_ways_lead_around_the_block() -> None:
    pose = np.array([256.0, 200.0, 0.0])
    agent, goal = np.array([256.0, 150.0]), np.array([256.0, 360.0])
    way = [agent, *way_around(agent, goal, pose)]
    assert len(way) > 2
    np.testing.assert_array_equal(way[-1], goal)
    for a, b in itertools.pairwise(way):
        points = a + np.linspace(0, 1, 50)[:, None] * (b - a)
        assert clearance(points - pose[:2]).min() > 15
