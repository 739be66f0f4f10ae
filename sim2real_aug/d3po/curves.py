"""The curves of a run as one picture, from the lines of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# A panel: its title, and the metrics that it shows where the run has them.
PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("structural score (lower is better)", ("structural", "held_out_structural", "guard_structural")),
    ("semantic score (lower is better)", ("semantic", "held_out_semantic", "guard_semantic")),
    ("held-out total less the base's, in its spread", ("held_out_total", "guard_total")),
    ("KL from the base editor, per latent element", ("approx_kl",)),
    ("implicit accuracy and clamped share", ("implicit_accuracy", "clamped_share")),
    ("PSNR to the real look, dB", ("held_out_psnr",)),
)


def draw_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write a PNG with a panel for each of `PANELS` that has values; each line of `metrics` has a `step`."""
    present = {name for line in metrics for name in line}
    panels = [(title, names) for title, names in PANELS if present & set(names)]
    rows = max(1, (len(panels) + 1) // 2)
    figure = Figure(figsize=(11, 3 * rows), layout="constrained")
    for place, (title, names) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, 2, place)
        for name in names:
            points = [(line["step"], line[name]) for line in metrics if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("round", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
