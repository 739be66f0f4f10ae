"""How much of the goal the block covers: the area of the intersection of two T's over the area of one.

Each T is two rectangles that share only an edge, so the intersection's area is exactly the sum over the four
pairs of rectangles, and each pair is a convex polygon clipped by an upright rectangle in the goal's frame
(Sutherland and Hodgman, 1974). Plain floats: with at most eight corners this is faster than arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sim2real_aug.envs.geometry import BAR, BLOCK_AREA, GOAL_POSE, STEM

Point = tuple[float, float]
Rectangle = tuple[Point, Point]

_CORNERS = tuple([(float(x), float(y)) for x, y in part] for part in (BAR, STEM))
_RECTANGLES: tuple[Rectangle, ...] = tuple(
    ((float(part[:, 0].min()), float(part[:, 1].min())), (float(part[:, 0].max()), float(part[:, 1].max())))
    for part in (BAR, STEM)
)
_REACH = 2 * math.hypot(15.0, 120.0)  # two poses farther apart than this cannot overlap


def coverage(pose: Sequence[float], goal: Sequence[float] = tuple(GOAL_POSE.tolist())) -> float:
    """The share of the goal, 0 to 1, that a block with pose (x, y, angle) covers."""
    dx, dy, turn = pose[0] - goal[0], pose[1] - goal[1], pose[2] - goal[2]
    if dx * dx + dy * dy > _REACH * _REACH:
        return 0.0
    cos, sin = math.cos(goal[2]), math.sin(goal[2])
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    cos, sin = math.cos(turn), math.sin(turn)
    common = 0.0
    for corners in _CORNERS:
        part = [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in corners]
        common += sum(overlap_area(part, rectangle) for rectangle in _RECTANGLES)
    return common / BLOCK_AREA


def overlap_area(polygon: list[Point], rectangle: Rectangle) -> float:
    """Area common to a convex `polygon` and an upright `rectangle` ((x min, y min), (x max, y max))."""
    for axis in (0, 1):
        low, high = rectangle[0][axis], rectangle[1][axis]
        values = [point[axis] for point in polygon]
        if max(values) <= low or min(values) >= high:
            return 0.0
        if min(values) < low:
            polygon = _clip(polygon, axis, low, 1.0)
        if max(values) > high:
            polygon = _clip(polygon, axis, high, -1.0)
    return area(polygon)


def _clip(polygon: list[Point], axis: int, bound: float, sign: float) -> list[Point]:
    """The part of a convex polygon where sign * (coordinate - bound) >= 0."""
    kept: list[Point] = []
    a = polygon[-1]
    depth_a = sign * (a[axis] - bound)
    for b in polygon:
        depth_b = sign * (b[axis] - bound)
        if (depth_a < 0.0) != (depth_b < 0.0):
            t = depth_a / (depth_a - depth_b)
            kept.append((a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])))
        if depth_b >= 0.0:
            kept.append(b)
        a, depth_a = b, depth_b
    return kept


def area(polygon: Sequence[Point]) -> float:
    """Area of a simple polygon, whichever way its corners run (shoelace formula)."""
    total = 0.0
    x0, y0 = polygon[-1] if polygon else (0.0, 0.0)
    for x1, y1 in polygon:
        total += x0 * y1 - x1 * y0
        x0, y0 = x1, y1
    return abs(total) / 2.0
