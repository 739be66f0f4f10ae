"""The shadow that the block casts on a bench: read off its photos, drawn where a source has the block.

Under one light far away a shadow is the block's outline x, moved and softened, that takes a share of the bench's light:
photo = bench (1 - depth x). Over the free pixels w near the block, least squares give

    depth = N / M,    N = sum w (bench - photo) bench x,    M = sum w bench^2 x^2,

and lower the squared error by 2 depth N - depth^2 M. N and M are correlations of the photos with the outline: one
Fourier transform gives them for every offset at once. No pixel and no shadow is darker than DARKEST.

Legend: G benches, P photos of each, B sources, S pixels a side (its width, of a picture that is not square).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sim2real_aug.editor.masks import blurred, grown

SOFTNESS = (0.01, 0.02, 0.04)  # of the side, standard deviations that a shadow's edge may have
FARTHEST = 0.15  # of the side, an offset down or right
DARKEST = 0.9  # share of the light
ARM = 0.08  # of the side: nearer than this to a pusher its arm and that one's shadow are
LEAST_EXPLAINED = 0.25  # of the squared difference from the bench near the block; of less it is something else


@dataclass(frozen=True)
class Shadows:
    """Of one block each. offset: (B, 2) int64, pixels down and right. softness: (B,) int64, index into SOFTNESS.
    depth: (B,) share of the light that is taken, 0 where photos show no shadow."""

    offset: Tensor
    softness: Tensor
    depth: Tensor

    def __getitem__(self, chosen: Tensor) -> Shadows:
        return Shadows(self.offset[chosen], self.softness[chosen], self.depth[chosen])

    def cast(self, blocks: Tensor) -> Tensor:
        """The share of its light that each pixel keeps, (B, 1, S, S), with `blocks` (B, S, S) bool in the way."""
        soft = blocks.float()
        for level in self.softness.unique().tolist():
            same = self.softness == level
            soft[same] = blurred(soft[same][:, None], SOFTNESS[level] * soft.shape[-1])[:, 0]
        rows, columns = map(_places, soft.shape[1:], self.offset.T)
        within = (rows >= 0)[:, :, None] & (columns >= 0)[:, None]
        batch = torch.arange(len(soft), device=soft.device)[:, None, None]
        moved = soft[batch, rows[:, :, None], columns[:, None]] * within
        return (1 - self.depth[:, None, None] * moved)[:, None]


def _places(side: int, offset: Tensor) -> Tensor:
    """Which of `side` pixels each one of (B, side) shows after a move by `offset` (B,); -1: none."""
    places = torch.arange(side, device=offset.device) - offset[:, None]
    return places.where((places >= 0) & (places < side), -1)


def fit_shadows(photos: Tensor, benches: Tensor, blocks: Tensor, pushers: Tensor, covered: Tensor) -> Shadows:
    """The shadow of each of G benches, from photos (G, P, 3, S, S) beside the bench alone in each one's light, the same
    shape.

    blocks, pushers: (G, P, S, S) bool, where they are in the photos; a photo without a block does not count. covered:
    the same, what does not show the bench, with the rim in which a lens mixes the two. A pixel of the bench counts that
    another photo shows as well: of one photo no shadow can be told from the bench.
    """
    side = photos.shape[-1]
    reach = round(FARTHEST * side)
    light, bench = photos.mean(2), benches.mean(2)
    missing = torch.minimum(bench - light, DARKEST * bench)
    near = grown(blocks, reach) & ~grown(pushers, round(ARM * side))
    known = (~covered).sum(1, keepdim=True) >= 2
    weight = (near & ~covered & known).to(light.dtype)
    outlines = blocks.flatten(0, 1)[:, None].to(light.dtype)
    depths, gains = [], []
    for share in SOFTNESS:
        soft = blurred(outlines, share * side)[:, 0].unflatten(0, blocks.shape[:2])
        shared = _correlated(weight * missing * bench, soft, reach)  # N
        whole = _correlated(weight * bench.square(), soft.square(), reach)  # M
        depth = (shared / whole.clamp(min=1e-6)).clamp(0, DARKEST)
        depths.append(depth)
        gains.append(2 * depth * shared - depth.square() * whole)
    gain, best = torch.stack(gains, 1).flatten(1).max(1)
    depth = torch.stack(depths, 1).flatten(1).gather(1, best[:, None])[:, 0]
    explained = gain / (weight * missing.square()).sum((1, 2, 3)).clamp(min=1e-6)
    softness, down, right = torch.unravel_index(best, (len(SOFTNESS), *depths[0].shape[1:]))
    offset = torch.stack([down, right], dim=1) - reach
    return Shadows(offset, softness, depth * (explained >= LEAST_EXPLAINED))


def _correlated(images: Tensor, outlines: Tensor, reach: int) -> Tensor:
    """Sums over photos and pixels of images (G, P, S, S) times outlines (G, P, S, S), moved by up to `reach` pixels:
    (G, D, D)."""
    size = [side + reach for side in images.shape[-2:]]
    spectrum = (torch.fft.rfft2(images, size) * torch.fft.rfft2(outlines, size).conj()).sum(1)
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    return torch.fft.irfft2(spectrum, size)[:, offsets][:, :, offsets]
