"""`sim2real-aug photos OUT_DIR`: photos of a simulated bench, which train-editor takes as it takes real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command


@command("photos", config="photos", writes=True)
def photos(
    call: Call,
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="The folder to fill.")],
    domain: Annotated[str | None, typer.Option(help="pathtraced/SCENE, randomized/N or flat.")] = None,
    count: Annotated[int | None, typer.Option(help="How many photos.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the states that they show.")] = None,
) -> Summary:
    """Photograph random states of a simulated bench.

    A path-traced scene is photographed at its camera's resolution, with the workspace's corners in photos.yaml.

    Example: sim2real-aug photos my-photos --domain randomized/7 --count 20
    """
    config = call.compose({"domain": domain, "count": count, "seed": seed}, out=out)
    from sim2real_aug.config import settings
    from sim2real_aug.envs.photos import PhotosSettings, take_photos

    return take_photos(out, settings(PhotosSettings, config), overwrite=call.overwrite)
