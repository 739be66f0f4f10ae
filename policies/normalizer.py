"""Min–max scaling of actions and agent positions to [-1, 1], fitted on the training episodes.

Legend: N rows; D dimensions.
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
