"""How far points and straight stretches are from the T, in the block's frame, window units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.geometry import BAR, STEM

Array = NDArray[np.float64]


def clearance(points: Array) -> Array:
    """Distance (...) of points (..., 2) of the block's frame from the T, 0 inside."""
    return np.minimum(*(_point_gap(points, part) for part in (BAR, STEM)))


def stretch_clearance(a: Array, b: Array) -> Array:
    """Distance (...) of the straight stretches from a (..., 2) to b (..., 2) from the T, 0 where they meet."""
    return np.minimum(*(_stretch_gap(a, b, part) for part in (BAR, STEM)))


def _point_gap(points: Array, part: Array) -> Array:
    low, high = part.min(0), part.max(0)
    return np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0.0), axis=-1)


def _stretch_gap(a: Array, b: Array, part: Array) -> Array:
    """Distance from the upright rectangle `part` (4, 2): where they do not meet, it is at an end of the
    stretch or at a corner of the rectangle."""
    low, high = part.min(0), part.max(0)
    along = b - a
    with np.errstate(divide="ignore", invalid="ignore"):
        slabs = np.stack([(low - a) / along, (high - a) / along])
    outside = (along == 0) & ((a < low) | (a > high))
    enter = np.where(along == 0, -np.inf, slabs.min(0)).max(-1).clip(0.0)
    leave = np.where(along == 0, np.inf, slabs.max(0)).min(-1).clip(None, 1.0)
    meets = (enter <= leave) & ~outside.any(-1)
    squared = np.maximum((along**2).sum(-1), 1e-12)
    gap = np.minimum(_point_gap(a, part), _point_gap(b, part))
    for corner in part:
        share = (((corner - a) * along).sum(-1) / squared).clip(0.0, 1.0)
        gap = np.minimum(gap, np.linalg.norm(a + share[..., None] * along - corner, axis=-1))
    return np.where(meets, 0.0, gap)
