"""The T's shape, its nine keypoints, and coverage against hand-worked areas and a fine grid."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.coverage import area, coverage, overlap_area
from sim2real_aug.envs.geometry import GOAL_POSE, block_polygons, keypoints


def test_corners_of_a_quarter_turn() -> None:
    # A quarter turn takes (x, y) to (-y, x): the bar's corner (60, 30) to (-30, 60); then add the position.
    bar, stem = block_polygons([100.0, 200.0, math.pi / 2])
    np.testing.assert_allclose(bar, [(70, 140), (70, 260), (100, 260), (100, 140)], atol=1e-9)
    np.testing.assert_allclose(stem, [(70, 185), (-20, 185), (-20, 215), (70, 215)], atol=1e-9)


def test_keypoints_are_those_of_the_published_store(published_store: Path) -> None:
    store = ReplayBuffer.open(published_store)
    state, points = store.read("state"), store.read("keypoint")
    frames = np.linspace(0, store.n_frames - 1, 300).astype(int)
    errors = [np.abs(keypoints(state[frame, 2:]) - points[frame]).max() for frame in frames]
    # The published points lag the state by one sub-step, which shows where the block moves fast.
    assert np.median(errors) < 2e-3
    assert max(errors) < 2.5


@pytest.mark.parametrize(
    ("pose", "expected"),
    [
        ((0, 0, 0), 1.0),
        # Bars share 110 x 30, stems 20 x 90.
        ((10, 0, 0), (110 * 30 + 20 * 90) / 6300),
        # Bars share 120 x 20, stems 30 x 80, and the moved bar covers 30 x 10 of the other's stem.
        ((0, 10, 0), (120 * 20 + 30 * 80 + 30 * 10) / 6300),
        # Upside down about the bar's outer edge: only the edge is shared.
        ((0, 0, math.pi), 0.0),
        # Upside down and 120 lower: stems share y 30 to 90, and each bar covers the end of the other stem.
        ((0, 120, math.pi), (30 * 60 + 30 * 30 + 30 * 30) / 6300),
        # A quarter turn, (x, y) -> (-y, x): its bar lies at x -30..0, its stem at x -120..-30, y -15..15.
        # Bar on bar 30 x 30, its bar on the stem 15 x 30 (x -15..0, y 30..60), its stem on the bar 30 x 15
        # (x -60..-30, y 0..15).
        ((0, 0, math.pi / 2), (30 * 30 + 15 * 30 + 30 * 15) / 6300),
        ((500, 0, 0), 0.0),
    ],
)
def test_coverage_by_hand(pose: tuple[float, float, float], expected: float) -> None:
    assert coverage(pose, (0.0, 0.0, 0.0)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.floats(-90, 90), st.floats(-90, 90), st.floats(-7, 7))
def test_coverage_agrees_with_counting_points(dx: float, dy: float, turn: float) -> None:
    pose = GOAL_POSE + np.array([dx, dy, turn])
    grid = np.stack(np.meshgrid(np.arange(100, 412, 0.5), np.arange(100, 412, 0.5)), -1).reshape(-1, 2)
    both = _inside(grid, pose) & _inside(grid, GOAL_POSE)
    assert coverage(pose.tolist()) == pytest.approx(both.sum() * 0.25 / 6300, abs=0.01)


@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(-7, 7))
def test_coverage_is_symmetric(dx: float, dy: float, turn: float) -> None:
    pose = (256 + dx, 256 + dy, turn)
    goal = (256.0, 256.0, 0.5)
    assert coverage(pose, goal) == pytest.approx(coverage(goal, pose), abs=1e-9)


def test_overlap_of_a_diamond_and_a_square() -> None:
    # |x| + |y| <= 2 within the square [-1.5, 1.5]^2: 8 less four corner triangles of base 1 and height 0.5.
    diamond = [(2.0, 0.0), (0.0, 2.0), (-2.0, 0.0), (0.0, -2.0)]
    assert area(diamond) == 8.0
    assert overlap_area(diamond, ((-1.5, -1.5), (1.5, 1.5))) == pytest.approx(8 - 4 * 0.25)


def _inside(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    x, y = ((points - pose[:2]) @ np.array([[cos, -sin], [sin, cos]])).T
    return (abs(x) <= 60) & (y >= 0) & (y <= 30) | (abs(x) <= 15) & (y >= 30) & (y <= 120)
