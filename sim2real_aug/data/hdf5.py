"""Demonstrations in robomimic's HDF5 layout, which LIBERO and Isaac Lab write too, made replay buffers of one camera.

    data/demo_0/actions (T, A)    data/demo_0/obs/NAME (T, ...)    data/demo_0/rewards, dones, states, ... (T, ...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.features import as_stored, check_names, one_camera
from sim2real_aug.data.images import check_reading, numbers_apart, shrunk, with_numbers
from sim2real_aug.data.stores import reading, refuse_existing
from sim2real_aug.data.writer import building
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.progress import progress, say

if TYPE_CHECKING:
    from h5py import Dataset, Group

OBSERVATIONS = "obs/"
ACTIONS = "actions"
BLOCK = 64  # frames read at once


def hdf5_to_store(
    file: Path,
    target: Path,
    camera: str | None = None,
    zarr_format: int = 2,
    shorter: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a store of a camera's frames, data/img, and of all else that has a row a frame, and return its summary.

    `actions` becomes data/action, `obs/NAME` data/NAME. camera: `obs/NAME`; None where only one is images. shorter:
    pixels of the shorter side that larger frames are shrunk to. Nothing appears at `target` before the store is
    complete. Raises BadInput for an existing target, and for a file of another layout.
    """
    check_reading(shorter)
    refuse_existing(target, overwrite)
    with opened_demos(file) as demos:
        first = next(iter(demos.values()))
        cameras = [name for name, array in _arrays(first).items() if _is_images(array)]
        chosen = one_camera(file, cameras, camera)
        carried = carried_arrays(first)
        check_names(file, {chosen: "img", **carried})
        made_of = {"hdf5": {"camera": chosen, "demos": [*demos]}}
        with building(target, zarr_format, made_of) as writer, progress("read demos", len(demos), unit="demos") as bar:
            for demo in demos.values():
                for part in _parts(demo, chosen, carried, shorter):
                    writer.append_part(part)
                writer.end_episode()
                bar.advance()
            return writer.summary(target)


@contextmanager
def opened_demos(file: Path) -> Iterator[dict[str, Group]]:
    """The demonstrations by their names, in the order of the numbers in these."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("an HDF5 file", "hdf5") from error
    with reading(str(file), "copy or download it again"):
        opened = h5py.File(file)
    with opened:
        groups = _members(opened.get("data"))
        demos = {name: demo for name, demo in groups.items() if ACTIONS in _members(demo)}
        if not demos:
            raise BadInput(f"{file} has no data/demo_0/actions: HDF5 is read in robomimic's layout only")
        if left_out := sorted({*groups} - {*demos}, key=numbers_apart):
            say(f"{file}: {', '.join(left_out)} left out, which has no actions")
        yield {name: demos[name] for name in sorted(demos, key=numbers_apart)}


def _members(node: Any) -> dict[str, Any]:
    """What a group holds; nothing for an array, and for what is not there."""
    return dict(node.items()) if hasattr(node, "items") else {}


def _arrays(demo: Group) -> dict[str, Dataset]:
    """What has a row a frame, by its name: `obs/NAME`, or `NAME`."""
    length, found = len(demo[ACTIONS]), {}
    for prefix, group in ((OBSERVATIONS, demo.get("obs")), ("", demo)):
        for name, array in _members(group).items():
            if getattr(array, "shape", ()) and len(array) == length and array.dtype.kind in "fiub":
                found[prefix + name] = array
    return found


def _is_images(array: Dataset) -> bool:
    return bool(array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3)


def carried_arrays(demo: Group) -> dict[str, str]:
    """The store's name of each array of a demonstration that is no image."""
    named = {name: "action" if name == ACTIONS else name.removeprefix(OBSERVATIONS) for name in _arrays(demo)}
    return {name: named[name] for name, array in _arrays(demo).items() if not _is_images(array)}


def _parts(
    demo: Group, camera: str, carried: Mapping[str, str], shorter: int | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """A demonstration in blocks of frames. carried: see `carried_arrays`, of the first demonstration."""
    with reading(_place(demo)):
        images, numbers = required_arrays(demo, [camera])[camera], numbers_of(demo, carried)
        blocks = (images[start : start + BLOCK] for start in range(0, len(images), BLOCK))
        yield from with_numbers((shrunk(frame, shorter) for block in blocks for frame in block), numbers)


def numbers_of(demo: Group, carried: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """What is no image, by the names that a store has for it."""
    arrays = required_arrays(demo, [*carried])
    with reading(_place(demo)):
        return {name: as_stored(name, arrays[own][:]) for own, name in carried.items()}


def required_arrays(demo: Group, names: Sequence[str]) -> dict[str, Dataset]:
    """Raises BadInput where a demonstration lacks an array that the first one has."""
    arrays = _arrays(demo)
    if missing := sorted({*names} - {*arrays}):
        raise BadInput(
            f"{_place(demo)} has no {', '.join(missing)} with a row for each of its actions, as the first demo has"
        )
    return arrays


def _place(demo: Group) -> str:
    return f"{demo.file.filename}{demo.name}"
