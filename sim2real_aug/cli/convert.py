"""`sim2real-aug convert SRC DST`: copy a store into another format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


@command("convert", writes=True)
def convert(
    call: Call,
    source: Annotated[str, typer.Argument(metavar="SRC", help="A store: folder, zip or URL.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The copy; one that ends in .zip is a zip.")],
    zarr_format: Annotated[
        int | None, typer.Option(help="2 (diffusion_policy reads it) or 3; none: as SRC.", min=2, max=3)
    ] = None,
    as_uint8: Annotated[
        bool, typer.Option("--as-uint8", help="Store float frames (0..255) as uint8, a quarter of the size.")
    ] = False,
) -> Summary:
    """Copy a store to zarr format 2 or 3, folder or zip.

    Example: sim2real-aug convert demos.zarr demos.zarr.zip
    """
    from sim2real_aug.data.convert import convert as copy

    return copy(location(source), target, zarr_format, as_uint8, call.overwrite)
