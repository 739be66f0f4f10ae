"""The target's run along a line: its limits, its bends and its end."""

from __future__ import annotations

import numpy as np
import pytest

from sim2real_aug.envs.following import along, make_line, next_speed

BENT = make_line(np.array([(0, 0), (100, 0), (100, 80), (130, 80)], float), np.array([20.0, 20.0, 10.0]), 6.0)


def run(acceleration: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Places along BENT, and speeds, until the target rests."""
    at, speed, places, speeds = 0.0, 0.0, [0.0], []
    for _ in range(200):
        speed = next_speed(BENT, at, speed, acceleration)
        if speed == 0.0:
            break
        at += speed
        places.append(at)
        speeds.append(speed)
    return np.array(places), np.array(speeds)


def test_points_of_a_line_by_hand() -> None:
    np.testing.assert_array_equal(BENT.marks, [0, 100, 180, 210])
    for at, point in ((0, (0, 0)), (40, (40, 0)), (130, (100, 30)), (210, (130, 80)), (999, (130, 80))):
        np.testing.assert_allclose(along(BENT, at), point)


def test_bends_are_passed_the_more_slowly_the_sharper() -> None:
    turns = np.radians([0.0, 45.0, 90.0, 135.0])
    passed = [
        make_line(np.array([(0, 0), (1, 0), (1 + np.cos(t), np.sin(t))]), np.array([20.0, 20.0]), 6.0).passing[0]
        for t in turns
    ]
    assert passed == pytest.approx([20.0, 6.0 + 14.0 * 0.5, 6.0, 6.0])


def test_speed_and_acceleration_are_limited() -> None:
    places, speeds = run()
    assert np.diff(speeds).max() <= 4.0 + 1e-9
    assert speeds.max() <= 20.0
    assert speeds[:3] == pytest.approx([4, 8, 12])
    assert speeds[places[:-1] > 180].max() <= 10.0
    for mark in (100.0, 180.0):  # the step that passes a right angle
        assert speeds[(places[:-1] < mark).sum() - 1] <= 6.0 + 4.0


def test_the_end_is_reached_exactly_and_gently() -> None:
    places, speeds = run()
    assert places[-1] == pytest.approx(210.0, abs=1e-9)
    assert np.diff(speeds[-4:]).max() <= 0.0
    assert speeds[-1] < 1.0
