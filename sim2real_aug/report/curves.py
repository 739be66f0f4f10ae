"""The curves of a run as one picture, from the lines of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True)
class Panel:
    """names: the metrics that it shows, where the run has them."""

    title: str
    names: tuple[str, ...]
    logarithmic: bool = False


def draw_curves(
    metrics: Sequence[Mapping[str, Any]], panels: Sequence[Panel], path: Path, step_name: str
) -> Path:
    """Write a PNG with each of `panels` that has values; each line of `metrics` has a `step`, called `step_name`."""
    present = {name for line in metrics for name in line}
    panels = [panel for panel in panels if present & set(panel.names)]
    rows = max(1, (len(panels) + 1) // 2)
    figure = Figure(figsize=(11, 3 * rows), layout="constrained")
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, 2, place)
        for name in panel.names:
            points = [(line["step"], line[name]) for line in metrics if name in line]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_yscale("log" if panel.logarithmic else "linear")
        axes.set_title(panel.title, fontsize=9)
        axes.set_xlabel(step_name, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
