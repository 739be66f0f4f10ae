"""Pictures for people: grids of frames, written as PNG.

Legend: a frame is (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.errors import BadInput

Frame = NDArray[np.uint8]
GAP = 4
HEADER = 22
PAPER = 255
INK = (40, 40, 40)


def grid(
    rows: Sequence[Sequence[Frame]], path: str | Path, labels: Sequence[str] = (), cell: int = 192
) -> Path:
    """Write `rows` of frames as one PNG, each frame `cell` pixels square, with a label over each column.

    See `sheet`.
    """
    canvas, path = sheet(rows, labels, cell), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(canvas))
    return path


def sheet(rows: Sequence[Sequence[Frame]], labels: Sequence[str], cell: int) -> Frame:
    """`rows` of frames as one picture, each frame `cell` pixels square, with a label over each column.

    Rows may be of unequal length. Frames are enlarged without smoothing, so that pixels stay what they are.
    Raises BadInput when there is nothing to draw or when a frame is not (H, W, 3) uint8.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise BadInput("a grid needs at least one row with at least one frame")
    header = HEADER if labels else 0
    height = header + len(rows) * (cell + GAP) - GAP
    canvas = np.full((height, columns * (cell + GAP) - GAP, 3), PAPER, np.uint8)
    for row, frames in enumerate(rows):
        for column, frame in enumerate(frames):
            top, left = header + row * (cell + GAP), column * (cell + GAP)
            canvas[top : top + cell, left : left + cell] = _fit(frame, cell)
    for column, label in enumerate(labels[:columns]):
        place = (column * (cell + GAP) + 2, HEADER - 7)
        cv2.putText(canvas, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
    return canvas


def encode_png(image: Frame) -> bytes:
    """The PNG file of one RGB image."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise BadInput(f"OpenCV cannot encode an image of shape {image.shape}")
    return bytes(data)


def _fit(frame: Frame, cell: int) -> Frame:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise BadInput(f"a frame must be (H, W, 3) uint8; got {frame.shape} {frame.dtype}")
    smaller = max(frame.shape[:2]) <= cell
    interpolation = cv2.INTER_NEAREST if smaller else cv2.INTER_AREA
    return np.asarray(cv2.resize(frame, (cell, cell), interpolation=interpolation), np.uint8)
