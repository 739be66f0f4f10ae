"""Episodes as animations, drawn from their states in any domain.

Legend: T frames shown, H W pixels; frames (T, H, W, 3) uint8 RGB; states (steps + 1, 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sim2real_aug.envs.rendering import Renderer
from sim2real_aug.report.pictures import GAP, HEADER, INK, PAPER

STRIDE = 4  # control steps from one frame to the next
MILLISECONDS = 100 * STRIDE // 2  # a frame stays: twice the robot's speed
SIDE = 192


def animate(columns: Mapping[str, tuple[Renderer, NDArray[np.float64]]], path: Path) -> Path:
    """Write an animated WebP of episodes side by side, each (renderer, states) under its name.

    Every fourth step is drawn; an episode that is over stays at its end.
    """
    drawn = [
        [renderer.image(states[step], SIDE) for step in _steps(len(states))]
        for renderer, states in columns.values()
    ]
    length = max(map(len, drawn))
    frames = [
        _row([images[min(index, len(images) - 1)] for images in drawn], list(columns))
        for index in range(length)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, quality=80)
    return path


def _steps(states: int) -> list[int]:
    """Every fourth, the last one too."""
    return [*range(0, states - 1, STRIDE), states - 1]


def _row(images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> NDArray[np.uint8]:
    width = len(images) * (SIDE + GAP) - GAP
    canvas = np.full((HEADER + SIDE, width, 3), PAPER, np.uint8)
    for column, (image, name) in enumerate(zip(images, names, strict=True)):
        left = column * (SIDE + GAP)
        canvas[HEADER:, left : left + SIDE] = image
        cv2.putText(canvas, name, (left + 2, HEADER - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return canvas
