"""What the composition does to outlines: masks made larger, softer, and whole.

Legend: B images, S pixels a side.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SOFT = 0.008  # of the side, standard deviation: edges of what is put into a picture are as soft as a lens draws them


def grown(masks: Tensor, radius: int) -> Tensor:
    """Masks (..., S, S), any number of leading dimensions, grown by `radius` pixels, bool."""
    rows = F.max_pool2d(masks.float().reshape(-1, 1, *masks.shape[-2:]), (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius)).reshape(masks.shape) > 0


def blurred(masks: Tensor, deviation: float) -> Tensor:
    """Masks (B, 1, S, S), 0 to 1, after a Gaussian filter of `deviation` pixels."""
    reach = max(1, round(3 * deviation))
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * deviation**2))
    shares = (weights / weights.sum()).tolist()
    padded = F.pad(masks.float(), (reach, reach, reach, reach), mode="replicate")  # half precision adds up poorly
    return _weighted(_weighted(padded, shares, dim=-1), shares, dim=-2).to(masks.dtype)


def _weighted(images: Tensor, shares: list[float], dim: int) -> Tensor:
    """Sums of neighbours along `dim`: many times as fast as a convolution of one channel on a CPU."""
    length = images.shape[dim] - len(shares) + 1
    total = images.narrow(dim, 0, length) * shares[0]
    for start, share in enumerate(shares[1:], start=1):
        total.add_(images.narrow(dim, start, length), alpha=share)
    return total


def flooded(seeds: Tensor, masks: Tensor) -> Tensor:
    """What of `masks` hangs together with `seeds`, both (..., S, S) bool; corners connect."""
    return _chosen(masks, [np.isin(part, part[seed]) for part, seed in zip(_parts(masks), _flat(seeds), strict=True)])


def largest(masks: Tensor) -> Tensor:
    """The largest of the parts of each mask (..., S, S) bool that hang together."""
    return _chosen(masks, [part == 1 + np.bincount(part.ravel(), minlength=2)[1:].argmax() for part in _parts(masks)])


def _parts(masks: Tensor) -> list[NDArray[np.int32]]:
    """The numbers, from 1 on, of the parts of each mask; 0 where it is empty."""
    return [cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1] for mask in _flat(masks)]


def _flat(masks: Tensor) -> NDArray[np.bool_]:
    return masks.reshape(-1, *masks.shape[-2:]).cpu().numpy()


def _chosen(masks: Tensor, found: list[NDArray[np.bool_]]) -> Tensor:
    """What of each of `masks` was `found`."""
    return torch.from_numpy(np.array(found, bool).reshape(masks.shape)).to(masks.device) & masks
