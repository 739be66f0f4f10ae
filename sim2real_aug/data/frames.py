"""Frames as uint8: what a user passes, and what a store holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.errors import BadInput


def as_frames(frames: Any, name: str = "frames") -> NDArray[np.uint8]:
    """An array or a list of pictures as frames (N, H, W, 3). Raises BadInput for others than uint8, and for none."""
    try:
        array = np.asarray(frames)
    except ValueError as error:
        raise BadInput(f"{name} must be (N, H, W, 3) uint8, all of one size") from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        got = f"{array.shape} {array.dtype}"
        raise BadInput(f"{name} must be (N, H, W, 3) uint8 in 0..255, N at least 1; got {got}")
    return array


def to_uint8(frames: NDArray[Any], place: str) -> NDArray[np.uint8]:
    """Frames in the stored dtype (uint8, or float in 0..255) as uint8; `place` is for the error message."""
    if frames.dtype == np.uint8:
        return frames
    out = np.empty(frames.shape, np.uint8)
    for target, frame in zip(out, frames, strict=True):  # one frame at a time: no second float chunk
        if not (frame.min() >= 0 and frame.max() <= 255):  # written so that NaN fails
            raise BadInput(
                f"{place} holds NaN or values outside 0..255 ({frame.min()} to {frame.max()}); frames are "
                "uint8, or float in 0..255"
            )
        np.copyto(target, np.rint(frame), casting="unsafe")
    return out
