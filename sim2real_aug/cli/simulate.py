"""`sim2real-aug simulate OUT.zarr`: record episodes in the simulator, or draw a store's states anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command


@command("simulate", config="simulate", writes=True)
def simulate(
    call: Call,
    out: Annotated[Path, typer.Argument(metavar="OUT.zarr", help="The store to write.")],
    episodes: Annotated[int | None, typer.Option(help="How many episodes.")] = None,
    domain: Annotated[str | None, typer.Option(help="flat, randomized, or randomized/N (scene N).")] = None,
    source: Annotated[str | None, typer.Option(help="scripted, or replay:STORE: its states.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the episodes and scenes.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; the result does not depend on it.")] = None,
) -> Summary:
    """Record Push-T episodes in a simulated domain.

    With --source replay:STORE the states of a store are drawn anew in the domain.

    Example: sim2real-aug simulate sim.zarr --episodes 200
    """
    options = {"episodes": episodes, "domain": domain, "source": source, "seed": seed, "workers": workers}
    config = call.compose(options, out=out)
    from sim2real_aug.config import settings
    from sim2real_aug.envs.simulate import SimulateSettings
    from sim2real_aug.envs.simulate import simulate as record

    return record(out, settings(SimulateSettings, config), overwrite=call.overwrite)
