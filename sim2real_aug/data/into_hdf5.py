"""A store's frames in a copy of the HDF5 file, in robomimic's layout, that it was made of."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim2real_aug.data.features import camera_of, require_episodes
from sim2real_aug.data.hdf5 import ACTIONS, BLOCK, carried_arrays, numbers_of, opened_demos
from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.data.stores import copy_folder
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import progress, say

if TYPE_CHECKING:
    from h5py import Dataset, Group


def store_to_hdf5(store: str | Path, original: Path, target: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a copy of the file `original` to `target`, with the frames of `store`; returns its summary.

    Frames may be of another size than the original's. Nothing appears at `target` before the copy is complete, in
    which the attribute "augmentation" says how the frames were made.

    Raises BadInput for a store that was not made of such a file or has other demos, and an existing `target` (with
    `overwrite` for one that is no such copy).
    """
    buffer = ReplayBuffer.open(store)
    camera = camera_of(buffer, "hdf5", "an HDF5 file")
    with opened_demos(original) as by_name:
        _refuse_existing(target, overwrite)
        demos, carried = [*by_name.values()], carried_arrays(next(iter(by_name.values())))
        lengths = [len(demo[ACTIONS]) for demo in demos]
        require_episodes(buffer, lengths, (numbers_of(demo, carried) for demo in demos), original)
        unfinished = copy_folder(target)
        try:
            _write(buffer, camera, demos, unfinished)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return {"path": str(target), "camera": camera, "frames": buffer.n_frames, "episodes": buffer.n_episodes}


def _refuse_existing(target: Path, overwrite: bool) -> None:
    """Only what `store_to_hdf5` wrote is ever replaced."""
    import h5py

    if target.exists() and not overwrite:
        raise BadInput(f"{target} exists; choose another path, or --overwrite to replace it")
    if target.exists() and not (target.is_file() and h5py.is_hdf5(target) and _is_copy(target)):
        raise BadInput(f"{target} exists and is no copy with other frames; --overwrite replaces such copies only")


def _is_copy(file: Path) -> bool:
    import h5py

    with h5py.File(file) as opened:
        return ATTRIBUTE in opened.attrs


def _write(buffer: ReplayBuffer, camera: str, demos: Sequence[Group], file: Path) -> None:
    import h5py

    with h5py.File(file, "w") as copy, progress("write demos", len(demos), unit="demos") as bar:
        _copy(demos[0].file, copy, [f"{demo.name}/{camera}" for demo in demos])
        copy.attrs[ATTRIBUTE] = json.dumps(buffer.attrs.get(ATTRIBUTE, {}))
        for number, demo in enumerate(demos):
            _write_frames(buffer, buffer.episode(number), demo[camera], copy)
            bar.advance()
    if f"next_{camera}" in demos[0]:
        say(f"next_{camera} is as it was: a store has the frames of {camera}")


def _copy(source: Group, target: Group, left_out: Collection[str]) -> None:
    """Copy what is in a group, and its attributes, but for what is at `left_out`."""
    from h5py import Group

    target.attrs.update(source.attrs)
    for name, node in source.items():
        if node.name in left_out:
            continue
        if isinstance(node, Group) and any(place.startswith(f"{node.name}/") for place in left_out):
            _copy(node, target.create_group(name), left_out)
        else:
            source.copy(node, target, name)


def _write_frames(buffer: ReplayBuffer, frames: slice, original: Dataset, copy: Group) -> None:
    """In the place of `original`, compressed as it is, a block in memory at a time."""
    shape = (frames.stop - frames.start, *buffer.array("img").shape[1:])
    chunks = True if original.chunks and shape != original.shape else original.chunks
    options = {"compression": original.compression, "compression_opts": original.compression_opts}
    images = copy.create_dataset(original.name, shape, np.uint8, chunks=chunks, **options)
    images.attrs.update(original.attrs)
    for start in range(0, shape[0], BLOCK):
        stop = min(start + BLOCK, shape[0])
        images[start:stop] = buffer.images(frames.start + start, frames.start + stop)
