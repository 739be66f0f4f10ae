"""Which features of another dataset a store is made of, what it calls them, and whether it is that dataset's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.errors import BadInput, unknown_name

FLOAT32 = ("state", "action")  # what policies read; other floats stay as they are


def one_camera(place: Path, cameras: Sequence[str], asked: str | None) -> str:
    """The camera that was asked for, by its whole name or the last part of it, or the only one.

    Raises BadInput for another, and where none or several are.
    """
    if not cameras:
        raise BadInput(f"{place} holds no images, (T, H, W, 3) uint8 with one for each action: a store needs frames")
    if asked is not None:
        meant = [name for name in cameras if asked == name] or [name for name in cameras if asked == _last_part(name)]
        if len(meant) != 1:
            raise unknown_name("camera", asked, cameras)
        return meant[0]
    if len(cameras) > 1:
        raise BadInput(
            f"{place} has {len(cameras)} cameras, {', '.join(cameras)}: say with --camera which one a store is made of"
        )
    return cameras[0]


def _last_part(feature: str) -> str:
    """Of LeRobot's `observation.images.top` and of HDF5's `obs/top`: top."""
    return re.split(r"[./]", feature)[-1]


def check_names(place: Path, names: Mapping[str, str]) -> None:
    """Raises BadInput where two features would have one name in the store; names: that of each feature."""
    taken: dict[str, str] = {}
    for feature, name in names.items():
        if name in taken:
            raise BadInput(f"{place}: {taken[name]} and {feature} would both be data/{name}; rename one of them there")
        taken[name] = feature


def as_stored(name: str, values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if name in FLOAT32 and values.dtype.kind == "f" else values


def camera_of(buffer: ReplayBuffer, attribute: str, kind: str) -> str:
    """The camera that a store's frames were read from. Raises BadInput for a store that was not made of a `kind`, and
    for one without edits."""
    made_of = buffer.attrs.get(attribute)
    if made_of is None:
        told = f"{buffer.path} was not made of {kind}: it has no attribute '{attribute}'"
        raise BadInput(f"{told}; give --like the dataset that `convert` made the store of")
    edits_of(buffer)
    return str(made_of["camera"])


def edits_of(buffer: ReplayBuffer) -> dict[str, Any]:
    """How a store's frames were edited, JSON values. Raises BadInput for one whose data/img is as it was."""
    made_by: dict[str, Any] | None = buffer.attrs.get(ATTRIBUTE)
    if made_by is None:
        raise BadInput(f"{buffer.path} has no edits; give the store that `augment` wrote")
    buffer.require_edits_of("img")
    return made_by


def summary_of_copy(buffer: ReplayBuffer, target: Path, camera: str) -> dict[str, Any]:
    return {
        "path": str(target),
        "camera": camera,
        "frames": buffer.n_frames,
        "edits": int(buffer.passed().sum()),
        "episodes": buffer.n_episodes,
    }


def refuse_but_copies(target: Path, overwrite: bool, is_copy: Callable[[], bool]) -> None:
    """Raises BadInput for a link, and for whatever stands at `target` but a copy of ours that `overwrite` replaces."""
    if target.is_symlink():
        raise BadInput(f"{target} is a link; give the place that it leads to, {target.resolve()}")
    if target.exists() and not overwrite:
        raise BadInput(f"{target} exists; choose another path, or --overwrite to replace it")
    if target.exists() and not is_copy():
        raise BadInput(f"{target} exists; --overwrite replaces only what `convert --like` wrote: choose another path")


def require_episodes(
    buffer: ReplayBuffer, lengths: Sequence[int], numbers: Iterable[Mapping[str, NDArray[Any]]], original: Path
) -> None:
    """Raises BadInput where a store's episodes are not those of `original`: edits would go to other actions.

    lengths: of those, in frames. numbers: of each in turn, its arrays by the names that a store has for them.
    """
    told, own_lengths = f"{buffer.path} was not made of {original}", np.diff(buffer.episode_ends, prepend=0).tolist()
    if len(own_lengths) != len(lengths):
        raise BadInput(f"{told}: it has {len(own_lengths)} episodes, not {len(lengths)}")
    for number, (own_length, length) in enumerate(zip(own_lengths, lengths, strict=True)):
        if own_length != length:
            raise BadInput(f"{told}: its episode {number} has {own_length} frames, not {length}")
    for number, arrays in enumerate(numbers):
        frames = buffer.episode(number)
        for name in {*arrays} & {*buffer.names}:
            own = buffer.read(name, frames.start, frames.stop)
            if not np.array_equal(own, arrays[name], equal_nan=own.dtype.kind == "f"):
                raise BadInput(f"{told}: data/{name} of episode {number} has other numbers")
