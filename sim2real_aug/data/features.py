"""Which features of another dataset a store is made of, and what it calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.errors import BadInput, unknown_name

FLOAT32 = ("state", "action")  # what policies read; other floats stay as they are


def one_camera(place: Path, cameras: Sequence[str], asked: str | None) -> str:
    """The camera that was asked for, or the only one. Raises BadInput for another, and where none or several are."""
    if not cameras:
        raise BadInput(f"{place} holds no images, (T, H, W, 3) uint8 with one for each action: a store needs frames")
    if asked is not None and asked not in cameras:
        raise unknown_name("camera", asked, cameras)
    if asked is None and len(cameras) > 1:
        raise BadInput(
            f"{place} has {len(cameras)} cameras, {', '.join(cameras)}: say with --camera which one a store is made of"
        )
    return asked or cameras[0]


def check_names(place: Path, names: Mapping[str, str]) -> None:
    """Raises BadInput where two features would have one name in the store; names: that of each feature."""
    taken: dict[str, str] = {}
    for feature, name in names.items():
        if name in taken:
            raise BadInput(f"{place}: {taken[name]} and {feature} would both be data/{name}; rename one of them there")
        taken[name] = feature


def as_stored(name: str, values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if name in FLOAT32 and values.dtype.kind == "f" else values
