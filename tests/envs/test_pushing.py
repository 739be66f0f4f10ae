"""The model of pushes beside pymunk, and distances from the goal by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim2real_aug.envs.clearance import clearance
from sim2real_aug.envs.geometry import OUTLINE, to_window
from sim2real_aug.envs.physics import PushTPhysics
from sim2real_aug.envs.pushing import goal_distance, outline_contacts, predict_pushes


def test_distance_from_the_goal_by_hand() -> None:
    # Moved by (3, 4): every corner is 5 away. Turned half about its position: a corner at r moves by 2 r.
    goal = np.array([256.0, 256.0, 0.7])
    assert goal_distance(goal + np.array([3.0, 4.0, 0.0]), goal) == pytest.approx(5.0)
    squared = [60**2] * 2 + [60**2 + 30**2] * 2 + [15**2 + 30**2] * 2 + [15**2 + 120**2] * 2
    half_turned = goal + np.array([0, 0, math.pi])
    assert goal_distance(half_turned, goal) == pytest.approx(2 * math.sqrt(np.mean(squared)))


def test_distance_from_the_goal_corner_by_corner() -> None:
    rng = np.random.default_rng(0)
    poses = np.column_stack([rng.uniform(0, 512, (20, 2)), rng.uniform(-9, 9, 20)])
    goal = np.array([300.0, 200.0, 2.0])
    moved = [np.linalg.norm(to_window(OUTLINE, pose) - to_window(OUTLINE, goal), axis=1) for pose in poses]
    np.testing.assert_allclose(goal_distance(poses, goal), [math.sqrt((gaps**2).mean()) for gaps in moved])


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


def test_many_poses_at_once_are_as_one_by_one() -> None:
    contacts = outline_contacts(30.0)
    poses = np.array([[[250.0, 230.0, 0.4], [100.0, 300.0, 2.0]], [[50.0, 60.0, -1.0], [256.0, 256.0, 9.0]]])
    together = predict_pushes(poses, contacts)
    assert together.shape[:2] == (2, 2)
    for at in np.ndindex(2, 2):
        np.testing.assert_array_equal(together[at], predict_pushes(poses[at], contacts))


def test_contacts_leave_room_for_the_pusher() -> None:
    contacts = outline_contacts()
    centres = contacts.point + 15 * contacts.normal
    np.testing.assert_allclose(clearance(centres), 15, atol=1e-6)
    assert len({tuple(normal) for normal in contacts.normal.round().tolist()}) == 4
