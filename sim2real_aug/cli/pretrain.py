"""`sim2real-aug pretrain`: make the compact base editor and judge that we ship, from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command


@command("pretrain", config="pretrain", writes=True)
def pretrain(
    call: Call,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")] = Path("runs/pretrain"),
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
) -> Summary:
    """Make the shipped base editor and judge anew.

    It takes hours; their weights come with the package.

    Example: sim2real-aug pretrain --out runs/pretrain
    """
    config = call.compose({"seed": seed}, out=out)
    from sim2real_aug.pretrain import pretrain as train

    return train(config, out, overwrite=call.overwrite)
