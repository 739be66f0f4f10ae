"""Which camera of a dataset with several a store is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sim2real_aug.errors import BadInput, unknown_name


def one_camera(place: Path, cameras: Sequence[str], asked: str | None) -> str:
    """The camera that was asked for, or the only one. Raises BadInput for another, and where several are there."""
    if asked is not None and asked not in cameras:
        raise unknown_name("camera", asked, cameras)
    if asked is None and len(cameras) != 1:
        raise BadInput(
            f"{place} has {len(cameras)} cameras, {', '.join(cameras) or 'nothing in it is images'}: say with --camera "
            "which one a store is made of"
        )
    return asked or cameras[0]
