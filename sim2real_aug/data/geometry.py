"""Exact labels and depth of simulated frames.

A store may hold them beside its images, drawn for the same pixels: data/mask (N, H, W) uint8, an index into
REGIONS, and data/depth (N, H, W) float, the distance from the camera's plane in any unit. `simulate
geometry=true` writes them; for other simulated stores the states can be drawn again (`frame_geometry`).

Legend: N frames of H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from hydra.utils import get_method
from numpy.typing import NDArray

from sim2real_aug.data.regions import REGIONS, relative_depth
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import say

MASK, DEPTH = "mask", "depth"


@dataclass(frozen=True)
class FrameGeometry:
    """labels: (N, H, W) uint8, index into REGIONS. depth: (N, H, W) float32, `relative_depth`."""

    labels: NDArray[np.uint8]
    depth: NDArray[np.float32]

    @classmethod
    def measured(cls, labels: NDArray[np.uint8], depth: NDArray[np.floating[Any]]) -> FrameGeometry:
        """From depth in any unit."""
        return cls(labels, relative_depth(depth, labels))

    def resized(self, size: int | tuple[int, int]) -> FrameGeometry:
        """At `size`, (height, width) or the side of a square, each pixel that of the nearest centre."""
        return FrameGeometry(*(_nearest(values, size) for values in (self.labels, self.depth)))


GeometryReader = Callable[[NDArray[np.int64]], FrameGeometry]  # frame numbers (n,) -> n frames' geometry


def find_geometry(buffer: ReplayBuffer, redraw: str | None) -> GeometryReader | None:
    """Exact geometry of the frames of data/img: stored, else drawn again from the states, else None.

    redraw: dotted name of a function ReplayBuffer -> GeometryReader | None, or None. Raises BadInput for a name
    that leads nowhere.
    """
    stored = stored_geometry(buffer)
    if stored is not None or redraw is None:
        return stored
    try:
        function = get_method(redraw)
    except (ImportError, ValueError) as error:
        raise BadInput(f"frame_geometry must be the dotted name of a function; got '{redraw}'") from error
    return cast(GeometryReader | None, function(buffer))


def stored_geometry(buffer: ReplayBuffer) -> GeometryReader | None:
    """Reads data/mask and data/depth of a store; None where it does not hold both, for the pixels of data/img.

    Raises BadInput, when read, for a label that is no index into REGIONS and for depth that is not positive.
    """
    if not {MASK, DEPTH, "img"} <= set(buffer.names):
        return None
    mask, depth, frames = (buffer.array(name) for name in (MASK, DEPTH, "img"))
    if (
        not mask.shape == depth.shape == frames.shape[:3]
        or mask.dtype.kind not in "iu"
        or depth.dtype.kind != "f"
    ):
        say(
            f"{buffer.path}: data/mask is {mask.shape} {mask.dtype}, data/depth {depth.shape} {depth.dtype}; not "
            f"used: {frames.shape[:3]} whole numbers (index into {', '.join(REGIONS)}) and floats would be"
        )
        return None

    def read(numbers: NDArray[np.int64]) -> FrameGeometry:
        labels, distance = (buffer.take(name, numbers) for name in (MASK, DEPTH))
        if labels.min() < 0 or labels.max() >= len(REGIONS):
            raise BadInput(
                f"{buffer.path}: data/mask holds {labels.min()} to {labels.max()}; labels are 0 to "
                f"{len(REGIONS) - 1}: {', '.join(REGIONS)}"
            )
        if not (np.isfinite(distance).all() and (distance > 0).all()):
            raise BadInput(f"{buffer.path}: data/depth must hold distances above 0; got {distance.min()}")
        return FrameGeometry.measured(labels.astype(np.uint8), distance)

    read(np.array([0]))
    return read


def _nearest(values: NDArray[Any], size: int | tuple[int, int]) -> NDArray[Any]:
    rows, columns = (size, size) if isinstance(size, int) else size
    height, width = values.shape[1:]
    return values[:, _centres(height, rows)[:, None], _centres(width, columns)]


def _centres(length: int, size: int) -> NDArray[np.intp]:
    """Which of `length` pixels holds the centre of each of `size` pixels over the same range."""
    return ((np.arange(size) + 0.5) * length / size).astype(np.intp)
