"""A scripted pusher: picks the straight push that brings the T nearest to the goal, walks there and pushes.

It plans with the model in `pushing`, and goes around the block by the shortest way past its corners. Choices
and targets are noisy, so that episodes differ and hold recoveries from poor pushes.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import AGENT_RADIUS, WINDOW_SIZE, rotation
from sim2real_aug.envs.pushing import DISTANCES, clearance, goal_distance, outline_contacts, predict_pushes
from sim2real_aug.seeding import numpy_generator

Array = NDArray[np.float64]

CHOICE_NOISE = 0.08  # standard deviation of a push's cost, as a share of the present distance from the goal
TARGET_NOISE = 1.0  # of a target while walking, window units
WALKING_COST = 0.015  # per unit of the way to the push
LEAD_WALKING = 45.0  # how far ahead of itself the pusher aims: about 22 units a step
LEAD_PUSHING = 26.0
STAND_OFF = 9.0  # gap to the block before a push
MARGIN = 3.0  # gap to the block on the way
ARRIVED = 3.0
PUSHED = 0.4
PATIENCE = 30  # control steps before a walk or a push is given up
WALL = 22.0  # the pusher's centre stays this far from the window's edge

# Where a way around the block may bend: its convex corners, moved outwards, in the block's frame.
BENDS = np.array([(-82, -22), (82, -22), (82, 52), (37, 142), (-37, 142), (-82, 52)], float)


@dataclass(frozen=True)
class Push:
    """From `start` (2,) by `length` along the unit vector `direction` (2,), window units."""

    start: Array
    direction: Array
    length: float

    @property
    def end(self) -> Array:
        return self.start + self.length * self.direction


class ScriptedPusher:
    """Call it with a state (5,) to get a target (2,) float32. Make a new one for each episode."""

    def __init__(self, *seed: int | str) -> None:
        self._rng = numpy_generator("scripted", *seed)
        self._contacts = outline_contacts()
        self._push: Push | None = None
        self._way: list[Array] = []
        self._steps = 0

    def __call__(self, state: ArrayLike) -> NDArray[np.float32]:
        """The next target for the pusher, within the window."""
        values = np.asarray(state, np.float64)
        agent, pose = values[:2], values[2:]
        self._steps += 1
        if self._push is None or self._done(agent, self._push):
            self._push = self._choose(agent, pose)
            self._way = way_around(agent, self._push.start, pose)
            self._steps = 0
        target = self._walk(agent) if self._way else self._advance(agent, self._push)
        return np.clip(target, 0.0, WINDOW_SIZE).astype(np.float32)

    def _done(self, agent: Array, push: Push) -> bool:
        return self._steps > PATIENCE or (not self._way and bool(np.linalg.norm(agent - push.end) < PUSHED))

    def _walk(self, agent: Array) -> Array:
        while self._way and np.linalg.norm(self._way[0] - agent) < (ARRIVED if len(self._way) == 1 else 14.0):
            self._way.pop(0)
            self._steps = 0
        if not self._way:
            assert self._push is not None
            return self._advance(agent, self._push)
        return _towards(agent, self._way[0], LEAD_WALKING) + self._rng.normal(0.0, TARGET_NOISE, 2)

    def _advance(self, agent: Array, push: Push) -> Array:
        progress = float((agent - push.start) @ push.direction)
        return push.start + min(progress + LEAD_PUSHING, push.length) * push.direction

    def _choose(self, agent: Array, pose: Array) -> Push:
        """The push whose predicted outcome is best, after noise and the way to it."""
        contacts = self._contacts
        turn = rotation(pose[2])
        starts = pose[:2] + (contacts.point + (AGENT_RADIUS + STAND_OFF) * contacts.normal) @ turn.T
        directions = -contacts.normal @ turn.T
        distance = np.nan_to_num(goal_distance(predict_pushes(pose, contacts)), nan=np.inf)
        best = distance.argmin(1)
        now = float(goal_distance(pose))
        cost = distance.min(1) + self._rng.normal(0.0, CHOICE_NOISE * now, len(best))
        cost += WALKING_COST * np.linalg.norm(starts - agent, axis=1)
        ends = starts + (STAND_OFF + DISTANCES[best])[:, None] * directions
        for points in (starts, ends):
            cost[((points < WALL) | (points > WINDOW_SIZE - WALL)).any(1)] += 1000.0
        chosen = int(cost.argmin())
        return Push(starts[chosen], directions[chosen], float(STAND_OFF + DISTANCES[best[chosen]]))


def way_around(agent: Array, goal: Array, pose: Array) -> list[Array]:
    """Points (2,) to pass, `goal` last, on the shortest way that keeps clear of the block.

    Straight to `goal` when there is none.
    """
    turn = rotation(pose[2])
    bends = pose[:2] + BENDS @ turn.T
    bends = bends[((bends > WALL) & (bends < WINDOW_SIZE - WALL)).all(1)]
    nodes = np.vstack([agent, bends, goal])
    local = (nodes - pose[:2]) @ turn
    shares = np.linspace(0.0, 1.0, 24)[:, None]
    # A pusher that stands too near already may leave, but not come nearer.
    gap = min(float(clearance(local[0])) - 0.5, AGENT_RADIUS + MARGIN)
    needed = np.where(np.arange(len(nodes)) == 0, gap, AGENT_RADIUS + MARGIN)
    heap: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
    seen: set[int] = set()
    while heap:
        length, at, path = heapq.heappop(heap)
        if at in seen:
            continue
        seen.add(at)
        if at == len(nodes) - 1:
            return [nodes[index] for index in (*path[1:], at)]
        for to in set(range(len(nodes))) - seen:
            line = local[at] + shares * (local[to] - local[at])
            if clearance(line).min() >= needed[at]:
                step = float(np.linalg.norm(nodes[to] - nodes[at]))
                heapq.heappush(heap, (length + step, to, (*path, at)))
    return [goal]


def _towards(agent: Array, target: Array, lead: float) -> Array:
    """The point on the way to `target`, at most `lead` ahead of the pusher."""
    gap = target - agent
    return agent + gap * min(1.0, lead / max(float(np.linalg.norm(gap)), 1e-9))
