"""`sim2real-aug train-editor [DATASET.zarr] --photos DIR`: make the base editor a specialist with D3PO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


@command("train-editor", config="train_editor", writes=True)
def train_editor(
    call: Call,
    dataset: Annotated[
        str | None, typer.Argument(metavar="DATASET.zarr", help="Episodes to edit; none: simulated ones.")
    ] = None,
    photos: Annotated[Path | None, typer.Option(metavar="DIR", help="Photos of the real scene.")] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")] = Path("runs/editor"),
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Push the editor to the Hugging Face hub, privately if it is new."),
    ] = None,
) -> Summary:
    """Train the image editor on your photos.

    On-policy D3PO with the judges' preferences.

    Example: sim2real-aug train-editor sim.zarr --photos my-photos
    """
    config = call.compose({"seed": seed}, dataset=dataset, photos=photos, out=out)
    from sim2real_aug.d3po.processes import is_main
    from sim2real_aug.d3po.trainer import train_editor as train

    if push_to_hub is not None:
        from sim2real_aug import hub

        hub.require_own(push_to_hub)
    store = location(dataset) if dataset else None
    summary = train(config, dataset=store, photos=photos, out=out, overwrite=call.overwrite)
    if not is_main():  # of several processes one prints
        raise typer.Exit(0)
    if push_to_hub is not None:
        summary["hub"] = hub.push(summary["editor"], push_to_hub)
    return summary
