"""How a target runs along a line: as fast as it may, slower before bends, and to rest at the line's end.

Legend: n corners of a line, window units; speeds in units a control step, accelerations in units a step, each
step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EASE = 0.5  # share of the rest of the line that a step may cover ...
LEAST_SPEED = 0.3  # ... and this much more, so that the target gets there


@dataclass(frozen=True)
class Line:
    """corners: (n, 2), n >= 2; marks: (n,) how far along the line they are; limits: (n - 1,) the speed limit
    on each stretch; passing: (n - 1,) the limit where it ends, 0 for the last."""

    corners: Array
    marks: Array
    limits: Array
    passing: Array

    @property
    def end(self) -> Array:
        """(2,)"""
        return self.corners[-1]


def make_line(corners: Array, limits: Array, bend_speed: float) -> Line:
    """A line whose bends are passed the more slowly the sharper they are, from right angles on at `bend_speed`."""
    stretches = np.diff(corners, axis=0)
    lengths = np.linalg.norm(stretches, axis=1)
    units = stretches / np.maximum(lengths, 1e-9)[:, None]
    straight = (units[1:] * units[:-1]).sum(1).clip(0.0, 1.0)  # cosine of the turn
    slower = np.minimum(limits[1:], limits[:-1])
    passing = bend_speed + (slower - bend_speed) * straight**2
    return Line(corners, np.append(0.0, lengths.cumsum()), limits, np.append(passing, 0.0))


def next_speed(line: Line, at: float, speed: float, acceleration: float) -> float:
    """The next step's speed for a target that is `at` units along the line, after a step at `speed`.

    Braking: steps of v, v - a, v - 2 a, ... down to u cover (v^2 + v a - u^2) / 2 a, which must not be more
    than the distance of the corner that may be passed at u. At the line's end it settles more gently still.
    """
    ahead = line.marks[1:] - at
    on = min(int((ahead <= 1e-9).sum()), len(ahead) - 1)
    half = acceleration / 2
    braking = np.sqrt(half**2 + line.passing[on:] ** 2 + 2 * acceleration * np.maximum(ahead[on:], 0.0)) - half
    left = max(float(ahead[-1]), 0.0)
    settling = EASE * left + LEAST_SPEED
    return min(left, settling, speed + acceleration, float(line.limits[on]), float(braking.min()))


def along(line: Line, at: float) -> Array:
    """The point (2,) that is `at` units along the line."""
    return np.array([np.interp(at, line.marks, line.corners[:, axis]) for axis in range(2)])
