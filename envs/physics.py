"""Push-T's physics on pymunk (6.6 or later, and 7): a round pusher follows targets and pushes a T.

The same world as diffusion_policy's and gym-pusht's: top-down, no gravity, damping 0 (a body stops as soon as
nothing pushes it), mass 1, and an inertia that is the bar's, twice. Nothing rubs: those environments set a
friction on the bodies, where pymunk does not read it, so that the shapes' friction stays 0; we keep that.

Legend: state = (agent x, agent y, block x, block y, block angle), window units 0..512 and radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pymunk
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import AGENT_RADIUS, BAR, STEM
from sim2real_aug.errors import BadInput

TIME_STEP = 0.01  # seconds of one sub-step
SUB_STEPS = 10  # a control step is 0.1 s
STIFFNESS = 100.0  # the pusher's acceleration per unit of distance to its target, 1/s^2
DAMPING = 20.0  # and per unit of its velocity, 1/s; critically damped

BLOCK_MASS = 1.0
WALL_RADIUS = 2.0
WALLS = (((5, 506), (5, 5)), ((5, 5), (506, 5)), ((506, 5), (506, 506)), ((5, 506), (506, 506)))


def valid_state(state: ArrayLike, name: str = "state") -> NDArray[np.float64]:
    """`state` as (5,) float64.

    Raises BadInput when it is anything but five finite numbers.
    """
    try:
        values = np.asarray(state, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (5,) or not np.isfinite(values).all():
        raise BadInput(
            f"{name} must be five finite numbers [agent_x, agent_y, block_x, block_y, angle]; got {state!r}"
        )
    return values


class PushTPhysics:
    """One world. `reset` it before the first `step`."""

    def __init__(self) -> None:
        self.n_contact_points = 0
        self.reset((256.0, 400.0, 256.0, 300.0, 0.0))

    def reset(self, state: Sequence[float]) -> None:
        """A fresh world, at rest, in exactly `state`."""
        agent_x, agent_y, x, y, angle = (float(value) for value in state)
        self._build()
        self._agent.position = agent_x, agent_y
        # Angle first: it turns the block about its centre of gravity, which is not its position.
        self._block.angle = angle
        self._block.position = x, y
        self._settle()

    def reset_legacy(self, state: Sequence[float]) -> None:
        """A fresh world, placed as diffusion_policy (`legacy`) and gym-pusht place it.

        Position before angle, so that the block ends elsewhere than asked: it turns about its centre of
        gravity. The published start distribution is this one.
        """
        agent_x, agent_y, x, y, angle = (float(value) for value in state)
        self._build()
        self._agent.position = agent_x, agent_y
        self._block.position = x, y
        self._block.angle = angle
        self._settle()

    def _settle(self) -> None:
        """A sub-step at rest: nothing moves yet, but pymunk finds overlaps and parts them in the next."""
        self._space.step(TIME_STEP)
        self.n_contact_points = 0

    def _build(self) -> None:
        # Anew for each episode: a used space remembers its last contacts and solves the next ones from there.
        space = pymunk.Space()
        space.gravity = 0, 0
        space.damping = 0.0
        space.add(*(pymunk.Segment(space.static_body, a, b, WALL_RADIUS) for a, b in WALLS))

        self._agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        space.add(self._agent, pymunk.Circle(self._agent, AGENT_RADIUS))

        bar, stem = BAR.tolist(), STEM.tolist()
        self._block = pymunk.Body(BLOCK_MASS, 2 * pymunk.moment_for_poly(BLOCK_MASS, bar))
        parts = [pymunk.Poly(self._block, corners) for corners in (bar, stem)]
        self._block.center_of_gravity = (parts[0].center_of_gravity + parts[1].center_of_gravity) / 2
        space.add(self._block, *parts)

        if hasattr(space, "on_collision"):  # pymunk 7
            space.on_collision(0, 0, post_solve=self._count_contacts)
        else:
            space.add_collision_handler(0, 0).post_solve = self._count_contacts
        self._space = space
        self.n_contact_points = 0

    def _count_contacts(self, arbiter: Any, space: Any, data: Any) -> None:
        self.n_contact_points += len(arbiter.contact_point_set.points)

    def step(self, target: Sequence[float]) -> None:
        """One control step of 0.1 s: the pusher goes for `target` (x, y) and pushes what it meets."""
        target_x, target_y = float(target[0]), float(target[1])
        agent, space_step = self._agent, self._space.step
        (x, y), (vx, vy) = agent.position, agent.velocity
        self.n_contact_points = 0
        for _ in range(SUB_STEPS):
            vx += (STIFFNESS * (target_x - x) - DAMPING * vx) * TIME_STEP
            vy += (STIFFNESS * (target_y - y) - DAMPING * vy) * TIME_STEP
            agent.velocity = vx, vy
            space_step(TIME_STEP)
            # What the space does to a kinematic body; following it here spares reading it back ten times.
            x += vx * TIME_STEP
            y += vy * TIME_STEP

    @property
    def agent_position(self) -> NDArray[np.float64]:
        """(2,) window units."""
        return np.array(self._agent.position)

    @property
    def agent_velocity(self) -> NDArray[np.float64]:
        """(2,) window units a second."""
        return np.array(self._agent.velocity)

    @property
    def block_pose(self) -> NDArray[np.float64]:
        """(3,) position and angle; the angle counts full turns."""
        x, y = self._block.position
        return np.array((x, y, self._block.angle))

    @property
    def state(self) -> NDArray[np.float64]:
        """(5,) with the angle in [0, 2 pi)."""
        return np.array((*self._agent.position, *self._block.position, self._block.angle % (2 * math.pi)))

    @property
    def n_contacts(self) -> int:
        """Points of contact in the last control step, averaged over its sub-steps and rounded up.

        diffusion_policy's count. gym-pusht divides by 1000 instead of 10 and so reports 0 or 1.
        """
        return math.ceil(self.n_contact_points / SUB_STEPS)
