"""`sim2real-aug augment DATASET.zarr`: edit a dataset's frames; everything else is carried over."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location
from sim2real_aug.errors import unknown_name


@command("augment", config="augment", writes=True)
def augment(
    call: Call,
    dataset: Annotated[str, typer.Argument(metavar="DATASET.zarr", help="The store to edit.")],
    editor: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN|CHECKPOINT|NAME",
            help="The editor; none: the one we ship; 'composed', 'reinhard' or 'histogram': nothing that is trained.",
        ),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos of the real scene; none: the editor's own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="OUT.zarr", help="The store to write; none: DATASET-edited.zarr.")
    ] = None,
    episodes: Annotated[str | None, typer.Option(metavar="A:B", help="Edit only these episodes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise and of the photos drawn.")] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="local|ray", help="One process, or Ray's workers on many GPUs or cores.")
    ] = None,
) -> Summary:
    """Make a dataset's frames look real. Same length, same actions, same layout.

    Example: sim2real-aug augment sim.zarr --editor runs/editor

    Without a trained editor: sim2real-aug augment sim.zarr --editor composed --photos my-photos
    """
    source = location(dataset)
    target = out or default_output(source)
    config = call.compose({"episodes": episodes, "seed": seed, "engine": engine}, dataset=source, out=target)
    from sim2real_aug.augment.classical import UNTRAINED, untrained_editor
    from sim2real_aug.augment.engine import augment as edit_store
    from sim2real_aug.augment.engine import engine_of
    from sim2real_aug.augment.settings import read_config
    from sim2real_aug.data import ReplayBuffer
    from sim2real_aug.editor import load_editor

    name = str(editor)
    if editor is not None and name not in UNTRAINED and not editor.exists() and get_close_matches(name, UNTRAINED):
        raise unknown_name("editor", name, UNTRAINED)
    ReplayBuffer.open(source)  # a damaged store is said before judge and editor take their seconds to load
    run = engine_of(config)
    chosen, judge, device = read_config(config)
    if editor is None or name not in UNTRAINED or editor.is_dir():
        loaded = load_editor(editor).to(device)
    else:
        loaded = untrained_editor(name, device)
    return edit_store(source, loaded, target, chosen, photos=photos, judge=judge, overwrite=call.overwrite, engine=run)


def default_output(dataset: str | Path) -> Path:
    """`x.zarr`, `x.zarr.zip`, `s3://bucket/x.zarr` give `x-edited.zarr`, beside a local store, else here."""
    name = str(dataset).rstrip("/").rsplit("/", 1)[-1]
    stem = name.removesuffix(".zip").removesuffix(".zarr")
    return (dataset.parent if isinstance(dataset, Path) else Path()) / f"{stem}-edited.zarr"
