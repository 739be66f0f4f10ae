"""The tables of a benchmark: JSON, CSV, Markdown, and the trade-off of style against preservation as a picture.

Means are over images and edits, with 95 % intervals bootstrapped over images and edits alike; NaN are left out.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sim2real_aug.benchmark.measures import LOWER_IS_BETTER
from sim2real_aug.report.intervals import Estimate, estimate, mean
from sim2real_aug.runs import write_text_atomically

ALL = "all"
KEPT, STYLE = "Depth_all", "STY_in"  # the axes of the trade-off: what an edit kept, and what it took on


@dataclass(frozen=True)
class Result:
    """Figures of one edit of one image. scale: s_I where the row was swept."""

    name: str
    row: str
    scale: float | None
    edit: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Line:
    """A line of the table: a row, or a row at one scale, over one edit or ALL. figures: None where there is none."""

    name: str
    row: str
    scale: float | None
    edit: str
    figures: Mapping[str, Estimate | None]


def write_tables(results: Sequence[Result], folder: Path, edits: Sequence[str]) -> dict[str, str]:
    """Write table.json, .csv and .md, and trade-off.png where a row was swept; their paths by kind."""
    lines = [line for edit in (ALL, *edits) for line in lines_of(results, edit)]
    metrics = list(dict.fromkeys(metric for result in results for metric in result.figures))
    files = {kind: folder / f"table.{kind}" for kind in ("json", "csv", "md")}
    write_text_atomically(files["json"], json.dumps([_as_json(line) for line in lines], indent=2) + "\n")
    write_text_atomically(files["md"], markdown([line for line in lines if line.edit == ALL], metrics))
    _write_csv(files["csv"], lines, metrics)
    if swept := [line for line in lines if line.edit == ALL and line.scale is not None and _on_axes(line)]:
        files["trade_off"] = plot(swept, folder / "trade-off.png")
    return {kind: str(file) for kind, file in files.items()}


def lines_of(results: Iterable[Result], edit: str) -> list[Line]:
    """A line of each variant for one edit, or for ALL of them, in the order of the results."""
    chosen = [result for result in results if edit in (ALL, result.edit)]
    lines = []
    for name in dict.fromkeys(result.name for result in chosen):
        own = [result for result in chosen if result.name == name]
        metrics = dict.fromkeys(metric for result in own for metric in result.figures)
        figures = {metric: _mean([r.figures.get(metric, math.nan) for r in own]) for metric in metrics}
        lines.append(Line(name, own[0].row, own[0].scale, edit, figures))
    return lines


def _mean(values: Sequence[float]) -> Estimate | None:
    known = np.array([value for value in values if not math.isnan(value)])
    return estimate(mean, known[None]) if len(known) else None


def markdown(lines: Sequence[Line], metrics: Sequence[str]) -> str:
    """One table, an arrow in each head for the better direction."""
    heads = [f"{metric} {'↓' if metric in LOWER_IS_BETTER else '↑'}" for metric in metrics]
    rows = [["editor", *heads], ["---"] * (1 + len(metrics))]
    rows += [[line.name, *(str(line.figures.get(metric) or "–") for metric in metrics)] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plot(lines: Sequence[Line], path: Path) -> Path:
    """Write a PNG: what each swept editor takes on against what it loses, a point for each scale."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in dict.fromkeys(line.row for line in lines):
        own = sorted((line for line in lines if line.row == row), key=lambda line: line.scale or 0.0)
        points = [(_value(line, STYLE), _value(line, KEPT)) for line in own]
        axes.plot(*zip(*points, strict=True), marker="o", label=row)
        for line, point in zip(own, points, strict=True):
            axes.annotate(f"{line.scale:g}", point, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set_xlabel(f"{STYLE} (higher is better)")
    axes.set_ylabel(f"{KEPT} (lower is better)")
    axes.set_title("image guidance scale s_I at each point", fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _on_axes(line: Line) -> bool:
    return line.figures.get(STYLE) is not None and line.figures.get(KEPT) is not None


def _value(line: Line, metric: str) -> float:
    found = line.figures[metric]
    return math.nan if found is None else found.value


def _as_json(line: Line) -> dict[str, object]:
    figures = {metric: None if value is None else vars(value) for metric, value in line.figures.items()}
    return {**vars(line), "figures": figures}


def _write_csv(path: Path, lines: Sequence[Line], metrics: Sequence[str]) -> None:
    parts = ("value", "low", "high")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["editor", "s_I", "edit", *(f"{metric} {part}" for metric in metrics for part in parts)]
        )
        for line in lines:
            values = [getattr(line.figures.get(metric), part, "") for metric in metrics for part in parts]
            writer.writerow([line.name, line.scale, line.edit, *values])
