"""Pictures as arrays and as tensors, and at another size.

Frames are (B, H, W, 3) uint8; images are (B, 3, H, W) float in [0, 1].
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def to_images(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1]."""
    tensor = torch.from_numpy(np.require(frames, requirements=["C", "W"])).to(device)
    return tensor.permute(0, 3, 1, 2).float().contiguous() / 255


def to_frames(images: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8, rounded."""
    scaled = (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def resized(images: Tensor, size: int | tuple[int, ...], mode: str = "bilinear") -> Tensor:
    """(B, C, H, W) at `size`, one number for a square, anti-aliased; bicubic's overshoot is cut off, as in PIL.

    Untouched, bit for bit, where it has that size already.
    """
    wanted = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(images.shape[-2:]) == wanted:
        return images
    changed = F.interpolate(images, wanted, mode=mode, align_corners=False, antialias=True)
    return changed.clamp(0, 1) if mode == "bicubic" else changed
