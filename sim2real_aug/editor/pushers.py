"""What pushes as photos show it, a stick, its shadow and the robot's arm, drawn where a source has the pusher.

A source's pusher is that of the photo whose own stands nearest, moved: near by, a stick leans the same way, an arm has
the same direction, and both the same light. An arm enters the picture at its edge and ends in the pusher; what the
photo's edge cuts off goes on along the arm. A stick without an arm stands, and a camera above the middle of the bench
sees it lean outward by l = k (c - n), c its centre and n the picture's: spread evenly along l it has a variance that is
l^2 / 12 greater along than across, which gives one k for all photos of a bench, and its foot c - l / 2.

Legend: G benches, P photos of each, N = G * P photos, B sources, S pixels a side (rows and columns may differ);
places are (row, column) of pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.editor.masks import SOFT, blurred, flooded, grown, largest

SHORTEST = 0.12  # of the side: what ends nearer to where it enters the picture is a stick beside the edge
END = 0.03  # of the side: this much of an arm is its end
WHOLE = 0.6  # of the usual width of an arm, or area of a stick: what has less is cut off, or something else
MOST = 0.5  # of the photos with a pusher: with more arms the bench is one with an arm
EDGE = 0.01  # of the side: a judge's outline of a stick is too narrow by this
FAINT = 0.07  # share of the light: what takes less is no shadow
DARKEST = 0.8  # share of the light that a shadow takes


@dataclass(frozen=True)
class Outlines:
    """The largest thing that each of N masks shows and that comes in at the picture's edge.

    masks: (N, S, S) bool. ends: (N, 2), the middle of what is farthest from there. axes: (N, 2), unit vectors from the
    end to the edge. width: (N,), mean, in pixels. long: (N,) bool, whether it is an arm.
    """

    masks: Tensor
    ends: Tensor
    axes: Tensor
    width: Tensor
    long: Tensor


@dataclass(frozen=True)
class Moved:
    """colors: (B, 3, S, S). share: (B, 1, S, S) of each pixel that it covers. light: (B, 1, S, S), what its shadow
    leaves of the light. shown: (B,) bool, whether there is one at all."""

    colors: Tensor
    share: Tensor
    light: Tensor
    shown: Tensor


@dataclass(frozen=True)
class Pushers:
    """Of N photos. pictures: (N, 5, S, S), the photo, the pusher's share of each pixel, and that of the light which its
    shadow takes. exposure: (N, 3), what the photo has in light above its bench. places: (N, 2), an arm's end or a
    stick's foot. axes: (N, 2), unit vectors along the arm, 0 without one. usable: (N,) bool, whether a source may take
    it. bench: (N,) its number."""

    pictures: Tensor
    exposure: Tensor
    places: Tensor
    axes: Tensor
    usable: Tensor
    bench: Tensor

    def moved_to(self, pushers: Tensor, chosen: Tensor) -> Moved:
        """Where sources have their `pushers` (B, S, S) bool, in the light of photos `chosen` (B,) and on their benches.

        A source without a pusher, or with an arm of its own, gets none.
        """
        size = torch.tensor(pushers.shape[1:], device=pushers.device)
        area, centre = pushers.flatten(1).sum(1), _centres(pushers)
        apart = torch.linalg.vector_norm(self.places - centre[:, None], dim=2)
        usable = self.usable & (self.bench == self.bench[chosen][:, None])
        apart, nearest = apart.masked_fill(~usable, torch.inf).min(1)
        axis = self.axes[nearest]
        place = centre - (area / torch.pi).sqrt()[:, None] * axis  # an arm's end is the pusher's far side
        seen = _grid(pushers) + (self.places[nearest] - place)[:, None, None]
        middle, axis = (size - 1) / 2, axis[:, None, None]
        beyond = axis.sign() * (seen - middle) - middle  # the photo's edge on the arm's side
        seen = seen - axis * (beyond / axis.abs().clamp(min=1e-3)).amax(-1, keepdim=True).clamp(min=0)
        grid = ((seen + 0.5) * 2 / size - 1).flip(-1).to(self.pictures.dtype)
        drawn = F.grid_sample(self.pictures[nearest], grid, align_corners=False)
        colors = drawn[:, :3] + (self.exposure[chosen] - self.exposure[nearest])[..., None, None]
        shown = apart.isfinite() & (area > 0) & ~outlines_of(pushers).long
        share, dark = (drawn[:, 3:] * shown[:, None, None, None]).split(1, dim=1)
        return Moved(colors.clamp(0, 1), share, 1 - dark, shown)


def read_pushers(
    photos: Tensor, lit: Tensor, exposure: Tensor, sticks: Tensor, regions: Tensor, blocks: Tensor
) -> Pushers:
    """What pushes in photos (G, P, 3, S, S), beside the bench and the block's shadow alone in each one's light, `lit`.

    exposure: (G, P, 3, 1, 1), of each above the bench. Masks (G, P, S, S) bool. sticks: pushers as a judge sees them,
    empty where it saw something else. regions: all that hangs together with them, arms and deep shadows. blocks: where
    the block is.
    """
    count = photos.shape[1]
    arms = outlines_of(regions.flatten(0, 1))
    with_arm = (arms.long.view(-1, count).sum(1) > MOST * regions.flatten(2).any(2).sum(1)).repeat_interleave(count)
    arm = _Pushing(arms.masks, arms.ends, arms.axes, _whole(arms.width, arms.long, count))
    pairs = zip(arm, _sticks(sticks), strict=True)
    masks, places, axes, usable = (torch.where(with_arm.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs)
    share = blurred(masks[:, None].to(photos.dtype), SOFT * photos.shape[-1])
    shadow = _shadows(photos.flatten(0, 1), lit.flatten(0, 1), masks, blocks.flatten(0, 1))
    pictures = torch.cat([photos.flatten(0, 1), share, shadow], dim=1)
    bench = torch.arange(len(photos), device=photos.device).repeat_interleave(count)
    return Pushers(pictures, exposure.flatten(0, 1)[..., 0, 0], places, axes, usable, bench)


class _Pushing(NamedTuple):
    """N arms or sticks, as `Pushers` has them. masks: (N, S, S) bool."""

    masks: Tensor
    places: Tensor
    axes: Tensor
    usable: Tensor


def _sticks(sticks: Tensor) -> _Pushing:
    seen = largest(sticks).flatten(0, 1)
    standing = seen.flatten(1).any(1) & ~(seen & _rim(seen)).flatten(1).any(1)
    usable = _whole(seen.flatten(1).sum(1).float(), standing, sticks.shape[1])
    feet = _feet(seen, usable.view(-1, sticks.shape[1]))
    return _Pushing(grown(seen, round(EDGE * seen.shape[-1])), feet, torch.zeros_like(feet), usable)


def outlines_of(pushers: Tensor) -> Outlines:
    """What of `pushers` (N, S, S) bool comes in at the edge of its picture, the largest of it."""
    masks = largest(flooded(pushers & _rim(pushers), pushers))
    entry = _centres(masks & _rim(pushers))
    apart = torch.linalg.vector_norm(_grid(pushers) - entry[:, None, None], dim=3).masked_fill(~masks, 0)
    side = pushers.shape[2]
    ends = _centres(masks & (apart >= apart.amax((1, 2), keepdim=True) - END * side))
    length = torch.linalg.vector_norm(entry - ends, dim=1)
    axes = (entry - ends) / length.clamp(min=1)[:, None]
    width = masks.flatten(1).sum(1) / length.clamp(min=1)
    return Outlines(masks, ends, axes, width, length > SHORTEST * side)


def _whole(measures: Tensor, counted: Tensor, count: int) -> Tensor:
    """Which of those that are `counted` (N,) measure no less than WHOLE of the median of their bench's, of `count`."""
    usual = measures.masked_fill(~counted, torch.nan).view(-1, count).nanmedian(dim=1).values
    return counted & (measures >= WHOLE * usual.repeat_interleave(count))


