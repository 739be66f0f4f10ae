"""Scaling of actions, agent positions and frames, fitted on the training episodes.

Legend: N rows; D dimensions; H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONSTANT_RANGE = 1e-4


class MinMaxNormalizer(nn.Module):
    """x * scale + offset, so that each dimension's extremes become -1 and 1; identity before `fit`.

    A dimension whose range is below 1e-4 is only shifted, to 0 (as diffusion_policy's LinearNormalizer).
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(dimensions))
        self.register_buffer("offset", torch.zeros(dimensions))

    def fit(self, values: Tensor) -> None:
        """Set the scale from values (N, D)."""
        low, high = values.amin(0), values.amax(0)
        span = torch.where(high - low < CONSTANT_RANGE, 2.0, high - low)
        self.scale.copy_(2 / span)
        self.offset.copy_(-(low + high) / span)

    def normalize(self, values: Tensor) -> Tensor:
        """(..., D) in the data's units -> (..., D)."""
        return values * self.scale + self.offset

    def unnormalize(self, values: Tensor) -> Tensor:
        """The inverse of `normalize`."""
        return (values - self.offset) / self.scale


class FrameNormalizer(nn.Module):
    """Each colour channel to mean 0 and standard deviation 1 over the training frames; to [-1, 1] before `fit`.

    An encoder learns where things are several times sooner so than on [-1, 1], of which a white table fills one end.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3,), 127.5))
        self.register_buffer("deviation", torch.full((3,), 127.5))

    def fit(self, frames: Tensor) -> None:
        """Set mean and deviation from frames (N, H, W, 3) uint8; a channel without any contrast is only shifted."""
        values = frames.flatten(0, -2).float()
        deviation, mean = torch.std_mean(values, dim=0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation < 1, 1.0, deviation))

    def normalize(self, frames: Tensor) -> Tensor:
        """(..., 3) uint8 -> (..., 3) float32."""
        return (frames - self.mean) / self.deviation
