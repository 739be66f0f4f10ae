"""A policy in a control loop: one observation in, one action out.

    runner = load_policy(RUN).runner(seed=0)
    observation, over = env.reset(seed=0)[0], False
    while not over:
        observation, _, terminated, truncated, _ = env.step(runner.step(observation))
        over = terminated or truncated

Legend: O observation steps; N actions of a chunk; H W pixels; S state and A action dimensions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sim2real_aug.errors import BadInput
from sim2real_aug.policies.observation import Observation
from sim2real_aug.seeding import torch_generator

if TYPE_CHECKING:
    from sim2real_aug.policies.rollout import Policy

Seen = tuple[NDArray[np.uint8], NDArray[np.float32]]


class PolicyRunner:
    """Keeps the last O observations and the actions that the policy has planned; asks it when these are used up.

    An episode goes as `evaluate`'s of the same seed does.
    """

    def __init__(self, policy: Policy, seed: int = 0) -> None:
        self.policy, self.seed = policy, seed
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode: nothing was seen or planned. The policy's noise follows from `seed`, None: as before."""
        self.seed = self.seed if seed is None else seed
        self._seen: deque[Seen] = deque(maxlen=self.policy.settings.n_obs_steps)
        self._planned: deque[NDArray[np.float32]] = deque()
        self._chunk = 0

    def step(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """The action (A,) to take now, window units.

        observation: "pixels" (H, W, 3) uint8 RGB and "agent_pos" (S,), as PushTEnv's `pixels_agent_pos`; of every
        control step, since the policy sees the last ones. Raises BadInput for frames or positions of another size, and
        for frames that are not uint8 and positions that are not finite.
        """
        seen = self._checked(observation)
        self._seen.extend([seen] * (self._seen.maxlen or 1) if not self._seen else [seen])  # the start is repeated
        if not self._planned:
            frames, states = (torch.from_numpy(np.stack(part))[None] for part in zip(*self._seen, strict=True))
            noise = torch_generator(self.seed, "policy noise", self._chunk)
            self._planned.extend(self.policy.act(Observation(frames, states), [noise])[0].cpu().numpy())
            self._chunk += 1
        return self._planned.popleft()

    def _checked(self, observation: Mapping[str, Any]) -> Seen:
        chosen = self.policy.settings
        wanted = {"pixels": (chosen.image_size, chosen.image_size, 3), "agent_pos": (chosen.state_dim,)}
        parts = {name: np.asarray(observation[name]) for name in wanted if name in observation}
        for name, shape in wanted.items():
            got = parts[name].shape if name in parts else "none"
            if got != shape:
                raise BadInput(f"the observation's {name} must be {shape}, as the policy was trained; got {got}")
        frame = parts["pixels"]
        if frame.dtype != np.uint8:  # not cast: a float frame in 0..1 would become black
            raise BadInput(
                f"the observation's pixels must be uint8 in 0..255; got {frame.dtype} in "
                f"{frame.min():g}..{frame.max():g}"
            )
        if not np.isfinite(parts["agent_pos"]).all():
            raise BadInput(f"the observation's agent_pos must be finite numbers; got {parts['agent_pos'].tolist()}")
        return frame.copy(), parts["agent_pos"].astype(np.float32)
