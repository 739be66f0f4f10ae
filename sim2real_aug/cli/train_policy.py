"""`sim2real-aug train-policy DATASET.zarr`: train a diffusion policy, with edited frames if given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


@command("train-policy", config="train_policy", writes=True)
def train_policy(
    call: Call,
    dataset: Annotated[str, typer.Argument(metavar="DATASET.zarr", help="The episodes to learn from.")],
    augmented: Annotated[
        str | None, typer.Option(metavar="OUT.zarr", help="The edited store, from sim2real-aug augment.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")] = Path("runs/policy"),
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
) -> Summary:
    """Train an image diffusion policy.

    Example: sim2real-aug train-policy sim.zarr --augmented sim-edited.zarr
    """
    config = call.compose({"seed": seed}, dataset=dataset, augmented=augmented, out=out)
    from sim2real_aug.policies.trainer import train_policy as train

    edited = location(augmented) if augmented else None
    return train(config, location(dataset), augmented=edited, out=out, overwrite=call.overwrite)
