"""Two views of one pinhole camera: its photo, and the top-down frame that the photo is rectified to.

Rectifying a photo of a plane gives what a camera in the same place sees that looks straight down with its lens
shifted: a point at height z lies, seen from the camera at (x, y, height), over the table's point
c + (p - c) * height / (height - z). So frames are drawn in the rectified view without resampling.

Legend: points (n, 3) = window x, y and height above the table, window units; pixels (n, 2), (0, 0) the outer
corner of the first pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.geometry import WINDOW_SIZE
from sim2real_aug.envs.solids import to_world

Points = NDArray[np.float64]

UP = np.array([0.0, 1.0, 0.0])  # of a picture, in the world: away from the workspace's lower edge
FULL_FRAME = 36.0  # mm: width of the film that focal lengths are given for
WORKSPACE = np.array(
    [(0, 0, 0), (WINDOW_SIZE, 0, 0), (WINDOW_SIZE, WINDOW_SIZE, 0), (0, WINDOW_SIZE, 0)], float
)


@dataclass(frozen=True)
class Film:
    """A picture as a part of a larger film that the optical axis meets in the middle.

    size: the whole film, width and height in pixels; offset: of the picture's first pixel; fov: of the film's
    width, degrees.
    """

    size: tuple[int, int]
    offset: tuple[int, int]
    fov: float


@dataclass(frozen=True)
class RectifiedView:
    """The top-down frame of `size` pixels a side; `centre` (x, y) and `height` are the camera's."""

    centre: tuple[float, float]
    height: float
    size: int

    @classmethod
    def of(cls, position: tuple[float, float, float], size: int) -> RectifiedView:
        """The camera's place is moved to the nearest half pixel, so that the film's middle can be one.

        That shifts a thing of height h by h / (height - h) quarters of a pixel at most: far below one.
        """
        half = WINDOW_SIZE / size / 2
        x, y, height = position
        return cls((round(x / half) * half, round(y / half) * half), height, size)

    @property
    def film(self) -> Film:
        doubled = [round(2 * c * self.size / WINDOW_SIZE) for c in self.centre]
        sizes = [max(d, 2 * self.size - d) for d in doubled]
        offsets = [(size - d) // 2 for size, d in zip(sizes, doubled, strict=True)]
        half_width = sizes[0] / 2 * WINDOW_SIZE / self.size
        fov = 2 * math.degrees(math.atan(half_width / self.height))
        return Film((sizes[0], sizes[1]), (offsets[0], offsets[1]), fov)

    def project(self, points: Points) -> Points:
        """Pixels (n, 2) at which the frame shows `points` (n, 3)."""
        centre = np.array(self.centre)
        spread = self.height / (self.height - points[:, 2:])
        return (centre + (points[:, :2] - centre) * spread) * (self.size / WINDOW_SIZE)

    def rays(self) -> tuple[Points, Points]:
        """Origin (3,) and unit directions (size * size, 3) through the pixels' centres, row by row, in the world."""
        axis = (np.arange(self.size) + 0.5) * (WINDOW_SIZE / self.size)
        x, y = np.meshgrid(axis, axis)
        origin = to_world((*self.centre, self.height))
        towards = to_world(np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], -1)) - origin
        return origin, towards / np.linalg.norm(towards, axis=1, keepdims=True)


@dataclass(frozen=True)
class PhotoView:
    """The camera's own picture: at `position`, looking at the table's point `look_at`, of width x height pixels.

    focal_length: mm, as on a full-frame camera (film 36 mm wide).
    """

    position: tuple[float, float, float]
    look_at: tuple[float, float]
    focal_length: float
    width: int
    height: int

    @property
    def film(self) -> Film:
        fov = 2 * math.degrees(math.atan(FULL_FRAME / 2 / self.focal_length))
        return Film((self.width, self.height), (0, 0), fov)

    def project(self, points: Points) -> Points:
        """Pixels (n, 2) at which the photo shows `points` (n, 3)."""
        origin = to_world(self.position)
        forward = to_world((*self.look_at, 0.0)) - origin
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, UP)
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        seen = (to_world(points) - origin) @ np.stack([right, down, forward], -1)
        pixels = seen[:, :2] / seen[:, 2:] * (self.width * self.focal_length / FULL_FRAME)
        return pixels + np.array([self.width / 2, self.height / 2])

    @property
    def corners(self) -> NDArray[np.float32]:
        """The workspace's corners (4, 2), clockwise from its top left, as `photos.yaml` wants them."""
        return self.project(WORKSPACE).astype(np.float32)
