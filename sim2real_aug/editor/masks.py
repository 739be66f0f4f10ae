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


def grown(masks: Tensor, radius: int) -> Tensor:
    """Masks (..., S, S), any number of leading dimensions, grown by `radius` pixels, bool."""
    rows = F.max_pool2d(masks.float().reshape(-1, 1, *masks.shape[-2:]), (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(rows, (1, 2 * radius + 1), 1, (0, radius)).reshape(masks.shape) > 0


def blurred(masks: Tensor, deviation: float) -> Tensor:
    """Masks (B, 1, S, S), 0 to 1, after a Gaussian filter of `deviation` pixels."""
    reach = max(1, round(3 * deviation))
    weights = torch.exp(-torch.arange(-reach, reach + 1, device=masks.device).square() / (2 * deviation**2))
    kernel = (weights / weights.sum()).to(masks.dtype)[None, None, None]
    padded = F.pad(masks, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.mT).to(masks.dtype)  # autocast convolves in its own type


def flooded(seeds: Tensor, masks: Tensor) -> Tensor:
    """What of `masks` hangs together with `seeds`, both (..., S, S) bool; corners connect."""
    pairs = zip(_flat(seeds & masks), _flat(masks), strict=True)
    found = np.stack([_parts_with(*pair) for pair in pairs])
    return torch.from_numpy(found).to(masks.device).reshape(masks.shape)


def _flat(masks: Tensor) -> NDArray[np.bool_]:
    return masks.flatten(0, -3).cpu().numpy()


def _parts_with(seeds: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, part = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    wanted = np.zeros(count, bool)
    wanted[part[seeds]] = True
    return wanted[part]
