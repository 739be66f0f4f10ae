"""Shapes and sizes of Push-T that physics and renderers share, in window units (0..512) and radians.

The window's x grows to the right, y downwards. The block is a T of two rectangles, a bar of 120 x 30 and a
stem of 30 x 90, given in its own frame; its origin (the block's position) is the middle of the bar's outer
edge. Sizes are those of diffusion_policy's and gym-pusht's Push-T.

Legend: pose = (x, y, angle); state = (agent x, agent y, block x, block y, angle).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW_SIZE = 512.0
AGENT_RADIUS = 15.0
GOAL_POSE = np.array([256.0, 256.0, math.pi / 4])
GOAL_POSE.setflags(write=False)

# The classic Push-T is flat; these nominal heights above the table give the flat domain a depth.
CAMERA_HEIGHT = 512.0
BLOCK_HEIGHT = 30.0
PUSHER_HEIGHT = 60.0

BAR = np.array([(-60.0, 30.0), (60.0, 30.0), (60.0, 0.0), (-60.0, 0.0)])
STEM = np.array([(-15.0, 30.0), (-15.0, 120.0), (15.0, 120.0), (15.0, 30.0)])
# The T's outline, corner by corner, clockwise in the window.
OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float
)
BLOCK_AREA = 120.0 * 30.0 + 30.0 * 90.0

# The nine points that the published demonstrations track (`data/keypoint`), in the block's frame. Their
# authors drew them at random; these values are the median over the published store.
KEYPOINTS = np.array(
    [
        (9.2698, 90.041),
        (-60.9835, -1.1867),
        (60.9128, -1.3934),
        (-0.2705, 25.5436),
        (-14.0649, 122.8159),
        (39.0027, 32.8574),
        (-39.9664, 32.7297),
        (-16.8243, 62.8632),
        (23.5415, -1.7003),
    ]
)


def rotation(angle: float) -> NDArray[np.float64]:
    """The (2, 2) matrix that turns a column vector by `angle` radians from x towards y."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def to_window(points: NDArray[np.float64], pose: ArrayLike) -> NDArray[np.float64]:
    """Points (n, 2) of the block's frame, in window units, for a pose (3,)."""
    x, y, angle = np.asarray(pose, np.float64)
    return points @ rotation(angle).T + (x, y)


def block_polygons(pose: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the bar (4, 2) and of the stem (4, 2), window units, for a block pose (3,).

    The goal's outline is `block_polygons(GOAL_POSE)`.
    """
    return to_window(BAR, pose), to_window(STEM, pose)


def keypoints(pose: ArrayLike) -> NDArray[np.float64]:
    """The nine points (9, 2) of `data/keypoint`, window units, for a block pose (3,)."""
    return to_window(KEYPOINTS, pose)
