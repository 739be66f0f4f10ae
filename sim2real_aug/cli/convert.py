"""`sim2real-aug convert SRC DST`: copy a store into another format, or make one of other datasets or of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location
from sim2real_aug.errors import BadInput


@command("convert", writes=True)
def convert(
    call: Call,
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="A store (folder, zip, URL), LeRobot's dataset, HDF5 or images.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The copy; one that ends in .zip is a zip.")],
    zarr_format: Annotated[
        int | None, typer.Option(help="2 (diffusion_policy reads it) or 3; none: as SRC.", min=2, max=3)
    ] = None,
    as_uint8: Annotated[
        bool, typer.Option("--as-uint8", help="Store float frames (0..255) as uint8, a quarter of the size.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side that larger images and frames shrink to.")
    ] = None,
    camera: Annotated[
        str | None, typer.Option(metavar="KEY", help="What becomes data/img, of LeRobot's folders and HDF5 files.")
    ] = None,
    bayer: Annotated[str | None, typer.Option(help="Of raw images: gbrg, grbg, rggb or bggr.")] = None,
) -> Summary:
    """Copy a store to zarr format 2 or 3, folder or zip; or make one of another dataset, or of images.

    Of LeRobot's datasets observation.state becomes data/state, of HDF5 files in robomimic's layout obs/NAME data/NAME,
    and the frames of one camera data/img. Images become frames, each folder with images an episode: enough for
    train-editor and augment, not for a policy.

    Example: sim2real-aug convert demos.zarr demos.zarr.zip
    """
    from sim2real_aug.data.convert import convert as copy
    from sim2real_aug.data.hdf5 import hdf5_to_store, is_hdf5
    from sim2real_aug.data.images import images_to_store
    from sim2real_aug.data.lerobot import is_lerobot, lerobot_to_store
    from sim2real_aug.data.stores import is_store

    call.hold(target)
    place = location(source)
    other = place if isinstance(place, Path) and place.exists() and not is_store(place) else None
    reader = None
    if other is not None and (is_lerobot(other) or is_hdf5(other)):
        reader = lerobot_to_store if is_lerobot(other) else hdf5_to_store
    images = other is not None and reader is None and other.is_dir()
    _refuse(source, "--camera", camera, reader is not None, "LeRobot's datasets and HDF5 files")
    _refuse(source, "--bayer", bayer, images, "a folder of images")
    _refuse(source, "--size", size, images or reader is not None, "images, LeRobot's datasets and HDF5 files")
    if other is not None and reader is not None:
        return reader(other, target, camera, zarr_format or 2, size, call.overwrite)
    if other is not None and images:
        return images_to_store(other, target, zarr_format or 2, size, bayer, call.overwrite)
    return copy(place, target, zarr_format, as_uint8, call.overwrite)


def _refuse(source: str, option: str, value: object, fits: bool, what: str) -> None:
    """Raise BadInput for an option that was given and is for something else than `source`."""
    if value is not None and not fits:
        raise BadInput(f"{option} is for {what}; {source} is none")
