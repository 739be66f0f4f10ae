"""Ways around the block, for a pusher that must not touch it: shortest paths past its corners.

Everything is worked out in the block's frame, where the corners to pass and the places to push from stand
still, so that only the way's first stretch has to be looked at anew when the block has moved.

Legend: B bends, K places to go to, n points; window units.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.clearance import clearance, stretch_clearance
from sim2real_aug.envs.geometry import AGENT_RADIUS, WINDOW_SIZE, rotation

Array = NDArray[np.float64]

MARGIN = 4.0  # gap to the block on the way
WALL = 22.0  # the pusher's centre stays this far from the window's edge

# Where a way may bend: the block's convex corners, moved outwards, in its frame.
BENDS = np.array([(-84, -24), (84, -24), (84, 54), (39, 144), (-39, 144), (-84, 54)], float)


@dataclass(frozen=True)
class Routes:
    """The ways from one place of the pusher to all of `places`.

    places: (K, 2) in the block's frame; length: (K,) of the shortest way, inf where there is none.
    """

    places: Array
    length: Array
    _via: NDArray[np.intp]  # (K,) the bend before each place, B where the way is straight
    _before: NDArray[np.intp]  # (B,) the bend before each bend

    def bends(self, place: int) -> Array:
        """The corners (n, 2), n >= 0, block's frame, that the way to `place` goes by."""
        passed: list[int] = []
        at = int(self._via[place])
        while at < len(BENDS) and at not in passed:
            passed.insert(0, at)
            at = int(self._before[at])
        return BENDS[passed]


class RoadMap:
    """Ways to `places` (K, 2), block's frame, from anywhere."""

    def __init__(self, places: Array) -> None:
        self.places = places
        self._between = _stretches(BENDS[:, None], BENDS[None])
        self._last = _stretches(BENDS[:, None], places[None])

    def routes(self, agent: Array, pose: Array) -> Routes:
        """From `agent` (2,) with the block at `pose` (3,), window units, keeping off the window's edge."""
        turn = rotation(pose[2])
        inside = within_walls(pose[:2] + BENDS @ turn.T)
        local = (agent - pose[:2]) @ turn
        first = np.where(inside, _stretches(local, BENDS), np.inf)
        before = np.full(len(BENDS), len(BENDS))
        for _ in range(len(BENDS) - 1):  # Bellman and Ford
            through = first[:, None] + self._between
            better = inside & (through.min(0) < first - 1e-9)
            before[better] = through.argmin(0)[better]
            first[better] = through.min(0)[better]
        options = np.vstack([first[:, None] + self._last, _stretches(local, self.places)])
        return Routes(self.places, options.min(0), options.argmin(0), before)

    @cached_property
    def between_places(self) -> Array:
        """Lengths (K, K) of the ways from place to place, were there no walls."""
        through = self._between.copy()
        for bend in range(len(BENDS)):  # Floyd and Warshall
            through = np.minimum(through, through[:, bend, None] + through[bend])
        around = (self._last.T[:, :, None] + through).min(1)
        around = (around[:, :, None] + self._last).min(1)
        return np.minimum(around, _stretches(self.places[:, None], self.places[None]))


def within_walls(points: Array) -> NDArray[np.bool_]:
    """Whether the pusher may stand at points (..., 2), window units."""
    return np.all((points > WALL) & (points < WINDOW_SIZE - WALL), axis=-1)


def _stretches(a: Array, b: Array) -> Array:
    """Length of each straight stretch from a (..., 2) to b (..., 2), block's frame; inf where the block is
    in the way.

    A pusher that stands too near already may leave, but not come nearer.
    """
    needed = np.minimum(AGENT_RADIUS + MARGIN, np.minimum(clearance(a), clearance(b)) - 0.5)
    clear = stretch_clearance(a, b) >= needed
    return np.where(clear, np.linalg.norm(b - a, axis=-1), np.inf)
