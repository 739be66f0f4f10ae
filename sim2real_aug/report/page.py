"""A run as one page that needs no other file: what came of it, its curves and pictures, and how it was made.

A run is a folder with a config.yaml or a summary.json. Those that finished inside it, such as a policy's evaluations
or the specialists of the gain, follow on the same page.
"""

from __future__ import annotations

import base64
import html
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sim2real_aug.errors import BadInput
from sim2real_aug.report.curves import Panel, draw_curves
from sim2real_aug.runs import RunFolder, write_text_atomically

PICTURE_TYPES = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".gif": "gif"}
CURVES = "curves.png"
LONGEST_LIST = 4
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse }
td, th { padding: .15em 1em .15em 0; text-align: left; border-bottom: 1px solid #ddd }
img { max-width: 100% } figure { margin: 1em 0 } figcaption { color: #666; font-size: 13px }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto; font-size: 13px }
"""


def write_report(run: Path, out: Path) -> dict[str, Any]:
    """Write the page of the run in folder `run` to `out`; returns how many runs and pictures it shows.

    Raises BadInput for a folder that is no run, and where there is no folder for the page.
    """
    if not is_run(run):
        raise BadInput(f"{run} is no run: a run is a folder with a config.yaml or a summary.json")
    if not out.parent.is_dir():
        raise BadInput(f"the page cannot be written to {out}: there is no folder {out.parent}")
    parts = [_heading(run.resolve().name, 1), *_sections(run)]
    inner = finished_runs(run)
    for each in inner:
        parts += [_heading(str(each.relative_to(run)), 1), *_sections(each)]
    title = html.escape(run.resolve().name)
    page = f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n<style>{STYLE}</style>\n'
    page += "\n".join(parts) + "\n</html>\n"
    write_text_atomically(out, page)
    return {"runs": 1 + len(inner), "pictures": page.count("<img ")}


def is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.yaml", "summary.json"))


def finished_runs(run: Path) -> list[Path]:
    """The folders inside `run`, one or two deep, that hold a run's summary, in order of their names."""
    return sorted(path.parent for depth in ("*", "*/*") for path in run.glob(f"{depth}/summary.json"))


def _sections(folder: Path) -> Iterator[str]:
    """One run: results, texts, curves, pictures, figures of its metrics, configuration."""
    run = RunFolder(folder)
    summary = run.summary()
    yield _table(["result", ""], flattened(summary).items()) if summary is not None else "<p>Not finished.</p>"
    for text in sorted(folder.glob("*.md")):
        yield f"<pre>{html.escape(text.read_text())}</pre>"
    metrics = run.metrics()
    if metrics and not (folder / CURVES).is_file():
        yield _drawn_curves(metrics)
    for picture in sorted([*folder.iterdir(), *folder.glob("samples/*")]):
        if picture.suffix in PICTURE_TYPES:
            yield _picture(picture, str(picture.relative_to(folder)))
    if metrics:
        yield _table(["metric", "first", "least", "at step", "greatest", "at step", "last"], _ranges(metrics))
    if (folder / "config.yaml").is_file():
        config = html.escape((folder / "config.yaml").read_text())
        yield f"<details><summary>configuration</summary><pre>{config}</pre></details>"


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of nested records by dotted names, as text; of a long list its length."""
    texts: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            texts |= flattened(value, f"{name}.")
        elif isinstance(value, list):
            texts[name] = ", ".join(map(_text, value)) if len(value) <= LONGEST_LIST else f"{len(value)} values"
        else:
            texts[name] = _text(value)
    return texts


def curves_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Each finite metric's (step, value) pairs by its name; of a run with parts, "part: name"."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in metrics:
        part = f"{line['part']}: " if "part" in line else ""
        for name, value in line.items():
            if name not in ("step", "part") and isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(part + name, []).append((line["step"], value))
    return curves


def _ranges(metrics: Sequence[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    for name, points in curves_of(metrics).items():
        least, greatest = min(points, key=lambda point: point[1]), max(points, key=lambda point: point[1])
        yield name, points[0][1], least[1], least[0], greatest[1], greatest[0], points[-1][1]


def _drawn_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    """A panel for each metric that was logged more than once."""
    curves = {name: points for name, points in curves_of(metrics).items() if len(points) > 1}
    lines = [{"step": step, name: value} for name, points in curves.items() for step, value in points]
    with tempfile.TemporaryDirectory() as folder:
        panels = [Panel(name, (name,)) for name in curves]
        return _picture(draw_curves(lines, panels, Path(folder) / CURVES, "step"), "curves")


def _heading(text: str, level: int) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["".join(f"<th>{html.escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{html.escape(_text(value))}</td>" for value in row) for row in rows]
    return "<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>"


def _picture(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/{PICTURE_TYPES[path.suffix]};base64,{data}"
    text = html.escape(caption)
    return f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
