"""The `flat` domain: the classic look of Push-T, white with a green goal, as in the published demonstrations.

Drawn at 512 x 512 and resized bilinearly, as diffusion_policy and gym-pusht do, but by OpenCV instead of
pygame: 0.14/255 mean absolute difference from the published images. Depth is that of a camera far above, with
nominal heights for block and pusher. One painter serves image and labels; only the palette differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import (
    AGENT_RADIUS,
    BAR,
    BLOCK_HEIGHT,
    CAMERA_HEIGHT,
    GOAL_POSE,
    PUSHER_HEIGHT,
    STEM,
    to_window,
)
from sim2real_aug.envs.rendering import REGIONS, Rendering
from sim2real_aug.errors import BadInput

CANVAS = 512
LINE_WIDTH = 4
RIM_WIDTH = 4
WALL_ZONE = 20  # the walls and the block's outline lie this near to the canvas's edge
PARTS = np.vstack([BAR, STEM])

Color = tuple[int, ...]
Box = tuple[slice, slice]


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
    """Draws the classic look. It keeps a canvas and redraws only what changed: use one renderer a thread."""

    def __init__(self) -> None:
        self._canvas = _background(COLORS).copy()
        self._drawn: tuple[Box, ...] = ()

    def image(self, state: ArrayLike, size: int = 96) -> NDArray[np.uint8]:
        """The picture alone, (size, size, 3) uint8 RGB, of a state (5,).

        Raises BadInput for a size below 1.
        """
        if size < 1:
            raise BadInput(f"size must be at least 1 pixel; got {size}")
        background = _background(COLORS)
        for rows, columns in self._drawn:
            self._canvas[rows, columns] = background[rows, columns]
        self._drawn = _paint(self._canvas, np.asarray(state, np.float64), COLORS)
        image = _small_background(size).copy()
        for box in self._drawn:
            _resize_into(image, self._canvas, box)
        return image

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
    for part in np.split(_corners(GOAL_POSE), 2):
        cv2.fillConvexPoly(canvas, part, palette.goal)
    _paint_walls(canvas, palette)
    canvas.setflags(write=False)
    return canvas


@lru_cache(maxsize=8)
def _small_background(size: int) -> NDArray[np.uint8]:
    return cv2.resize(_background(COLORS), (size, size), interpolation=cv2.INTER_LINEAR)


def _paint(canvas: NDArray[np.uint8], state: NDArray[np.float64], palette: Palette) -> tuple[Box, Box]:
    """Draw block and pusher of a state (5,) onto a background, in place; returns where each was drawn."""
    corners = _corners(state[2:])
    bar, stem = corners[:4], corners[4:]
    cv2.fillConvexPoly(canvas, bar, palette.block)
    cv2.fillConvexPoly(canvas, stem, palette.block)
    cv2.polylines(canvas, [bar, stem], True, palette.block_edge, LINE_WIDTH)
    xs, ys = corners[:, 0].tolist(), corners[:, 1].tolist()
    if min(*xs, *ys) < WALL_ZONE or max(*xs, *ys) > CANVAS - WALL_ZONE:
        _paint_walls(canvas, palette)  # they lie over the block
    x, y, radius = round(float(state[0])), round(float(state[1])), int(AGENT_RADIUS)
    cv2.circle(canvas, (x, y), radius, palette.pusher_rim, -1)
    cv2.circle(canvas, (x, y), radius - RIM_WIDTH, palette.pusher, -1)
    block = _box(min(xs), max(xs), min(ys), max(ys), LINE_WIDTH)
    return block, _box(x, x, y, y, radius + 1)


def _paint_walls(canvas: NDArray[np.uint8], palette: Palette) -> None:
    cv2.rectangle(canvas, (5, 5), (506, 506), palette.wall, LINE_WIDTH)


def _corners(pose: ArrayLike) -> NDArray[np.int32]:
    """Corners of bar and stem (8, 2), at whole canvas pixels as the published renderer places them."""
    return np.rint(to_window(PARTS, pose)).astype(np.int32)


def _box(left: int, right: int, top: int, bottom: int, margin: int) -> Box:
    """Rows and columns of the canvas from left, top to right, bottom, with a margin all around."""
    rows = slice(max(top - margin, 0), max(min(bottom + margin + 1, CANVAS), 0))
    return rows, slice(max(left - margin, 0), max(min(right + margin + 1, CANVAS), 0))


def _resize_into(image: NDArray[np.uint8], canvas: NDArray[np.uint8], box: Box) -> None:
    """Bring what was drawn in `box` of the canvas into the small image (size, size, 3), in place.

    `step` pixels of the image see exactly `period` pixels of the canvas, so tiles of that size are resized
    apart to the same values as together. Enlarging looks across tiles: it takes the whole canvas.
    """
    size = len(image)
    tiles = math.gcd(CANVAS, size) if size <= CANVAS else 1
    period, step = CANVAS // tiles, size // tiles
    low = [part.start // period for part in box]
    high = [-(-part.stop // period) for part in box]
    if high[0] <= low[0] or high[1] <= low[1]:  # outside of the window
        return
    rows, columns = (slice(a * period, b * period) for a, b in zip(low, high, strict=True))
    target = image[low[0] * step : high[0] * step, low[1] * step : high[1] * step]
    shape = (target.shape[1], target.shape[0])
    target[:] = cv2.resize(canvas[rows, columns], shape, interpolation=cv2.INTER_LINEAR)
