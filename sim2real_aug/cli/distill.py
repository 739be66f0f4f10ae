"""`sim2real-aug distill DATASET.zarr --photos DIR`: an editor's guidance, distilled into one pass a step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


@command("distill", config="distill", writes=True)
def distill(
    call: Call,
    dataset: Annotated[str, typer.Argument(metavar="DATASET.zarr", help="Episodes whose frames are edited.")],
    photos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos of the real scene; none: the editor's own.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")] = Path("runs/distilled"),
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
) -> Summary:
    """Make an editor edit in one pass a step.

    Guidance by image, style and text takes up to four; the distilled editor's scales are 1.

    Example: sim2real-aug distill sim.zarr --photos my-photos editor.path=runs/sd15
    """
    config = call.compose({"seed": seed}, dataset=dataset, photos=photos, out=out)
    from sim2real_aug.pretrain.distill import distill as run

    return run(config, location(dataset), photos, out, overwrite=call.overwrite)
