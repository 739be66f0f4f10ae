"""`sim2real-aug convert SRC DST`: copy a store into another format, or make one of a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location
from sim2real_aug.errors import BadInput


@command("convert", writes=True)
def convert(
    call: Call,
    source: Annotated[str, typer.Argument(metavar="SRC", help="A store: folder, zip or URL; or a folder of images.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The copy; one that ends in .zip is a zip.")],
    zarr_format: Annotated[
        int | None, typer.Option(help="2 (diffusion_policy reads it) or 3; none: as SRC.", min=2, max=3)
    ] = None,
    as_uint8: Annotated[
        bool, typer.Option("--as-uint8", help="Store float frames (0..255) as uint8, a quarter of the size.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="Of images: pixels of the shorter side that larger ones are shrunk to.")
    ] = None,
    bayer: Annotated[str | None, typer.Option(help="Of raw images: gbrg, grbg, rggb or bggr.")] = None,
) -> Summary:
    """Copy a store to zarr format 2 or 3, folder or zip; or make one of a folder of images.

    Images become frames, each folder with images an episode: enough for train-editor and augment, not for a policy.

    Example: sim2real-aug convert demos.zarr demos.zarr.zip
    """
    from sim2real_aug.data.convert import convert as copy
    from sim2real_aug.data.images import images_to_store
    from sim2real_aug.data.stores import is_store

    call.hold(target)
    place = location(source)
    if isinstance(place, Path) and place.is_dir() and not is_store(place):
        return images_to_store(place, target, zarr_format or 2, size, bayer, call.overwrite)
    if size is not None or bayer is not None:
        raise BadInput(f"--size and --bayer are for a folder of images; {source} is none")
    return copy(place, target, zarr_format, as_uint8, call.overwrite)
