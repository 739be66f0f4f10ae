"""The expert: plans straight pushes that bring the T to the goal, two ahead, and moves its target smoothly.

It plans with the model in `pushing`, walks by the ways in `routes`, and counts costs in control steps. A plan
is one line, around the block to the push's start and along the push, and the target runs on it (`following`)
like a careful hand: its speed and its acceleration are limited, it slows for bends and stops at the push's
end. The pusher follows its target like a double pole at 10/s, whose lag is two control steps, so that the
limit on the target's speed is also one on its distance from the pusher.

Aim and choice are noisy and each episode has its pace, so that episodes differ and hold recoveries.

Legend: positions in window units 0..512; speeds in units a control step (0.1 s).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.following import Line, along, make_line, next_speed
from sim2real_aug.envs.geometry import AGENT_RADIUS, WINDOW_SIZE, rotation
from sim2real_aug.envs.physics import valid_state
from sim2real_aug.envs.pushing import DISTANCES, Contacts, goal_distance, outline_contacts, predict_pushes
from sim2real_aug.envs.routes import RoadMap, within_walls
from sim2real_aug.seeding import numpy_generator

Array = NDArray[np.float64]

# The human demonstrations (diffusion_policy's published Push-T store, 206 episodes, 25,650 steps): 99th
# percentiles of |target - last target| and of |target - pusher|. The expert exceeds neither.
HUMAN_SPEED_99 = 40.4
HUMAN_LEAD_99 = 73.5

WALK_SPEED = 24.0
PUSH_SPEED = 12.0
BEND_SPEED = 6.0  # where the way turns by a right angle or more
ACCELERATION = 6.0  # units a step, each step
PACES = (0.85, 1.15)  # an episode's share of walking and pushing speed, uniform

STAND_OFF = 9.0  # gap to the block before a push
ARRIVED = 0.4  # a push is over when the pusher is this near its end ...
COARSE = 0.1  # ... or this share of the distance from the goal that it leaves
PATIENCE = 10  # control steps at rest before a push is given up

AIM_NOISE = 2.0  # standard deviation of a push's sideways error while the block is far from the goal
CHOICE_NOISE = 2.0  # of a push's cost, control steps
SWITCH_STEPS = 7.0  # lost between one push and the next
FINE = 1.5  # distance from the goal that needs no more pushes
# Control steps that a distance d > FINE still takes: the first + the second * d. More than it takes on average:
# were it less, a short push followed by a good one would always look better than the good one at once.
STEPS_TO_GO = (25.0, 1.0)
PROGRESS = 0.85  # share of the distance from the goal that a push may leave, for the same reason
LONG = 35.0  # where no push is like that, as in a corner of the window: pushes longer than this
N_AHEAD = 64  # pushes whose next push is looked at
COARSE_DISTANCES = np.array([1, 2, 3, 4, 6, 8, 11, 14, 18, 22, 27, 32, 38, 45, 55, 65, 80], float)
NO_WAY = 1000.0


@dataclass(frozen=True)
class Push:
    """contact: index of where; length: of the pusher's way from touching the block; left: the predicted
    distance of the block from the goal after it."""

    contact: int
    length: float
    left: float


class Expert:
    """Call it with a state (5,) to get a target (2,) float32. Make a new one for each episode."""

    def __init__(self, *seed: int | str) -> None:
        self._rng = numpy_generator("expert", *seed)
        self._pace = float(self._rng.uniform(*PACES))
        self._line: Line | None = None
        self._tolerance = ARRIVED
        self._at = self._speed = 0.0
        self._rested = 0

    def __call__(self, state: ArrayLike) -> NDArray[np.float32]:
        """The next target for the pusher, within the window.

        Raises BadInput when `state` is not five finite numbers.
        """
        values = valid_state(state)
        agent, pose = values[:2], values[2:]
        if self._line is None or self._over(agent, self._line):
            begin = agent if self._line is None else self._line.end
            self._line = self._plan(begin, agent, pose)
            self._at, self._rested = 0.0, 0
        self._speed = next_speed(self._line, self._at, self._speed, ACCELERATION)
        self._at += self._speed
        return along(self._line, self._at).clip(0.0, WINDOW_SIZE).astype(np.float32)

    def _over(self, agent: Array, line: Line) -> bool:
        if self._speed > 0.0:
            return False
        self._rested += 1
        return self._rested > PATIENCE or bool(np.linalg.norm(agent - line.end) < self._tolerance)

    def _plan(self, begin: Array, agent: Array, pose: Array) -> Line:
        """The line from `begin`, where the target is, past the block's corners and along the next push."""
        contacts, roads = _pushes()
        routes = roads.routes(agent, pose)
        push = best_push(pose, routes.length, self._rng)
        self._tolerance = max(ARRIVED, COARSE * push.left)
        turn = rotation(pose[2])
        direction = -turn @ contacts.normal[push.contact]
        sideways = np.array([-direction[1], direction[0]])
        aim = AIM_NOISE * float(self._rng.normal()) * min(1.0, push.left / 40.0)
        start = pose[:2] + turn @ roads.places[push.contact] + aim * sideways
        way = pose[:2] + routes.bends(push.contact) @ turn.T
        corners = np.vstack([begin, way, start, start + (STAND_OFF + push.length) * direction])
        limits = np.full(len(corners) - 1, self._pace * WALK_SPEED)
        limits[-1] = self._pace * PUSH_SPEED
        return make_line(corners, limits, BEND_SPEED)


