"""Folders of images, whatever made them: a dashboard camera, a simulator of one's own.

Legend: an image is (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.photos import SUFFIXES, is_photo, read_photo
from sim2real_aug.data.stores import refuse_existing
from sim2real_aug.data.writer import building
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.progress import progress

Image = NDArray[np.uint8]
EPISODE, EPISODE_BYTES = 1000, 2**30  # an episode is in memory at once
BLOCK_BYTES = 2**26  # several chunks of a store, of which the last is written twice
# OpenCV names a pattern by its second row.
BAYER = {
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
}


def find_images(folder: Path) -> list[Path]:
    """All images in `folder` and below it, by folder and number; masks of photos and what is hidden are none.

    Raises BadInput where there are none.
    """
    files = [file for file in folder.rglob("*") if is_photo(file) and not _is_in_hidden(file.relative_to(folder))]
    if not files:
        raise BadInput(f"{folder} holds neither a store nor images ({', '.join(SUFFIXES)})")
    return sorted(files, key=_in_order)


def _is_in_hidden(place: Path) -> bool:
    return any(folder.name.startswith(".") for folder in place.parents)


def _in_order(file: Path) -> tuple[Any, ...]:
    """Sorts by folder, then by name."""
    return numbers_apart(file.parent.as_posix()), numbers_apart(file.name), file


def numbers_apart(name: str) -> list[int | str]:
    """Sorts names with the numbers in them as numbers: 2.png before 10.png."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


def check_reading(shorter: int | None, bayer: str | None = None) -> None:
    """Raises BadInput for what `read_image` cannot do."""
    if bayer is not None and bayer not in BAYER:
        raise unknown_name("bayer pattern", bayer, BAYER)
    if shorter is not None and shorter < 1:
        raise BadInput(f"an image's shorter side must be at least 1 pixel; got {shorter}")


def read_image(file: Path, shorter: int | None = None, bayer: str | None = None) -> Image:
    """One image. shorter: pixels of the shorter side that a larger one is shrunk to. bayer: its raw pattern, in BAYER.

    Raises BadInput for a file that is no whole image.
    """
    image = read_photo(file)
    if bayer is not None:
        image = np.asarray(cv2.cvtColor(image[..., 0], BAYER[bayer]), np.uint8)
    return shrunk(image, shorter)


def shrunk(image: Image, shorter: int | None) -> Image:
    """The image with its shorter side at `shorter` pixels, if it is longer than that; areas are averaged."""
    height, width = image.shape[:2]
    scale = (shorter or min(height, width)) / min(height, width)
    if scale >= 1:
        return image
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def with_numbers(
    frames: Iterable[Image], numbers: Mapping[str, NDArray[Any]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """An episode in parts of BLOCK_BYTES: its frames (H, W, 3) as img (n, H, W, 3), and as many rows of its numbers.

    Raises ValueError where frames differ in size.
    """
    start = 0
    for block in _in_blocks(frames):
        stop = start + len(block)
        yield {"img": np.stack(block), **{name: rows[start:stop] for name, rows in numbers.items()}}
        start = stop


def _in_blocks(frames: Iterable[Image]) -> Iterator[list[Image]]:
    block: list[Image] = []
    for frame in frames:
        block.append(frame)
        if len(block) * frame.nbytes >= BLOCK_BYTES:
            yield block
            block = []
    if block:
        yield block


def images_to_store(
    folder: Path,
    target: Path,
    zarr_format: int = 2,
    shorter: int | None = None,
    bayer: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a store of data/img alone, of each folder that holds images an episode or, of many, several.

    The root attribute `image_files` names the image of each frame. Nothing appears at `target` before the store is
    complete. Returns its summary. Raises BadInput for an existing target, and for images that differ in size: a
    store's frames have one.
    """
    check_reading(shorter, bayer)
    refuse_existing(target, overwrite)
    files = find_images(folder)
    first = read_image(files[0], shorter, bayer)
    names = [file.relative_to(folder).as_posix() for file in files]
    with (
        building(target, zarr_format, {"image_files": names}) as writer,
        progress("read images", len(files), unit="images") as bar,
    ):
        for part in _episodes(files, EPISODE_BYTES // first.nbytes):
            frames = np.empty((len(part), *first.shape), np.uint8)
            for frame, file in zip(frames, part, strict=True):
                image = read_image(file, shorter, bayer)
                if image.shape != first.shape:
                    raise BadInput(
                        f"{file} is {_size(image)} pixels and {files[0]} {_size(first)}; frames of a store have one "
                        "size: give each size a folder and a store of its own"
                    )
                frame[:] = image
                bar.advance()
            writer.append_episode({"img": frames})
        return writer.summary(target)


def _episodes(files: list[Path], most: int) -> Iterator[list[Path]]:
    """The images of one folder at a time, EPISODE or `most` of them at most."""
    longest = max(1, min(EPISODE, most))
    for _, group in groupby(files, key=lambda file: file.parent):
        members = list(group)
        yield from (members[start : start + longest] for start in range(0, len(members), longest))


def _size(image: Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
