"""Landmarks teach the encoder where things are; they are left behind when training ends.

Legend: B batch; O observation steps; C numbers of one observation step (features and state); L landmark numbers.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sim2real_aug.policies.diffusion import DiffusionPolicy
from sim2real_aug.policies.normalizer import MinMaxNormalizer
from sim2real_aug.seeding import derive_seed


class LandmarkHead(nn.Module):
    """A linear reading of the landmarks off each observation step.

    Actions say little of where a block is that the agent doesn't touch, so an encoder that learns from them alone takes
    thousands of steps to see it. Linear, so that the landmarks are in the features and not in the head.
    """

    def __init__(self, observation_dim: int, landmarks: Tensor) -> None:
        """landmarks: (n, L) of the training frames, whose range becomes [-1, 1]."""
        super().__init__()
        self.read = nn.Linear(observation_dim, landmarks.shape[1])
        self.normalizer = MinMaxNormalizer(landmarks.shape[1])
        self.normalizer.fit(landmarks)

    def loss(self, condition: Tensor, landmarks: Tensor) -> Tensor:
        """Mean squared error of the landmarks (B, O, L), read off the global condition (B, O * C)."""
        steps = condition.unflatten(1, (landmarks.shape[1], -1))
        return F.mse_loss(self.read(steps), self.normalizer.normalize(landmarks))


def make_landmark_head(
    policy: DiffusionPolicy, landmarks: NDArray[np.float32] | None, seed: int
) -> LandmarkHead | None:
    """The head for landmarks (n, L) on the policy's device, its weights from the seed; None without landmarks."""
    if landmarks is None:
        return None
    settings = policy.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "landmarks"))
        head = LandmarkHead(settings.features + settings.state_dim, torch.from_numpy(landmarks))
    return head.to(policy.device)
