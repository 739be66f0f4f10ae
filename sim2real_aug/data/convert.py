"""Copying a replay buffer from one storage to another: zarr format 2 or 3, folder or zip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sim2real_aug.data.replay_buffer import ReplayBuffer, to_uint8
from sim2real_aug.data.stores import (
    create_array,
    create_group,
    is_url,
    pack,
    partial_folder,
    reading,
    refuse_existing,
    remove_store,
    time_chunk,
    writable,
)
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import progress


def convert(
    source: str | Path,
    target: str | Path,
    zarr_format: int | None = None,
    as_uint8: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Copy the store at `source` to `target` (a .zip, else a folder), one chunk in memory at a time.

    zarr_format: 2 or 3, the source's own when None. as_uint8: store float frames as uint8, a quarter of the
    size. Everything else keeps its values and dtype, including all of meta/ and every attribute. Nothing
    appears at `target` before the copy is complete. Raises BadInput for a bad source or existing target.
    """
    if is_url(target):
        raise BadInput(f"{target} is a URL; stores are written to the local disk only")
    destination, folder = Path(target), partial_folder(target)
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
    arrays = {f"data/{name}": buffer.array(name) for name in buffer.names}
    arrays |= {f"meta/{name}": array for name, array in buffer.group["meta"].arrays()}
    with progress("convert", sum(array.shape[0] for array in arrays.values()), unit="rows") as bar:
        for path, array in sorted(arrays.items()):
            is_image = path.removeprefix("data/") in buffer.image_names
            for rows in _copy(array, root, path, as_uint8 and is_image):
                bar.advance(rows)
    pack(folder, destination)
    return {
        "path": str(target),
        "zarr_format": version,
        "frames": buffer.n_frames,
        "episodes": buffer.n_episodes,
        "arrays": sorted(arrays),
    }


def _copy(array: zarr.Array, root: zarr.Group, path: str, as_uint8: bool) -> Iterator[int]:
    """Copy one array chunk by chunk, yielding the number of rows of each."""
    group, name = root.require_group(path.rsplit("/", 1)[0]), path.rsplit("/", 1)[1]
    dtype = np.dtype(np.uint8) if as_uint8 else array.dtype
    step = time_chunk(array)
    copy = writable(create_array(group, name, array.shape, dtype, step))
    copy.attrs.update(dict(array.attrs))
    for start in range(0, array.shape[0], step):
        place = f"{path} [{start}:{start + step}]"
        with reading(place):
            rows = np.asarray(array[start : start + step])
        copy[start : start + len(rows)] = to_uint8(rows, place) if as_uint8 else rows
        yield len(rows)
