"""Edits, masks and figures by what they were made of: nothing is made twice, whatever else changed meanwhile.

RUN/cache/images/KEY.png      an edit, or a mask
RUN/cache/scores/KEY.jsonl    one judge's figures, a line {"edit": KEY, metric: value, ...} each
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import sim2real_aug
from sim2real_aug.report.pictures import encode_png

VERSION = sim2real_aug.__version__
REVISION = 1  # between versions: to be raised by a change of what a row, a mask or a measure makes of the same input


def key_of(*parts: object) -> str:
    """Hex, of anything that JSON has, and of the code that makes something of it."""
    content = json.dumps([VERSION, REVISION, *parts], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


class Images:
    """Pictures on disk by key; a crash leaves none half written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key: str) -> bool:
        return self._file(key).exists()

    def write(self, key: str, image: NDArray[np.uint8]) -> None:
        """Keep (H, W, 3) uint8 RGB."""
        temporary = self.folder / f".{key}.{os.getpid()}"
        temporary.write_bytes(encode_png(image))
        temporary.replace(self._file(key))

    def read(self, key: str) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        content = np.frombuffer(self._file(key).read_bytes(), np.uint8)
        return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)

    def write_mask(self, key: str, mask: NDArray[np.bool_]) -> None:
        """Keep (H, W) bool."""
        self.write(key, np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8) * 255)

    def read_mask(self, key: str) -> NDArray[np.bool_]:
        """(H, W) bool."""
        return self.read(key)[..., 0] > 0

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.png"


class Figures:
    """What one judge said of each edit, by the edit's key; appended as it is known. A line that a crash cut short is
    removed: what is appended to it would be lost with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self.known: dict[str, dict[str, float]] = {}
        content = file.read_bytes() if file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(file, len(whole))
        for line in whole.splitlines():
            record = json.loads(line)
            self.known[record.pop("edit")] = record

    def add(self, figures: dict[str, dict[str, float]]) -> None:
        """Keep the figures of some edits."""
        with self.file.open("a") as file:
            file.writelines(json.dumps({"edit": key, **values}) + "\n" for key, values in figures.items())
        self.known |= figures
