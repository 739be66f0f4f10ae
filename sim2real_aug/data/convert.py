"""Copying a replay buffer from one storage to another: zarr format 2 or 3, folder or zip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sim2real_aug.data.frames import to_uint8
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.stores import (
    copy_folder,
    create_array,
    create_group,
    is_url,
    pack,
    reading,
    refuse_existing,
    remove_store,
    time_chunk,
    writable,
)
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import progress, say


def convert(
    source: str | Path,
    target: str | Path,
    zarr_format: int | None = None,
    as_uint8: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Copy the store at `source` to `target` (a .zip, else a folder), one chunk in memory at a time.

    zarr_format: 2 or 3, the source's own when None. as_uint8: store float frames as uint8, a quarter of the
    size: data/img, rounded as it is whenever it is read, and whatever else looks like frames and loses nothing.
    Everything else keeps its values and dtype, in whatever group it is, and so does every attribute. Nothing
    appears at `target` before the copy is complete. Raises BadInput for a bad source or existing target.
    """
    if is_url(target):
        raise BadInput(f"{target} is a URL; stores are written to the local disk only")
    destination, folder = Path(target), copy_folder(target)
    if not is_url(source) and destination.resolve() == Path(source).resolve():
        raise BadInput(f"{target} is the source itself; choose another path")
    refuse_existing(destination, overwrite)
    refuse_existing(folder, overwrite=True)
    buffer = ReplayBuffer.open(source)
    version = buffer.zarr_format if zarr_format is None else zarr_format
    if version not in (2, 3):
        raise BadInput(f"zarr_format must be 2 or 3; got {version!r}")
    remove_store(folder)
    root = create_group(folder, version)
    root.attrs.update(buffer.attrs)
    frames = _frames(buffer) if as_uint8 else []
    nodes = dict(sorted(buffer.group.members(max_depth=None)))  # a group before what is in it
    arrays = {path: node for path, node in nodes.items() if isinstance(node, zarr.Array)}
    with progress("convert", sum(_length(array) for array in arrays.values()), unit="rows") as bar:
        for path, node in nodes.items():
            if path not in arrays:
                root.require_group(path).attrs.update(dict(node.attrs))
                continue
            for rows in _copy(node, root, path, path in frames):
                bar.advance(rows)
    pack(folder, destination)
    return {
        "path": str(target),
        "zarr_format": version,
        "frames": buffer.n_frames,
        "episodes": buffer.n_episodes,
        "arrays": sorted(arrays),
    }


def _frames(buffer: ReplayBuffer) -> list[str]:
    """The arrays to store as uint8: data/img, and of the others those that hold whole numbers in 0..255 and more than
    0 and 1: an array (N, H, W, 3) may be points in metres. Says which float ones stay as they are."""
    floats = [name for name in buffer.image_names if buffer.array(name).dtype.kind == "f"]
    frames = [name for name in floats if name == "img" or _loses_nothing(buffer, name)]
    if kept := [f"data/{name}" for name in floats if name not in frames]:
        say(f"not frames of whole numbers in 0..255, so not stored as uint8: {', '.join(kept)}")
    return [f"data/{name}" for name in frames]


def _loses_nothing(buffer: ReplayBuffer, name: str) -> bool:
    step, largest = time_chunk(buffer.array(name)), 0.0
    for start in range(0, buffer.n_frames, step):
        rows = buffer.read(name, start, start + step)
        if not ((rows >= 0) & (rows <= 255) & (rows == np.rint(rows))).all():  # NaN is none of it
            return False
        largest = max(largest, float(rows.max()))
    return largest > 1


def _length(array: zarr.Array) -> int:
    return int(array.shape[0]) if array.shape else 1


def _copy(array: zarr.Array, root: zarr.Group, path: str, as_uint8: bool) -> Iterator[int]:
    """Copy one array chunk by chunk, yielding the number of rows of each."""
    folder, _, name = path.rpartition("/")
    group = root.require_group(folder) if folder else root
    dtype = np.dtype(np.uint8) if as_uint8 else array.dtype
    step = time_chunk(array)
    copy = writable(create_array(group, name, array.shape, dtype, step))
    copy.attrs.update(dict(array.attrs))
    for start in range(0, _length(array), step):
        stop = min(start + step, _length(array))
        part = slice(start, stop) if array.shape else ...  # a scalar has no rows
        place = f"{path} [{start}:{stop}]"
        with reading(place):
            rows = np.asarray(array[part])
        copy[part] = to_uint8(rows, place) if as_uint8 else rows
        yield stop - start
