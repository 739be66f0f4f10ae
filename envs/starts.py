"""Where episodes start: ranges from which agent and block are drawn, shipped by name in configs/start.

    env = PushTEnv(start="near_goal")

Legend: state = (agent x, agent y, block x, block y, angle), window units 0..512 and radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim2real_aug.envs.clearance import clearance
from sim2real_aug.envs.geometry import AGENT_RADIUS, WINDOW_SIZE, block_polygons, rotation
from sim2real_aug.errors import BadInput

Range = tuple[float, float]
State = tuple[float, float, float, float, float]

WALL = 7.0  # the walls' inner side, from each edge of the window
MOST_DRAWS = 1000  # of one start, before the ranges are blamed


def _is_range(value: object, least: float, most: float, whole: bool) -> bool:
    if not isinstance(value, Sequence) or len(value) != 2:
        return False
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) != 2 or (whole and any(v != int(v) for v in numbers)):
        return False
    return least <= numbers[0] < numbers[1] <= most


@dataclass(frozen=True)
class StartDistribution:
    """Ranges (low, high): positions are whole numbers, high left out, as gym-pusht draws them; angle is uniform.

    legacy: as gym-pusht places them, seed for seed: the block turns about its centre of gravity after it was
    put down, and may overlap pusher and walls, which part in the first steps. Otherwise the block lies as
    drawn, and a start is drawn again until block, pusher and walls are clear of one another.

    Raises BadInput that lists every range that is wrong.
    """

    agent_x: Range = (50, 450)
    agent_y: Range = (50, 450)
    block_x: Range = (100, 400)
    block_y: Range = (100, 400)
    angle: Range = (-math.pi, math.pi)
    legacy: bool = True

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be [low, high], whole numbers within 0..512, low below high; got {value}"
            for name in ("agent_x", "agent_y", "block_x", "block_y")
            if not _is_range(value := getattr(self, name), 0, int(WINDOW_SIZE), whole=True)
        ]
        if not _is_range(self.angle, -2 * math.pi, 2 * math.pi, whole=False):
            wrong.append(
                f"angle must be [low, high], radians within -2 pi..2 pi, low below high; got {self.angle}"
            )
        if wrong:
            raise BadInput("; ".join(wrong))

    def sample(self, rng: np.random.Generator) -> State:
        """A start state; `legacy` ones are placed by `PushTPhysics.reset_legacy`.

        Raises BadInput when the ranges leave no room for a clear start.
        """
        for _ in range(1 if self.legacy else MOST_DRAWS):
            state = self._draw(rng)
            if self.legacy or is_clear(state):
                return state
        raise BadInput(f"start: no clear start in {MOST_DRAWS} draws; widen the ranges")

    def _draw(self, rng: np.random.Generator) -> State:
        # One draw after another in this order: gym-pusht's, on which "seed for seed" rests.
        spans = (self.agent_x, self.agent_y, self.block_x, self.block_y)
        agent_x, agent_y, x, y = (float(rng.integers(int(low), int(high))) for low, high in spans)
        return agent_x, agent_y, x, y, float(rng.uniform(*self.angle))


CLASSIC = StartDistribution()


def load_start(name: str, config_dir: str | Path | None = None) -> StartDistribution:
    """The distribution of configs/start/NAME.yaml, in `config_dir` first.

    Raises BadInput for an unknown name or a wrong range.
    """
    from sim2real_aug.config import compose, settings

    directory = None if config_dir is None else Path(config_dir)
    return settings(StartDistribution, compose("simulate", [f"start={name}"], directory).start)


def is_clear(state: Sequence[float]) -> bool:
    """Whether block and pusher lie within the walls and do not touch."""
    agent, pose = np.asarray(state[:2], float), np.asarray(state[2:], float)
    corners = np.vstack(block_polygons(pose))
    inside = corners.min() > WALL and corners.max() < WINDOW_SIZE - WALL
    reach = WALL + AGENT_RADIUS
    inside = inside and reach < agent.min() and agent.max() < WINDOW_SIZE - reach
    gap = clearance((agent - pose[:2]) @ rotation(float(pose[2])))
    return bool(inside and gap > AGENT_RADIUS)
