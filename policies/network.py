"""The conditional 1-D U-Net that predicts the noise in an action sequence.

Follows real-stanford/diffusion_policy `conditional_unet1d.py` (with `cond_predict_scale`), layer for layer;
its local conditioning is left out, as Push-T does not use it.

Legend: B batch; H horizon (control steps); A action dimensions; C condition dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StepEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step: (B,) -> (B, size), sines first."""

    frequencies: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        half = size // 2
        frequencies = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        angles = steps[:, None].float() * self.frequencies[None]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def conv_block(in_channels: int, out_channels: int, kernel_size: int, groups: int) -> nn.Sequential:
    """Conv1d, GroupNorm, Mish; keeps the length."""
    return nn.Sequential(
        nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
        nn.GroupNorm(groups, out_channels),
        nn.Mish(),
    )


class FilmResidualBlock(nn.Module):
    """Two conv blocks; the condition scales and shifts the channels between them (FiLM, arXiv:1709.07871)."""

    def __init__(
        self, in_channels: int, out_channels: int, cond_dim: int, kernel_size: int, groups: int
    ) -> None:
        super().__init__()
        self.first = conv_block(in_channels, out_channels, kernel_size, groups)
        self.second = conv_block(out_channels, out_channels, kernel_size, groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(cond_dim, 2 * out_channels))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, in_channels, H), condition (B, cond_dim) -> (B, out_channels, H)."""
        scale, bias = self.film(condition)[..., None].chunk(2, dim=1)
        return self.second(scale * self.first(x) + bias) + self.shortcut(x)


class ConditionalUnet1D(nn.Module):
    """Noise prediction (B, H, A) from a noisy action sequence, the diffusion step and the observation.

    `cond_dim` is the size of the observation's feature vector, `step_dim` that of the step embedding.
    """

    def __init__(
        self,
        action_dim: int,
        cond_dim: int,
        step_dim: int = 128,
        down_dims: Sequence[int] = (512, 1024, 2048),
        kernel_size: int = 5,
        groups: int = 8,
    ) -> None:
        super().__init__()
        self.halvings = len(down_dims) - 1
        self.step_encoder = nn.Sequential(
            StepEmbedding(step_dim),
            nn.Linear(step_dim, 4 * step_dim),
            nn.Mish(),
            nn.Linear(4 * step_dim, step_dim),
        )

        def block(in_channels: int, out_channels: int) -> FilmResidualBlock:
            return FilmResidualBlock(in_channels, out_channels, step_dim + cond_dim, kernel_size, groups)

        dims = [action_dim, *down_dims]
        self.down = nn.ModuleList(
            nn.ModuleList([block(narrow, wide), block(wide, wide)]) for narrow, wide in pairwise(dims)
        )
        self.downsample = nn.ModuleList(nn.Conv1d(dim, dim, 3, stride=2, padding=1) for dim in down_dims[:-1])
        self.middle = nn.ModuleList([block(dims[-1], dims[-1]), block(dims[-1], dims[-1])])
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * wide, narrow), block(narrow, narrow)])
            for narrow, wide in reversed(list(pairwise(dims[1:])))
        )
        self.upsample = nn.ModuleList(
            nn.ConvTranspose1d(dim, dim, 4, stride=2, padding=1) for dim in reversed(down_dims[:-1])
        )
        self.head = nn.Sequential(
            conv_block(dims[1], dims[1], kernel_size, groups), nn.Conv1d(dims[1], action_dim, 1)
        )

    def forward(self, actions: Tensor, steps: Tensor, observation: Tensor) -> Tensor:
        """actions (B, H, A), steps (B,) int, observation (B, C) -> predicted noise (B, H, A).

        H must be a multiple of 2 ** (len(down_dims) - 1), so that the skips line up.
        """
        condition = torch.cat([self.step_encoder(steps), observation], dim=-1)
        x = actions.transpose(1, 2)
        skips: list[Tensor] = []
        for index, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            skips.append(x)
            if index < self.halvings:
                x = self.downsample[index](x)
        for block in self.middle:
            x = block(x, condition)
        # The first level's skip stays unused, as in the original: its last up stage ends one level short.
        for index, blocks in enumerate(self.up):
            x = torch.cat([x, skips.pop()], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            x = self.upsample[index](x)
        return self.head(x).transpose(1, 2)
