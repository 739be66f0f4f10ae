"""`sim2real-aug simulate OUT.zarr`: episodes drawn in the simulator: recorded, new, or a store's."""

from __future__ import annotations

from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


@command("simulate", config="simulate", writes=True)
def simulate(
    call: Call,
    out: Annotated[str, typer.Argument(metavar="OUT.zarr", help="The store to write.")],
    episodes: Annotated[int | None, typer.Option(help="How many episodes.")] = None,
    domain: Annotated[
        list[str] | None, typer.Option(help="flat, randomized, randomized/N, pathtraced/SCENE; several: by turns.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="recorded: those that ship; expert: new ones; replay:STORE: its states.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the episodes and scenes.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, else one a core; the result is the same.")] = None,
) -> Summary:
    """Draw Push-T episodes in a simulated domain.

    By default those that ship with the package. With --source expert new ones are planned, from
    start=classic, wide or near_goal; with --source replay:STORE the states of a store are drawn anew.

    Example: sim2real-aug simulate sim.zarr --episodes 200
    """
    drawn = domain[0] if domain and len(domain) == 1 else domain or None
    options = {"episodes": episodes, "domain": drawn, "source": source, "seed": seed, "workers": workers}
    target = location(out)
    config = call.compose(options, out=target)
    from sim2real_aug.config import settings
    from sim2real_aug.envs.simulate import SimulateSettings
    from sim2real_aug.envs.simulate import simulate as record

    return record(target, settings(SimulateSettings, config), overwrite=call.overwrite)
