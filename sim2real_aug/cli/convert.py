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
    target: Annotated[str, typer.Argument(metavar="DST", help="The copy; one that ends in .zip is a zip.")],
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
    like: Annotated[
        Path | None,
        typer.Option(metavar="ORIGINAL", help="What SRC was made of: DST is a copy of it with the frames of SRC."),
    ] = None,
) -> Summary:
    """Copy a store to zarr format 2 or 3, folder or zip; or make one of another dataset, or of images.

    Of LeRobot's datasets observation.state becomes data/state, of HDF5 files in robomimic's layout obs/NAME data/NAME,
    and the frames of one camera data/img. Images become frames, each folder with images an episode: enough for
    train-editor and augment, not for a policy. With --like the frames of an edited store go back where they came from:
    DST is the LeRobot dataset or HDF5 file with other frames, which your training reads as it reads the original.

    Example: sim2real-aug convert demos.zarr demos.zarr.zip

    Back again: sim2real-aug convert sim-edited.zarr my-dataset-edited --like my-dataset
    """
    from sim2real_aug.data.convert import convert as copy
    from sim2real_aug.data.hdf5 import hdf5_to_store
    from sim2real_aug.data.images import images_to_store
    from sim2real_aug.data.lerobot import lerobot_to_store

    call.hold(target)
    place, out = location(source), Path(target).expanduser()
    kind, recorded = _kind(place), {"lerobot": lerobot_to_store, "hdf5": hdf5_to_store}
    if like is not None and (zarr_format, as_uint8, size, camera, bayer) != (None, False, None, None, None):
        raise BadInput("--like takes no other option: camera, size and layout are those of the store and the original")
    _refuse(source, "--camera", camera is not None and kind not in recorded, "LeRobot's datasets and HDF5 files")
    _refuse(source, "--bayer", bayer is not None and kind != "images", "a folder of images")
    _refuse(source, "--size", size is not None and kind == "store", "images, LeRobot's datasets and HDF5 files")
    _refuse(source, "--as-uint8", as_uint8 and kind != "store", "a store whose frames are floats")
    if like is not None:
        return _back(kind, place, like.expanduser(), out, call.overwrite)
    if kind == "store":
        return copy(place, out, zarr_format, as_uint8, call.overwrite)
    if kind == "images":
        return images_to_store(Path(place), out, zarr_format or 2, size, bayer, call.overwrite)
    return recorded[kind](Path(place), out, camera, zarr_format or 2, size, call.overwrite)


def _back(kind: str, store: str | Path, original: Path, out: Path, overwrite: bool) -> Summary:
    from sim2real_aug.data.into_hdf5 import store_to_hdf5
    from sim2real_aug.data.into_lerobot import store_to_lerobot

    if kind != "store":
        raise BadInput(f"--like is for an edited store's frames; {store} is no store")
    writers = {"lerobot": store_to_lerobot, "hdf5": store_to_hdf5}
    if not original.exists():
        raise BadInput(f"--like {original}: there is nothing; give the dataset that {store} was made of")
    if (other := _kind(original)) not in writers:
        raise BadInput(f"--like {original}: give the dataset of LeRobot's or the HDF5 file that {store} was made of")
    return writers[other](store, original, out, overwrite)


def _kind(place: str | Path) -> str:
    """store, lerobot, hdf5 or images; store, too, for what is not there, which its reader says best."""
    from sim2real_aug.data.stores import is_hdf5, is_lerobot, is_store

    if isinstance(place, str) or not place.exists() or is_store(place):
        return "store"
    if is_lerobot(place):
        return "lerobot"
    if is_hdf5(place):
        return "hdf5"
    return "images" if place.is_dir() else "store"


def _refuse(source: str, option: str, misplaced: bool, what: str) -> None:
    """Raise BadInput for an option that is for something else than `source`."""
    if misplaced:
        raise BadInput(f"{option} is for {what}; {source} is none")
