"""The block's pose read back from its mask: does an edit still show what its state label says?

The T is laid over the mask so that the squared difference of coverage is least (Levenberg-Marquardt from several
angles). Its outline is the ground's: a tall block seen from the side is read a little towards the picture's edge.

Legend: pose = (x, y, angle) as in a state, window units 0..512 and radians; S pixels a side; K starts, n pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import BAR, OUTLINE, STEM, WINDOW_SIZE, rotation, to_window

Floats = NDArray[np.float64]

CENTROID = np.array([0.0, (3600 * 15 + 2700 * 75) / 6300])  # of the T in its own frame: bar and stem by area
STARTS = 8
ITERATIONS = 25
MARGIN = 4  # pixels around the mask that are looked at
STEP = np.array([0.5, 0.5, 0.01])  # of the numerical derivative
LEAST_PIXELS = 12


def read_block_pose(mask: NDArray[np.bool_], hidden: NDArray[np.bool_] | None = None) -> Floats | None:
    """The pose (3,) whose outline fits `mask` (S, S) best; None where too little of the block is seen.

    hidden: (S, S), pixels of which nothing is known, such as the pusher's. Of several pieces the largest counts.
    """
    count, pieces, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height, area = (int(value) for value in stats[largest])
    if area < LEAST_PIXELS:
        return None
    unit = WINDOW_SIZE / len(mask)
    rows = slice(max(top - MARGIN, 0), top + height + MARGIN)
    columns = slice(max(left - MARGIN, 0), left + width + MARGIN)
    known = np.ones_like(mask) if hidden is None else ~hidden
    seen = known[rows, columns]
    y, x = np.mgrid[rows.start : rows.start + seen.shape[0], columns.start : columns.start + seen.shape[1]]
    points = np.stack([x, y], -1)[seen] * unit + unit / 2
    target = (pieces[rows, columns] == largest)[seen].astype(np.float64)
    starts = np.empty((STARTS, 3))
    for start, angle in zip(starts, np.arange(STARTS) * (2 * math.pi / STARTS), strict=True):
        start[:2] = centroids[largest] * unit + unit / 2 - rotation(angle) @ CENTROID
        start[2] = angle
    return _fit(starts, points, target, unit)


def corner_error(pose: ArrayLike, truth: ArrayLike, size: int) -> float:
    """How far the T's corners lie from where they should, their mean, in pixels of a frame of `size`.

    One figure for place and angle: 1 window unit aside is size / 512, a turn counts by what it moves.
    """
    away = to_window(OUTLINE, pose) - to_window(OUTLINE, truth)
    return float(np.linalg.norm(away, axis=1).mean() * size / WINDOW_SIZE)


def coverage_at(poses: Floats, points: Floats, unit: float) -> Floats:
    """How much of each pixel the T covers, (K, n) in 0..1, by its centre's distance from the outline.

    poses: (K, 3). points: (n, 2) window units. unit: a pixel's side.
    """
    cos, sin = np.cos(poses[:, 2, None]), np.sin(poses[:, 2, None])
    x, y = points[:, 0] - poses[:, :1], points[:, 1] - poses[:, 1:2]
    own_x, own_y = cos * x + sin * y, cos * y - sin * x
    away = np.minimum(_outside(own_x, own_y, BAR), _outside(own_x, own_y, STEM))
    return np.asarray(np.clip(0.5 - away / unit, 0, 1))


def _outside(x: Floats, y: Floats, box: Floats) -> Floats:
    """Signed distance of points from an upright rectangle, negative inside."""
    (left, top), (right, bottom) = box.min(0), box.max(0)
    dx = np.abs(x - (left + right) / 2) - (right - left) / 2
    dy = np.abs(y - (top + bottom) / 2) - (bottom - top) / 2
    return np.asarray(np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0))


def _fit(poses: Floats, points: Floats, target: Floats, unit: float) -> Floats:
    """Levenberg-Marquardt of all starts (K, 3) at once; the best of them, (3,)."""
    residual = coverage_at(poses, points, unit) - target
    loss, damping = (residual**2).sum(1), np.full(len(poses), 1e-2)
    for _ in range(ITERATIONS):
        moved = (poses[:, None] + np.diag(STEP)).reshape(-1, 3)
        shifted = coverage_at(moved, points, unit).reshape(len(poses), 3, -1) - target
        slope = (shifted - residual[:, None]) / STEP[:, None]  # (K, 3, n)
        normal = slope @ slope.transpose(0, 2, 1)
        diagonal = np.einsum("kii->ki", normal)[:, :, None] * np.eye(3) + 1e-9 * np.eye(3)
        pull = np.einsum("kin,kn->ki", slope, residual)
        step = np.linalg.solve(normal + damping[:, None, None] * diagonal, pull[..., None])[..., 0]
        tried = poses - step
        tried_residual = coverage_at(tried, points, unit) - target
        tried_loss = (tried_residual**2).sum(1)
        better = tried_loss < loss
        poses = np.where(better[:, None], tried, poses)
        residual = np.where(better[:, None], tried_residual, residual)
        loss = np.where(better, tried_loss, loss)
        damping = np.where(better, damping / 3, damping * 4)
    best = poses[loss.argmin()]
    return np.array([best[0], best[1], math.remainder(best[2], 2 * math.pi)])
