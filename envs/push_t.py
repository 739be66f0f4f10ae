"""Push-T as a gymnasium environment: push the T-shaped block onto the goal.

    env = gymnasium.make("sim2real_aug.envs:sim2real_aug/PushT-v0", obs_type="pixels", domain="flat")

Action: (2,) float32, the pusher's target position in window units, followed for 0.1 s.
Observation, by `obs_type`: `state` (5,) float64 = agent x, y, block x, y, angle in [0, 2 pi);
`pixels` (image_size, image_size, 3) uint8; `pixels_agent_pos` a dict of both, `agent_pos` (2,) float64.
Reward: coverage / 0.95, at most 1. The episode terminates when coverage exceeds 0.95; the registered
environment truncates after 300 steps. Physics, reward and starts are gym-pusht's, starts also seed for seed.
Departures: `reset_to_state` is exact, and `n_contacts` counts as diffusion_policy does (see `physics`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.coverage import coverage
from sim2real_aug.envs.geometry import GOAL_POSE, WINDOW_SIZE
from sim2real_aug.envs.physics import PushTPhysics, valid_state
from sim2real_aug.envs.rendering import Renderer, make_renderer
from sim2real_aug.envs.starts import CLASSIC, StartDistribution, load_start
from sim2real_aug.errors import BadInput, unknown_name

SUCCESS_THRESHOLD = 0.95
OBS_TYPES = ("state", "pixels", "pixels_agent_pos")


class PushTEnv(gymnasium.Env[Any, NDArray[np.float32]]):
    """Push-T. Nothing is drawn unless the observation has pixels or `render` is called.

    domain: as `make_renderer` takes it; with `randomized` every reset draws a new scene.
    image_size: pixels a side of observations; render_size: of what `render` returns.
    start: where episodes start, a distribution or its name as in configs/start, such as near_goal.
    config_dir: a folder of your own scenes and starts, as --config-dir.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - gymnasium's own form

    def __init__(
        self,
        obs_type: str = "state",
        domain: str = "flat",
        image_size: int = 96,
        render_size: int = 512,
        render_mode: str | None = "rgb_array",
        start: StartDistribution | str = CLASSIC,
        config_dir: str | Path | None = None,
    ) -> None:
        if obs_type not in OBS_TYPES:
            raise unknown_name("obs_type", obs_type, OBS_TYPES)
        if render_mode not in (None, "rgb_array"):
            raise BadInput(f"render_mode must be 'rgb_array' or None; got {render_mode!r}")
        self.obs_type, self.domain = obs_type, domain
        self.image_size, self.render_size = image_size, render_size
        self.render_mode, self.config_dir = render_mode, config_dir
        self.start = load_start(start, config_dir) if isinstance(start, str) else start
        self.action_space = spaces.Box(0.0, WINDOW_SIZE, (2,), np.float32)
        self.observation_space = _observation_space(obs_type, image_size)
        self._physics = PushTPhysics()
        self._renderer: Renderer = make_renderer(domain, config_dir=config_dir)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, at random or where `options={"reset_to_state": [...]}` (five numbers) says.

        Raises BadInput for an unknown option or a state that is not five finite numbers.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            if name != "reset_to_state":
                raise unknown_name("reset option", name, ["reset_to_state"])
        if options.get("reset_to_state") is not None:
            self._physics.reset(valid_state(options["reset_to_state"], "reset_to_state").tolist())
        else:
            place = self._physics.reset_legacy if self.start.legacy else self._physics.reset
            place(self.start.sample(self.np_random))
        if self.domain == "randomized":
            self._renderer = make_renderer(self.domain, int(self.np_random.integers(2**31)))
        covered = self.coverage
        return self._observation(), self._info(covered)

    def step(self, action: ArrayLike) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move towards the target `action` (2,) for 0.1 s.

        Raises BadInput for anything but two finite numbers.
        """
        target = np.asarray(action, np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise BadInput(f"action must be two finite numbers, the target x and y in 0..512; got {action!r}")
        self._physics.step(target.tolist())
        covered = self.coverage
        reward = min(covered / SUCCESS_THRESHOLD, 1.0)
        return self._observation(), reward, covered > SUCCESS_THRESHOLD, False, self._info(covered)

    def render(self) -> NDArray[np.uint8]:
        """The current state as a (render_size, render_size, 3) uint8 image."""
        return self._draw(self.render_size)

    @property
    def state(self) -> NDArray[np.float64]:
        """Agent x, y, block x, y and angle in [0, 2 pi), (5,) float64."""
        return self._physics.state

    @property
    def coverage(self) -> float:
        """The share of the goal that the block covers, 0 to 1."""
        return coverage(self._physics.block_pose.tolist())

    def _draw(self, size: int) -> NDArray[np.uint8]:
        return self._renderer.image(self.state, size)

    def _observation(self) -> Any:
        if self.obs_type == "state":
            return self.state
        pixels = self._draw(self.image_size)
        if self.obs_type == "pixels":
            return pixels
        return {"pixels": pixels, "agent_pos": self._physics.agent_position}

    def _info(self, covered: float) -> dict[str, Any]:
        physics = self._physics
        return {
            "coverage": covered,
            "is_success": covered > SUCCESS_THRESHOLD,
            "block_pose": physics.block_pose,
            "pos_agent": physics.agent_position,
            "vel_agent": physics.agent_velocity,
            "goal_pose": GOAL_POSE.copy(),
            "n_contacts": physics.n_contacts,
        }


def _observation_space(obs_type: str, image_size: int) -> spaces.Space[Any]:
    pixels = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
    if obs_type == "pixels":
        return pixels
    high = np.array([WINDOW_SIZE] * 4 + [2 * math.pi])
    if obs_type == "state":
        return spaces.Box(np.zeros(5), high, dtype=np.float64)
    return spaces.Dict({"pixels": pixels, "agent_pos": spaces.Box(np.zeros(2), high[:2], dtype=np.float64)})