@cache
def _pushes() -> tuple[Contacts, RoadMap]:
    """All pushes there are, and the ways to their starts."""
    contacts = outline_contacts()
    return contacts, RoadMap(contacts.point + (AGENT_RADIUS + STAND_OFF) * contacts.normal)


def best_push(pose: Array, walk: Array, rng: np.random.Generator) -> Push:
    """The push to make now, for the block at `pose` (3,) and ways of `walk` (K,) to each contact's start.

    Pushes are ranked by the control steps that they take and that their outcome leaves; for the first few of
    them, what is left is that of the best push that can follow.
    """
    contacts, roads = _pushes()
    poses = predict_pushes(pose, contacts)
    left = goal_distance(poses)
    now = _steps(pose, walk, DISTANCES)
    cost = np.nan_to_num(now + steps_to_go(left), nan=np.inf)
    kept = np.isin(DISTANCES, COARSE_DISTANCES) | (np.arange(len(DISTANCES)) == cost.argmin(1)[:, None])
    useful = left < PROGRESS * goal_distance(pose)
    if not (useful & (now < NO_WAY)).any():
        useful = DISTANCES > LONG
    first = np.argsort(np.where(kept & useful, cost, np.inf), axis=None)[:N_AHEAD]
    contact, distance = np.unravel_index(first, cost.shape)
    second = poses[contact, distance]
    after = _steps(second, roads.between_places[contact], COARSE_DISTANCES)
    after = after + steps_to_go(goal_distance(predict_pushes(second, contacts, COARSE_DISTANCES)))
    ahead = now[contact, distance] + np.nan_to_num(after, nan=np.inf).min((1, 2))
    total = np.where(left[contact, distance] < FINE, cost[contact, distance], ahead)
    chosen = int((total + rng.normal(0.0, CHOICE_NOISE, len(total))).argmin())
    picked = contact[chosen], distance[chosen]
    return Push(int(picked[0]), float(DISTANCES[picked[1]]), float(left[picked]))


def _steps(pose: Array, walk: Array, distances: Array) -> Array:
    """Control steps (..., K, S) that a push by each of `distances` (S,) takes with the way there, `walk`
    (..., K), for the block at `pose` (..., 3)."""
    contacts, roads = _pushes()
    cos, sin = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    turned = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)  # row vectors turn by @
    starts = pose[..., None, :2] + roads.places @ turned
    pushed = STAND_OFF + distances
    ends = starts[..., None, :] - pushed[:, None] * (contacts.normal @ turned)[..., None, :]
    steps = SWITCH_STEPS + (walk / WALK_SPEED)[..., None] + pushed / PUSH_SPEED
    blocked = ~(within_walls(starts)[..., None] & within_walls(ends))
    return np.minimum(steps, NO_WAY) + NO_WAY * blocked


def steps_to_go(distance: Array) -> Array:
    """Control steps (...) that a block `distance` (...) from the goal still needs, roughly."""
    base, slope = STEPS_TO_GO
    return np.where(distance < FINE, distance, base + slope * distance)
