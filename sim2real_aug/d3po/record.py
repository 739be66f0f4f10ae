"""What a run leaves in its folder while it trains: metrics.jsonl, curves.png and samples/round-0004.png.

Of several processes the main one alone writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sim2real_aug.d3po.held_out import HeldOut, draw_grid
from sim2real_aug.d3po.processes import is_main
from sim2real_aug.d3po.rollouts import Task
from sim2real_aug.report.curves import Panel, draw_curves
from sim2real_aug.runs import RunFolder

PANELS = (
    Panel("structural score (lower is better)", ("structural", "held_out_structural", "guard_structural")),
    Panel("semantic score (lower is better)", ("semantic", "held_out_semantic", "guard_semantic")),
    Panel("held-out total less the base's, in its spread", ("held_out_total", "guard_total")),
    Panel("KL from the base editor, per latent element", ("approx_kl",)),
    Panel("implicit accuracy and clamped share", ("implicit_accuracy", "clamped_share")),
    Panel("PSNR to the real look, dB", ("held_out_psnr",)),
)


def rewind(run: RunFolder, number: int) -> None:
    """Forget the metrics of rounds after `number`."""
    if is_main():
        run.rewind(number)


def record_round(
    task: Task, run: RunFolder, number: int, metrics: Mapping[str, float], held: HeldOut | None = None
) -> None:
    """Log a round; one whose held-out frames were edited also draws the curves, and its edits when it is their turn."""
    if not is_main():
        return
    run.log(number, metrics)
    if held is None:
        return
    draw_curves(run.metrics(), PANELS, run.path / "curves.png", "round")
    settings = task.settings
    if number in (0, settings.rounds) or number % settings.sample_grid_every == 0:
        label = "base editor" if number == 0 else f"round {number}"
        draw_grid(task.images, [held.edits], [label], samples(run, f"round-{number:04d}"))


def samples(run: RunFolder, name: str) -> Path:
    return run.path / "samples" / f"{name}.png"
