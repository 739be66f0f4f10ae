"""`sim2real-aug gain`: do policies that learned from edited frames do better where things look real?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


def show(summary: Summary) -> None:
    """The table as it is saved, then where things lie."""
    typer.echo(Path(summary["table"]).read_text())
    typer.echo(f"units:  {summary['measured']} of {summary['units']} measured")
    for name in ("table", "plot"):
        typer.echo(f"{name + ':':8}{summary[name]}")
    for path in summary["animations"]:
        typer.echo(f"video:  {path}")


@command("gain", config="gain", writes=True, alone=False, show=show)
def gain(
    call: Call,
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="DATASET.zarr", help="Episodes to learn from; none: simulated ones."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder of all pieces.")] = Path("runs/gain"),
    records: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Records of measured units; none: RUN/records.")
    ] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Only this scene; may be repeated.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; may be repeated.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; may be repeated.")] = None,
) -> Summary:
    """Measure whether edited data makes better policies.

    Arms of the same budget, trained on the simulator's frames, on classical augmentations, on edited frames and on
    the scene's own, are evaluated in the scene. Every arm, scene and seed is a unit with a record of its own: what is
    recorded is not measured again, and the table holds what there is.

    Example: sim2real-aug gain --scene pathtraced/linen --arm sim_only --arm specialist --arm oracle
    """
    config = call.compose({}, dataset=dataset, out=out, records=records)
    from sim2real_aug.gain.run import Choice, run_gain

    store = location(dataset) if dataset else None
    return run_gain(config, out, records, store, Choice(scene or None, arm or None, seed or None), call.overwrite)
