"""The robot's arm as photos show it, drawn where a source has the pusher alone.

An arm enters a picture at its edge and ends in the pusher. A source's arm is that of the photo whose pusher stands
nearest, moved so that its end is there: near by, an arm has the same direction, length and light. What the photo's
edge cuts off goes on along the arm.

Legend: G benches, P photos of each, N = G * P photos, B sources, S pixels a side (rows and columns may differ);
places are (row, column) of pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.editor.masks import blurred, flooded

SHORTEST = 0.12  # of the side: what ends nearer to where it enters the picture is a pusher beside the edge
END = 0.03  # of the side: this much of an arm is its end
WHOLE = 0.6  # of the usual width: an arm of less is cut off along a side of its photo
MOST = 0.5  # of the photos with a pusher: with fewer arms they are something else, and none is drawn


@dataclass(frozen=True)
class Outlines:
    """What N masks show that comes in at the picture's edge.

    masks: (N, S, S) bool. ends: (N, 2), the middle of what is farthest from there. axes: (N, 2), unit vectors from the
    end to the edge. width: (N,), mean, in pixels. long: (N,) bool, whether it is an arm.
    """

    masks: Tensor
    ends: Tensor
    axes: Tensor
    width: Tensor
    long: Tensor


@dataclass(frozen=True)
class Arms:
    """Of N photos. pictures: (N, 4, S, S), the photo and the arm's share of each pixel. outlines: of the N arms.
    usable: (N,) bool, whether a source may take it. bench: (N,) its number."""

    pictures: Tensor
    outlines: Outlines
    usable: Tensor
    bench: Tensor

    def over(self, pushers: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The arm in colours, (B, 3, S, S), and its share of each pixel, (B, 1, S, S), over sources whose `pushers`
        are known (B, S, S), on the benches of photos `chosen` (B,). A source that shows an arm itself gets none."""
        size = torch.tensor(pushers.shape[1:], device=pushers.device)
        area, centre = pushers.flatten(1).sum(1), _centres(pushers)
        apart = torch.linalg.vector_norm(self.outlines.ends - centre[:, None], dim=2)
        usable = self.usable & (self.bench == self.bench[chosen][:, None])
        apart, nearest = apart.masked_fill(~usable, torch.inf).min(1)
        axis = self.outlines.axes[nearest][:, None, None]
        end = centre - (area / torch.pi).sqrt()[:, None] * self.outlines.axes[nearest]
        seen = _places(pushers) + (self.outlines.ends[nearest] - end)[:, None, None]
        middle = (size - 1) / 2
        beyond = axis.sign() * (seen - middle) - middle  # the photo's edge on the arm's side
        seen = seen - axis * (beyond / axis.abs().clamp(min=1e-3)).amax(-1, keepdim=True).clamp(min=0)
        grid = ((seen + 0.5) * 2 / size - 1).flip(-1).to(self.pictures.dtype)
        drawn = F.grid_sample(self.pictures[nearest], grid, align_corners=False)
        wanted = apart.isfinite() & (area > 0) & ~outlines_of(pushers).long
        return drawn[:, :3], drawn[:, 3:] * wanted[:, None, None, None]


def read_arms(photos: Tensor, pushers: Tensor, softness: float) -> Arms:
    """The arms in photos (G, P, 3, S, S) whose `pushers`, arms among them, are known (G, P, S, S) bool.

    softness: standard deviation of their edges, in pixels.
    """
    masks = pushers.flatten(0, 1)
    outlines = outlines_of(masks)
    long = outlines.long.unflatten(0, pushers.shape[:2])
    usual = long.sum(1, keepdim=True) > MOST * pushers.flatten(2).any(2).sum(1, keepdim=True)
    width = outlines.width.unflatten(0, pushers.shape[:2])
    whole = width >= WHOLE * width.masked_fill(~long, torch.nan).nanmedian(dim=1, keepdim=True).values
    share = blurred(outlines.masks[:, None].to(photos.dtype), softness)
    bench = torch.arange(len(photos), device=photos.device).repeat_interleave(photos.shape[1])
    return Arms(torch.cat([photos.flatten(0, 1), share], dim=1), outlines, (long & usual & whole).flatten(), bench)


def outlines_of(pushers: Tensor) -> Outlines:
    """What of `pushers` (N, S, S) bool comes in at the edge of its picture."""
    inner = torch.zeros_like(pushers)
    inner[:, 1:-1, 1:-1] = True
    masks = flooded(pushers & ~inner, pushers)
    entry = _centres(masks & ~inner)
    apart = torch.linalg.vector_norm(_places(pushers) - entry[:, None, None], dim=3).masked_fill(~masks, 0)
    side = pushers.shape[2]
    ends = _centres(masks & (apart >= apart.amax((1, 2), keepdim=True) - END * side))
    length = torch.linalg.vector_norm(entry - ends, dim=1)
    axes = (entry - ends) / length.clamp(min=1)[:, None]
    width = masks.flatten(1).sum(1) / length.clamp(min=1)
    return Outlines(masks, ends, axes, width, length > SHORTEST * side)


def _places(masks: Tensor) -> Tensor:
    """(S, S, 2) of the pixels of masks (N, S, S)."""
    steps = [torch.arange(side, dtype=torch.float32, device=masks.device) for side in masks.shape[1:]]
    return torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1)


def _centres(masks: Tensor) -> Tensor:
    """Mean places (N, 2) of masks (N, S, S); 0 of an empty one."""
    weight = masks.to(torch.float32)
    total = (weight[..., None] * _places(masks)).sum((1, 2))
    return total / weight.sum((1, 2)).clamp(min=1)[:, None]
