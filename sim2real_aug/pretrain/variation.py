"""Drawn frames as other benches, lamps and cameras would have them, for a judge that will meet real photos.

Legend: images (B, 3, H, W) in [0, 1]; labels (B, H, W) int64; depth (B, H, W) in [0, 1]. Each frame has a draw of its
own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.data.regions import REGIONS

CELLS = 5  # a side, of uneven light
SHADED = 16  # cells a side, of what an arm dims
BARS = 3  # at most, for half are invisible: sticks, cables, tape, their shadows
LENGTH, WIDTH = (0.1, 1.2), (0.02, 0.12)  # of a bar, shares of half a side
ZOOM = (0.75, 1.8)
SQUEEZE, SHIFT, TILT = 0.15, 0.3, 0.25  # at most: log of width to height, share of half a side, of the distance


def recolor(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Exchanged colour channels, another gain of each, another gamma."""
    count = len(images)
    channels = torch.from_numpy(np.argsort(rng.random((count, 3)), axis=1)).to(images.device)
    gain = _each(rng.uniform(0.75, 1.2, (count, 3)), images)
    gamma = _each(np.exp(rng.uniform(-0.35, 0.35, count)), images)
    exchanged = images.gather(1, channels[:, :, None, None].expand_as(images))
    return (gain * exchanged.clamp(min=1e-4) ** gamma).clamp(0, 1)


def clutter(images: Tensor, bare: Tensor, rng: np.random.Generator) -> Tensor:
    """Bars of any colour, more or less opaque, where the table is `bare` (B, H, W): benches hold more than the task."""
    for _ in range(BARS):
        shape = _bar(images, rng) * bare[:, None]
        opacity = _each(rng.uniform(-1, 1, len(images)).clip(0), images)
        color = _each(rng.random((len(images), 3)), images)
        images = images + opacity * shape * (color - images)
    return images


def _bar(images: Tensor, rng: np.random.Generator) -> Tensor:
    """How much of each pixel a bar anywhere covers, (B, 1, H, W)."""
    count = len(images)
    turn = rng.uniform(-np.pi, np.pi, count)
    cos, sin = _each(np.cos(turn), images), _each(np.sin(turn), images)
    right, down = (axis - _each(rng.uniform(-1, 1, count), images) for axis in _centres(images))
    length, width = (_each(_log_uniform(rng, *bounds, count), images) for bounds in (LENGTH, WIDTH))
    along, across = (cos * right + sin * down).abs(), (cos * down - sin * right).abs()
    beyond = torch.maximum(along - length / 2, across - width / 2)
    return (0.5 - beyond * images.shape[-1] / 2).clamp(0, 1)


def relight(images: Tensor, pushers: Tensor, rng: np.random.Generator) -> Tensor:
    """Uneven light, and the bench round pusher and arm (B, H, W) darker.

    Real arms dim what they stand over, most where they touch it, and a dark spot beside a pusher is no block.
    """
    count, size = len(images), images.shape[-2:]
    spread = _each(rng.uniform(0, 0.3, count), images)
    cells = torch.from_numpy(rng.standard_normal((count, 1, CELLS, CELLS))).to(images)
    uneven = F.interpolate((spread * cells).exp(), size, mode="bicubic")
    dim = _each(rng.uniform(-0.8, 0.6, count).clip(0), images)
    masks = pushers[:, None].to(images)
    near = F.interpolate(F.adaptive_avg_pool2d(masks, SHADED), size, mode="bilinear")
    return (images * uneven * (1 - dim * (2 * near).clamp(max=1) * (1 - masks))).clamp(0, 1)


def resharpen(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Softer or sharper."""
    amount = _each(rng.uniform(-0.8, 0.8, len(images)), images)
    soft = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    return (images + amount * (images - soft)).clamp(0, 1)


def reframe(
    images: Tensor, labels: Tensor, depth: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """As a camera elsewhere sees them: nearer or farther, turned, tilted. Beside a frame is the frame mirrored."""
    views = torch.from_numpy(draw_views(len(images), rng)).to(images)
    x, y = _centres(images)
    seen = torch.einsum("bij,hwj->bhwi", views, torch.stack([x, y, torch.ones_like(x)], dim=-1))
    places = seen[..., :2] / seen[..., 2:]
    regions = F.one_hot(labels, len(REGIONS)).permute(0, 3, 1, 2).to(images)
    options: dict[str, Any] = {"padding_mode": "reflection", "align_corners": False}
    soft = F.grid_sample(torch.cat([images, regions], dim=1), places, **options)
    moved = F.grid_sample(depth[:, None], places, mode="nearest", **options)
    return soft[:, :3], soft[:, 3:].argmax(1), moved[:, 0]


def draw_views(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Homographies (count, 3, 3) from a place in the new frame to its place in the old one, both in [-1, 1]."""
    turn, zoom = rng.uniform(-np.pi, np.pi, count), _log_uniform(rng, *ZOOM, count)
    squeeze = np.exp(rng.uniform(-SQUEEZE, SQUEEZE, count))
    views = np.zeros((count, 3, 3))
    views[:, 0, :2] = np.stack([np.cos(turn), -np.sin(turn)], axis=1) / (zoom * squeeze)[:, None]
    views[:, 1, :2] = np.stack([np.sin(turn), np.cos(turn)], axis=1) / (zoom / squeeze)[:, None]
    views[:, :2, 2] = rng.uniform(-SHIFT, SHIFT, (count, 2))
    views[:, 2, :2] = rng.uniform(-TILT, TILT, (count, 2))
    views[:, 2, 2] = 1
    return views


def vary(images: Tensor, labels: Tensor, depth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """All of these; two of three frames are seen from where they are."""
    images = clutter(images, labels == REGIONS.index("table"), rng)
    moves = torch.from_numpy(rng.random(len(images)) <= 1 / 3).to(images.device)
    moved = reframe(images[moves], labels[moves], depth[moves], rng)
    images, labels, depth = (
        whole.index_put((moves,), part) for whole, part in zip((images, labels, depth), moved, strict=True)
    )
    pushers = labels == REGIONS.index("pusher")
    return resharpen(relight(recolor(images, rng), pushers, rng), rng), labels, depth


def _centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of each pixel's centre, (H, W) in [-1, 1]."""
    axes = [(torch.arange(side, device=images.device) + 0.5) * 2 / side - 1 for side in images.shape[2:]]
    y, x = torch.meshgrid(*axes, indexing="ij")
    return x.to(images), y.to(images)


def _log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> NDArray[np.float64]:
    return low * (high / low) ** rng.random(count)


def _each(values: NDArray[np.float64], images: Tensor) -> Tensor:
    """One value (B,) or colour (B, 3) for each image, (B, 1 or 3, 1, 1)."""
    return torch.from_numpy(values).to(images).reshape(len(values), -1, 1, 1)
