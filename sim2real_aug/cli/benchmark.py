"""`sim2real-aug benchmark IMAGES`: the paper's metrics for several editors over the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


def show(summary: Summary) -> None:
    """The table as it is saved, what failed, then where things lie."""
    typer.echo(Path(summary["md"]).read_text())
    for name, reason in summary["failures"].items():
        typer.echo(f"failed: {name}: {reason}")
    for name in ("json", "csv", "trade_off"):
        if name in summary:
            typer.echo(f"{name.replace('_', ' ') + ':':11}{summary[name]}")


@command("benchmark", config="benchmark", writes=True, show=show)
def benchmark(
    call: Call,
    images: Annotated[
        str, typer.Argument(metavar="IMAGES", help="A store, or a folder with images in it or below it.")
    ],
    photos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Visual prompts of every edit without photos of its own."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder of edits and tables.")] = Path(
        "runs/benchmark"
    ),
) -> Summary:
    """Compare editors by what their edits keep and what they take on.

    Depth_out, Depth_all and L2_out say what was kept, STY_in how near a visual prompt came, others how well an edit
    fits its text. Exit code 0 also where a row or a measure failed: the summary names it.

    Example: sim2real-aug benchmark sim.zarr --photos photos
    +rows.ours._target_=sim2real_aug.benchmark.rows.Specialist +rows.ours.path=runs/editor
    """
    config = call.compose({}, images=images, photos=photos, out=out)
    from sim2real_aug.benchmark.run import run_benchmark

    return run_benchmark(config, location(images), photos, out, call.overwrite)