def _feet(sticks: Tensor, counted: Tensor) -> Tensor:
    """Where sticks (N, S, S) stand, (N, 2), by how those that are `counted` (G, P) lean."""
    centre = _centres(sticks)
    lean = centre - (torch.tensor(sticks.shape[1:], device=sticks.device) - 1) / 2
    far = torch.linalg.vector_norm(lean, dim=1)
    along = lean / far.clamp(min=1e-6)[:, None]
    across = torch.stack([-along[:, 1], along[:, 0]], dim=1)
    stretch = 12 * (_variance(sticks, centre, along) - _variance(sticks, centre, across))  # l^2
    sums = [(counted * part.view_as(counted)).sum(1) for part in (stretch * far.square(), far.pow(4))]
    k = (sums[0] / sums[1].clamp(min=1e-6)).clamp(min=0).sqrt().repeat_interleave(counted.shape[1])
    return centre - k[:, None] * lean / 2


def _variance(masks: Tensor, centre: Tensor, direction: Tensor) -> Tensor:
    """Of the places of masks (N, S, S) along a direction (N, 2), (N,)."""
    apart = ((_grid(masks) - centre[:, None, None]) * direction[:, None, None]).sum(-1)
    return (apart.square() * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)


def _shadows(photos: Tensor, lit: Tensor, bodies: Tensor, blocks: Tensor) -> Tensor:
    """The share of the light, (N, 1, S, S), that is missing where it hangs together with `bodies` (N, S, S)."""
    side, dark = photos.shape[-1], 0.02  # of black nothing can be missing
    light, bench = photos.mean(1, keepdim=True), lit.mean(1, keepdim=True)
    missing = blurred(1 - (light + dark) / (bench + dark), SOFT * side).clamp(0, DARKEST)
    dim = (missing[:, 0] > FAINT) & ~(bodies | grown(blocks, round(END * side)))
    beside = grown(bodies, round(2 * EDGE * side))
    shadows = flooded(beside, beside | dim) & dim
    return missing * blurred(shadows[:, None].to(photos.dtype), SOFT * side)


def _rim(masks: Tensor) -> Tensor:
    """The outermost pixels of pictures as large as masks (N, S, S): (S, S) bool."""
    rim = torch.ones(masks.shape[1:], dtype=torch.bool, device=masks.device)
    rim[1:-1, 1:-1] = False
    return rim


def _grid(masks: Tensor) -> Tensor:
    """Places (S, S, 2) of the pixels of masks (N, S, S)."""
    steps = [torch.arange(side, dtype=torch.float32, device=masks.device) for side in masks.shape[1:]]
    return torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1)


def _centres(masks: Tensor) -> Tensor:
    """Mean places (N, 2) of masks (N, S, S); 0 of an empty one."""
    weight = masks.to(torch.float32)
    total = (weight[..., None] * _grid(masks)).sum((1, 2))
    return total / weight.sum((1, 2)).clamp(min=1)[:, None]
