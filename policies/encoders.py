"""Image encoders: frames to expected keypoint positions.

`compact` is ours, for CPUs; `resnet18` is the published policy's encoder: robomimic's VisualCore with
GroupNorm of C / 16 groups for BatchNorm, whose statistics do not go with an EMA of weights.

Legend: B frames; H W pixels; K keypoints; images float32 (B, 3, H, W), normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS_PER_GROUP = 16


def spatial_softmax(maps: Tensor) -> Tensor:
    """Expected position of each feature map: (B, K, H, W) -> (B, K, 2), as (x, y) in [-1, 1].

    The softmax runs over the map's pixels; the first and last pixel centres are -1 and 1 (Levine et al.,
    arXiv:1504.00702, section 5.1; temperature 1).
    """
    height, width = maps.shape[-2:]
    weights = maps.flatten(2).softmax(-1).unflatten(-1, (height, width))
    x = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
    y = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
    return torch.stack([weights.sum(-2) @ x, weights.sum(-1) @ y], dim=-1)


@dataclass(frozen=True)
class Cells:
    """Where a map's cells look: centre of the first, and how far they are apart, in pixels of the image."""

    first: float
    stride: float

    def keypoints(self, maps: Tensor) -> Tensor:
        """Expected position of each feature map (B, K, H, W), (B, K, 2) as (x, y) in pixels of the image."""
        last = torch.tensor([maps.shape[-1] - 1, maps.shape[-2] - 1], device=maps.device, dtype=maps.dtype)
        return self.first + self.stride * last * (spatial_softmax(maps) + 1) / 2


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


class CompactEncoder(nn.Module):
    """Four convolutions, then keypoints: 84x84 -> 21x21 -> 11x11 maps of 64.

    The first layer cuts the frame into 4x4 patches, chosen for speed: forward and backward of 256 frames take
    72 ms on two idle cores, against 150 ms with 128 channels in the last two layers, 314 ms with a 5x5 stem of
    stride two and 449 ms with an 8x8 stem of stride four and one more layer of full-size maps.
    """

    cells: ClassVar = Cells(1.5, 8)  # patches of 4, then a stride of 2

    def __init__(self, keypoints: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels, kernel, stride, padding in (
            (3, 32, 4, 4, 0),
            (32, 64, 3, 2, 1),
            (64, 64, 3, 1, 1),
            (64, 64, 3, 1, 1),
        ):
            layers.append(nn.Conv2d(in_channels, out_channels, kernel, stride, padding))
            layers += [group_norm(out_channels), nn.ReLU(inplace=True)]
        self.trunk = nn.Sequential(*layers)
        self.maps = nn.Conv2d(64, keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K, 2), pixels from the first one's centre."""
        return self.cells.keypoints(self.maps(self.trunk(images.contiguous(memory_format=torch.channels_last))))


class BasicBlock(nn.Module):
    """The ResNet block of two 3x3 convolutions (He et al., arXiv:1512.03385), with GroupNorm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = group_norm(out_channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), group_norm(out_channels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResNet18Encoder(nn.Module):
    """ResNet-18 without its classifier, from random weights, then keypoints: 84x84 -> 3x3 maps of 512."""

    cells: ClassVar = Cells(0, 32)  # five strides of 2, padded

    def __init__(self, keypoints: int = 32) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), group_norm(64), nn.ReLU(inplace=True)]
        layers: list[nn.Module] = [*stem, nn.MaxPool2d(3, 2, 1)]
        for in_channels, out_channels, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)):
            layers += [
                BasicBlock(in_channels, out_channels, stride),
                BasicBlock(out_channels, out_channels, 1),
            ]
        self.trunk = nn.Sequential(*layers)
        self.maps = nn.Conv2d(512, keypoints, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K, 2), pixels from the first one's centre."""
        return self.cells.keypoints(self.maps(self.trunk(images.contiguous(memory_format=torch.channels_last))))


ENCODERS: dict[str, type[CompactEncoder] | type[ResNet18Encoder]] = {
    "compact": CompactEncoder,
    "resnet18": ResNet18Encoder,
}
