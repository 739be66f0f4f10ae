"""`sim2real-aug teleop OUT.zarr`: record demonstrations with the mouse."""

from __future__ import annotations

from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command, location


@command("teleop", config="teleop", writes=True)
def teleop(
    call: Call,
    out: Annotated[str, typer.Argument(metavar="OUT.zarr", help="The store to write, or to add to.")],
    episodes: Annotated[int | None, typer.Option(help="How many episodes the store is to hold.")] = None,
    domain: Annotated[
        str | None, typer.Option(help="flat, randomized, randomized/N, or pathtraced/SCENE.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the starts and scenes.")] = None,
) -> Summary:
    """Record Push-T demonstrations with the mouse.

    The pusher follows the mouse once it came near; Space pauses, R restarts the episode, Q quits. A finished
    episode is saved at once. Needs a display and the extra [teleop].

    Example: sim2real-aug teleop demos.zarr --episodes 20
    """
    target = location(out)
    config = call.compose({"episodes": episodes, "domain": domain, "seed": seed}, out=target)
    from sim2real_aug.config import settings
    from sim2real_aug.envs.teleop import TeleopSettings
    from sim2real_aug.envs.teleop import teleop as record
    from sim2real_aug.envs.teleop_window import PygameWindow

    chosen = settings(TeleopSettings, config)
    window = PygameWindow(chosen.window, chosen.rate)
    try:
        return record(target, chosen, window, overwrite=call.overwrite)
    finally:
        window.close()
