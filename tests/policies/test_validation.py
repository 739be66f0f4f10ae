"""How near a policy comes to demonstrations: a hand-worked distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from sim2real_aug.policies.demonstrations import Demonstrations
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.observation import Observation
from sim2real_aug.policies.validation import SAMPLED_ITEMS, action_errors


class Astray:
    """Demonstrations in which step n is at (n, 0) and goes there; this policy ends up 3 and 4 units beside, and
    twice as far where its frame is white."""

    settings = PolicySettings(horizon=16, n_obs_steps=2, n_action_steps=8)

    def act(self, observation: Observation, generators: Sequence[Generator]) -> Tensor:
        assert len(generators) == len(observation.states) <= SAMPLED_ITEMS
        steps = torch.arange(8)[None, :, None] * torch.tensor([1.0, 0.0])
        white = (observation.frames[:, -1, 0, 0, 0] == 255).float()
        return observation.states[:, -1, None, :2] + steps + (1 + white)[:, None, None] * torch.tensor([3.0, 4.0])


def test_the_error_is_the_distance_to_the_demonstrated_actions() -> None:
    places = np.stack([np.arange(200), np.zeros(200)], axis=1).astype(np.float32)
    frames = np.zeros((200, 1, 1, 3), np.uint8)
    windows = np.arange(100)[:, None] + np.arange(16)
    data = Demonstrations(frames, np.full_like(frames, 255), places, places, None, windows, 2, np.ones(200, bool))
    items = np.arange(100)
    errors = action_errors(Astray(), data, items, items >= 90, seed=0)  # type: ignore[arg-type]
    torch.testing.assert_close(errors, torch.tensor([5.0] * 90 + [10.0] * 10))
