"""A store's frames in a copy of the HDF5 file, in robomimic's layout, that it was made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim2real_aug.data.features import (
    camera_of,
    edits_of,
    refuse_but_copies,
    require_episodes,
    summary_of_copy,
)
from sim2real_aug.data.hdf5 import ACTIONS, BLOCK, carried_arrays, numbers_of, opened_demos, required_arrays
from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.data.stores import copy_folder, is_hdf5, make_parent
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import progress, say

if TYPE_CHECKING:
    from h5py import Group


def store_to_hdf5(store: str | Path, original: Path, target: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a copy of the file `original` to `target`, with the frames of `store`; returns its summary.

    Frames may be of another size than the original's. Nothing appears at `target` before the copy is complete, in
    which the attribute "augmentation" says, by camera, how the frames were made.

    Raises BadInput for a store without edits, or that was not made of this file; for demonstrations that are links to
    other files; and for an existing `target`, with `overwrite`, too, where it is no such copy.
    """
    buffer = ReplayBuffer.open(store)
    camera = camera_of(buffer, "hdf5", "an HDF5 file")
    with opened_demos(original) as by_name:
        _check_target(target, overwrite)
        demos, carried = [*by_name.values()], carried_arrays(next(iter(by_name.values())))
        _refuse_links(demos, original)
        lengths = [len(required_arrays(demo, [camera])[ACTIONS]) for demo in demos]
        require_episodes(buffer, lengths, (numbers_of(demo, carried) for demo in demos), original)
        places, has_next = [f"data/{name}/{camera}" for name in by_name], f"next_{camera}" in demos[0]
    make_parent(target)
    unfinished = copy_folder(target)
    try:
        shutil.copyfile(original, unfinished)
        _write(buffer, camera, places, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    if has_next:
        say(f"next_{camera} is as it was: a store has the frames of {camera}")
    return summary_of_copy(buffer, target, camera)


def _check_target(target: Path, overwrite: bool) -> None:
    """Only what `store_to_hdf5` wrote is ever replaced."""
    if not is_hdf5(target):
        raise BadInput(f"{target}: the copy of an HDF5 file is one; choose a name that ends in .hdf5")
    refuse_but_copies(target, overwrite, lambda: _is_copy(target))


def _is_copy(file: Path) -> bool:
    import h5py

    if not (file.is_file() and h5py.is_hdf5(file)):
        return False
    with h5py.File(file) as opened:
        return ATTRIBUTE in opened.attrs


def _refuse_links(demos: Sequence[Group], original: Path) -> None:
    """Frames of a demonstration in another file would be written there."""
    for demo in demos:
        if Path(demo.file.filename).resolve() != original.resolve():
            raise BadInput(f"{original}: a demonstration is a link to {demo.file.filename}; give that file with --like")


def _write(buffer: ReplayBuffer, camera: str, places: Sequence[str], file: Path) -> None:
    """The frames of each demonstration, at its place in an open copy of the original."""
    import h5py

    with h5py.File(file, "r+") as copy, progress("write demos", len(places), unit="demos") as bar:
        before = json.loads(copy.attrs.get(ATTRIBUTE, "{}"))
        copy.attrs[ATTRIBUTE] = json.dumps({**before, camera: edits_of(buffer)})
        for number, place in enumerate(places):
            _write_frames(buffer, buffer.episode(number), copy, place)
            bar.advance()


def _write_frames(buffer: ReplayBuffer, frames: slice, copy: Group, place: str) -> None:
    """In place, a block in memory at a time; frames of another size in a new array, compressed as the old one is."""
    images, shape = copy[place], (frames.stop - frames.start, *buffer.array("img").shape[1:])
    if images.shape != shape:
        options = {name: getattr(images, name) for name in ("compression", "compression_opts", "shuffle", "fletcher32")}
        attributes, chunks = dict(images.attrs), images.chunks is not None or None
        del copy[place]
        images = copy.create_dataset(place, shape, np.uint8, chunks=chunks, **options)
        images.attrs.update(attributes)
    for start in range(0, shape[0], BLOCK):
        stop = min(start + BLOCK, shape[0])
        images[start:stop] = buffer.images(frames.start + start, frames.start + stop)
