"""The `flat` domain: the classic look of Push-T, white with a green goal, as in the published demonstrations.

Drawn at 512 x 512 and resized bilinearly, as diffusion_policy and gym-pusht do, but by OpenCV instead of
pygame: 0.14/255 mean absolute difference from the published images. Depth is that of a camera far above, with
nominal heights for block and pusher. One painter serves image and labels; only the palette differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import (
    AGENT_RADIUS,
    BLOCK_HEIGHT,
    CAMERA_HEIGHT,
    GOAL_POSE,
    PUSHER_HEIGHT,
    block_polygons,
)
from sim2real_aug.envs.rendering import REGIONS, Rendering
from sim2real_aug.errors import BadInput

CANVAS = 512
LINE_WIDTH = 4
RIM_WIDTH = 4

Color = tuple[int, ...]


@dataclass(frozen=True)
class Palette:
    """What to paint each thing with: RGB for an image, one index into REGIONS for the labels."""

    table: Color
    goal: Color
    wall: Color
    block: Color
    block_edge: Color
    pusher: Color
    pusher_rim: Color


# LightGreen, LightGray, LightSlateGray and RoyalBlue; the insides of block and pusher are 1.2 times lighter.
COLORS = Palette(
    table=(255, 255, 255),
    goal=(144, 238, 144),
    wall=(211, 211, 211),
    block=(143, 163, 184),
    block_edge=(119, 136, 153),
    pusher=(78, 126, 255),
    pusher_rim=(65, 105, 225),
)
_TABLE, _BLOCK, _GOAL, _PUSHER = ((REGIONS.index(name),) for name in ("table", "block", "goal", "pusher"))
LABELS = Palette(
    table=_TABLE, goal=_GOAL, wall=_TABLE, block=_BLOCK, block_edge=_BLOCK, pusher=_PUSHER, pusher_rim=_PUSHER
)
HEIGHTS = {"table": 0.0, "block": BLOCK_HEIGHT, "goal": 0.0, "pusher": PUSHER_HEIGHT}
DEPTH_OF_LABEL = np.array([CAMERA_HEIGHT - HEIGHTS[name] for name in REGIONS], np.float32)


class FlatRenderer:
    """Draws the classic look. It keeps one scratch canvas: use one renderer a thread."""

    def __init__(self) -> None:
        self._canvas = np.empty((CANVAS, CANVAS, 3), np.uint8)

    def image(self, state: ArrayLike, size: int = 96) -> NDArray[np.uint8]:
        """The picture alone, (size, size, 3) uint8 RGB, of a state (5,).

        Raises BadInput for a size below 1.
        """
        if size < 1:
            raise BadInput(f"size must be at least 1 pixel; got {size}")
        np.copyto(self._canvas, _background(COLORS))
        _paint(self._canvas, np.asarray(state, np.float64), COLORS)
        return cv2.resize(self._canvas, (size, size), interpolation=cv2.INTER_LINEAR)

    def render(self, state: ArrayLike, size: int = 96) -> Rendering:
        """The picture with labels and depth; see `Rendering`. A label is that of the pixel's centre."""
        image = self.image(state, size)
        canvas = _background(LABELS).copy()
        _paint(canvas, np.asarray(state, np.float64), LABELS)
        centres = ((np.arange(size) + 0.5) * CANVAS / size).astype(np.intp)
        labels = canvas[centres[:, None], centres]
        return Rendering(image, labels, DEPTH_OF_LABEL[labels])


@cache
def _background(palette: Palette) -> NDArray[np.uint8]:
    """All that never moves: table, goal and walls; (512, 512) or (512, 512, 3)."""
    channels = len(palette.table)
    canvas = np.empty((CANVAS, CANVAS, channels) if channels > 1 else (CANVAS, CANVAS), np.uint8)
    canvas[:] = palette.table if channels > 1 else palette.table[0]
    for part in _corners(GOAL_POSE):
        cv2.fillConvexPoly(canvas, part, palette.goal)
    _paint_walls(canvas, palette)
    canvas.setflags(write=False)
    return canvas


def _paint(canvas: NDArray[np.uint8], state: NDArray[np.float64], palette: Palette) -> None:
    """Draw block and pusher of a state (5,) onto a background, in place."""
    parts = _corners(state[2:])
    for part in parts:
        cv2.fillConvexPoly(canvas, part, palette.block)
    cv2.polylines(canvas, parts, True, palette.block_edge, LINE_WIDTH)
    if not 20 < parts[0].min() <= parts[0].max() < 492 or not 20 < parts[1].min() <= parts[1].max() < 492:
        _paint_walls(canvas, palette)  # they lie over the block
    centre = (round(float(state[0])), round(float(state[1])))
    cv2.circle(canvas, centre, int(AGENT_RADIUS), palette.pusher_rim, -1)
    cv2.circle(canvas, centre, int(AGENT_RADIUS) - RIM_WIDTH, palette.pusher, -1)


def _paint_walls(canvas: NDArray[np.uint8], palette: Palette) -> None:
    cv2.rectangle(canvas, (5, 5), (506, 506), palette.wall, LINE_WIDTH)


def _corners(pose: ArrayLike) -> list[Any]:
    """Bar and stem, two (4, 2) int32 arrays, at whole canvas pixels as the published renderer places them."""
    return [np.rint(part).astype(np.int32) for part in block_polygons(pose)]
