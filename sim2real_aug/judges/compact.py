"""The compact judge: one small network with depth, segmentation and embedding heads, for CPUs.

A U-Net, deep enough to see an arm whole, reads depth and regions; a strided tower reads the masked picture and pools
mean and spread of its features, so that an embedding says what a region is made of and how it is lit, not where it is.
A part of it is not learned but the region's mean colour itself: what tells scenes apart leaves small shifts of colour
alone, and an editor that was trained against the learned part only let the colour of its table drift.

A convolution knows things by their size in pixels, so every picture is read at SIDE x SIDE, squeezed as frames and
photos are: at 192 it would find none of the blocks that it finds at 96.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from sim2real_aug.data.regions import REGIONS, region_of
from sim2real_aug.errors import BadInput
from sim2real_aug.loading import load_network
from sim2real_aug.pixels import resized

SIDE = 96  # pixels
COLOR_SHARE = 0.2  # of the cosine between two embeddings
COLOR_RATES = (math.pi / 2, 2 * math.pi)  # radians a unit


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU(),
        nn.Conv2d(outputs, outputs, 3, 1, 1), nn.GroupNorm(8, outputs), nn.SiLU(),
    )  # fmt: skip


class CompactJudge(ModelMixin, ConfigMixin):
    """Implements every role of `sim2real_aug.judges.base`, for images of any size."""

    @register_to_config
    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 128, 128), embedding_dim: int = 64) -> None:
        super().__init__()
        self._remembered: deque[tuple[Tensor, int, tuple[Tensor, Tensor]]] = deque(maxlen=3)
        widths = list(channels)
        self.down = nn.ModuleList(
            _block(before, after, 1 if level == 0 else 2)
            for level, (before, after) in enumerate(zip([3, *widths], widths, strict=False))
        )
        self.up = nn.ModuleList(
            _block(low + skip, skip) for low, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], len(REGIONS) + 1, 1)
        self.tower = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, 2, 1), nn.SiLU(), nn.Conv2d(after, after, 3, 1, 1), nn.SiLU()
            )
            for before, after in ((4, 24), (24, 48), (48, 96))
        )
        self.project = nn.Sequential(
            nn.Linear(2 * (3 + 24 + 48 + 96), 128), nn.SiLU(), nn.Linear(128, embedding_dim)
        )

    @property
    def reader(self) -> nn.ModuleList:
        """The network of regions and depth."""
        return nn.ModuleList([self.down, self.up, self.head])

    @property
    def embedder(self) -> nn.ModuleList:
        """The network of embeddings."""
        return nn.ModuleList([self.tower, self.project])

    def _read_once(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Regions and depth, (B, H, W) each, remembered for the last few batches: a scorer asks for them one by one."""
        if torch.is_grad_enabled():
            return self._regions_and_depth(images)
        weights = sum(p._version for p in self.parameters() if not p.is_inference())
        for seen, version, readings in self._remembered:
            like = (seen.shape, seen.dtype, seen.device) == (images.shape, images.dtype, images.device)
            if version == weights and like and torch.equal(seen, images):
                return readings
        readings = self._regions_and_depth(images)
        self._remembered.append((images.clone(), weights, readings))
        return readings

    def _regions_and_depth(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, depth = self.read(images)
        return logits.max(1).indices, depth  # a sixth of the time that argmax takes

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Region logits (B, 4, H, W) and depth (B, H, W), read at SIDE x SIDE."""
        out = resized(self._heads(resized(images, SIDE)), tuple(images.shape[-2:]))
        return out[:, :-1], out[:, -1].sigmoid()

    def _heads(self, images: Tensor) -> Tensor:
        """Logits of the regions and of the depth, (B, 5, SIDE, SIDE)."""
        x, skips = images * 2 - 1, []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        skips.pop()
        for layer in self.up:
            x = layer(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        head: Tensor = self.head(x)
        return head

    def depth(self, images: Tensor) -> Tensor:
        """1 on the table, about 0.5 on the block's top, less on what is higher."""
        return self._read_once(images)[1]

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return self._read_once(images)[0] == REGIONS.index(region_of(phrase))

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        weight = masks[:, None].to(images.dtype)
        inside = resized((images * 2 - 1) * weight, SIDE)  # masked first: nothing from outside is mixed in
        weight = resized(weight, SIDE)
        x = torch.cat([inside, weight], dim=1)
        pooled = _masked_moments(inside / weight.clamp(min=1e-6), weight)
        for layer in self.tower:
            x = layer(x)
            pooled += _masked_moments(x, F.adaptive_avg_pool2d(weight, x.shape[-2:]))
        seen = (weight.flatten(1).sum(1) > 0)[:, None]
        learned = F.normalize(self.project(torch.cat(pooled, dim=1)), dim=1)
        shares = (math.sqrt(1 - COLOR_SHARE) * learned, math.sqrt(COLOR_SHARE) * color_code(pooled[0]))
        return torch.cat(shares, dim=1) * seen


def color_code(colors: Tensor) -> Tensor:
    """Mean colours (B, 3) in [-1, 1] as (B, 12) of unit length, whose cosine falls with their difference.

    Sines and cosines at two rates: the slow one tells black from white, the fast one sees a shift of a few percent.
    """
    angles = torch.cat([rate * colors for rate in COLOR_RATES], dim=1)
    return torch.cat([angles.sin(), angles.cos()], dim=1) / math.sqrt(angles.shape[1])


def _masked_moments(features: Tensor, weight: Tensor) -> list[Tensor]:
    """Mean and standard deviation of each feature over the mask, (B, C) each."""
    total = weight.sum((2, 3)).clamp(min=1e-6)
    mean = (features * weight).sum((2, 3)) / total
    variance = ((features - mean[..., None, None]) ** 2 * weight).sum((2, 3)) / total
    return [mean, (variance + 1e-6).sqrt()]


def load_compact_judge(path: str | Path) -> CompactJudge:
    """Load a folder that `CompactJudge.save_pretrained` wrote. Raises BadInput for anything else."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise BadInput(f"{folder} does not exist; give the folder of a compact judge")
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} is not a compact judge: it has no config.json")
    judge: CompactJudge = load_network(CompactJudge, folder)
    judge.to(memory_format=torch.channels_last)  # three fifths of the time on a CPU
    return judge.requires_grad_(False).eval()
