"""Episodes as animations, drawn from their states in any domain.

Legend: T frames shown, H W pixels; frames (T, H, W, 3) uint8 RGB; states (steps + 1, 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sim2real_aug.envs.rendering import Renderer
from sim2real_aug.report.pictures import sheet

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
        sheet([[images[min(index, len(images) - 1)] for images in drawn]], list(columns), SIDE)
        for index in range(length)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, quality=80)
    return path


def _steps(states: int) -> list[int]:
    """Every fourth, the last one too."""
    return [*range(0, states - 1, STRIDE), states - 1]
