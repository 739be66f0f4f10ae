"""The benchmark: every row's edits, then every measure's figures, then the table.

    sim2real-aug benchmark IMAGES --photos DIR --out runs/benchmark

One editor or measure is in memory at a time, beside what finds the regions. What fails, a checkpoint that is not there
for instance, is said and left out of the table; the others go on. Edits and figures are kept by what they were made of
(`cache`): the same command continues an interrupted one, and with another row, edit or measure only that is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.benchmark.cache import Figures, key_of
from sim2real_aug.benchmark.masks import Masks
from sim2real_aug.benchmark.material import Material, Sample, read_material
from sim2real_aug.benchmark.measures import Measure, Seen
from sim2real_aug.benchmark.rows import Request, RowEditor
from sim2real_aug.benchmark.table import Result, write_tables
from sim2real_aug.config import make
from sim2real_aug.data.stores import one_line
from sim2real_aug.devices import autocast, memory_advice
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.pixels import to_images
from sim2real_aug.progress import progress, say
from sim2real_aug.runs import RunFolder


@dataclass(frozen=True)
class Variant:
    """A row at one image guidance scale, None: its own."""

    row: str
    scale: float | None = None

    def __str__(self) -> str:
        return self.row if self.scale is None else f"{self.row}, s_I {self.scale:g}"


T = TypeVar("T")
Edited = dict[Variant, dict[str, Sample]]  # of each variant, its samples by the keys of their edits


def run_benchmark(
    config: DictConfig, place: str | Path, photos: Path | None, out: Path, overwrite: bool = False
) -> dict[str, Any]:
    """Edit, measure and write the tables into `out`; the summary, which names what failed and why.

    Raises BadInput for images, photos or settings that do not fit, and where no row or no measure came through.
    """
    run = RunFolder.open(out, OmegaConf.create({"command": "benchmark"}), overwrite)
    variants = variants_of(config)
    material = read_material(config, place, photos, run.path / "cache")
    failures: dict[str, str] = {}
    segmenter = _surviving("segmentation", failures, partial(make, config.segmentation))
    masks = Masks(segmenter, material)
    edited: Edited = {}
    for row, node in config.rows.items():
        own = [variant for variant in variants if variant.row == row]
        edited |= edit_row(node, own, material, failures)
    figures: dict[str, dict[str, float]] = {}
    for name, node in config.measures.items() if edited else ():
        work = partial(add_figures, figures, name, node, edited, masks, material)
        _surviving(f"measure {name}", failures, work)
    if not figures:
        raise BadInput("nothing could be measured: " + "; ".join(": ".join(why) for why in failures.items()))
    results = [
        Result(str(variant), variant.row, variant.scale, sample.task.name, figures[key])
        for variant, samples in edited.items()
        for key, sample in samples.items()
    ]
    files = write_tables(results, run.path, list(config.edits))
    summary = {"path": str(out), "samples": len(material.samples), "failures": failures, **files}
    run.write_summary({**summary, "config": OmegaConf.to_container(config)})
    return summary


def variants_of(config: DictConfig) -> list[Variant]:
    """Each row as it is, and the swept rows at every scale."""
    for row in config.sweep.rows:
        if row not in config.rows:
            raise unknown_name("row in sweep.rows", str(row), map(str, config.rows))
    swept = [
        Variant(str(row), float(scale))
        for row in config.sweep.rows
        for scale in config.sweep.image_guidance_scales
    ]
    return [*(Variant(str(row)) for row in config.rows), *swept]


def edit_row(
    node: DictConfig, variants: Sequence[Variant], material: Material, failures: dict[str, str]
) -> Edited:
    """The samples of each variant by the keys of their edits; a variant that fails is left out, the others stand."""
    name = f"row {variants[0].row}"
    edited: Edited = {variant: {} for variant in variants}
    parts = _surviving(name, failures, partial(parts_of, node, material.samples))
    for part, samples in parts or ():
        if not edit_part(part, samples, edited, name, material, failures):
            return {}
    return edited if parts else {}


def edit_part(
    part: DictConfig, samples: Sequence[Sample], edited: Edited, name: str, material: Material, failures: dict[str, str]
) -> bool:
    """Add what one editor makes of its samples to each variant, and drop a variant that fails; False where the editor
    does not load. A function of its own, so that the editor is gone before the next one loads."""
    editor = _surviving(name, failures, partial(make, part, device=material.device))
    if editor is None:
        return False
    for variant in list(edited):
        made = _surviving(f"row {variant}", failures, partial(edit_samples, editor, variant, samples, material))
        if made is None:
            del edited[variant]
        else:
            edited[variant] |= made
    return True


def parts_of(node: DictConfig, samples: Sequence[Sample]) -> list[tuple[DictConfig, list[Sample]]]:
    """The editors that make a row, each with its samples: one, or one of each edit where `path` is a mapping.

    Raises BadInput for edits that the mapping lacks.
    """
    if not OmegaConf.is_dict(node.get("path")):
        return [(node, list(samples))]
    names = dict.fromkeys(sample.task.name for sample in samples)
    if lacking := [name for name in names if name not in node.path]:
        raise BadInput(f"path gives no editor for {', '.join(lacking)}; it has {', '.join(map(str, node.path))}")
    parts = []
    for name in names:
        part = node.copy()
        part.path = node.path[name]
        parts.append((part, [sample for sample in samples if sample.task.name == name]))
    return parts


def edit_samples(
    editor: RowEditor, variant: Variant, samples: Sequence[Sample], material: Material
) -> dict[str, Sample]:
    """The samples by the keys of their edits, which are made where they are not there yet."""
    entered = () if material.precision == "fp32" else (material.precision,)
    by_key = {key_of(editor.identity, variant.scale, sample.made_from, *entered): sample for sample in samples}
    missing = {key: sample for key, sample in by_key.items() if key not in material.images}
    with progress(f"edit: {variant}", len(by_key), len(by_key) - len(missing), "images") as bar:
        for keys in _batches(missing, editor.batch_size):
            with memory_advice(f"++rows.{variant.row}.batch_size", editor.batch_size):
                edits = _edit(editor, [missing[key] for key in keys], variant, material)
            for key, edit in zip(keys, edits, strict=True):
                material.images.write(key, edit)
            bar.advance(len(keys))
    return by_key


def _edit(
    editor: RowEditor, samples: Sequence[Sample], variant: Variant, material: Material
) -> NDArray[np.uint8]:
    task, photo = samples[0].task, samples[0].photo
    images = np.stack([material.sources.load(sample.source) for sample in samples])
    with autocast(torch.device(material.device), material.precision):
        return editor(Request(images, task.edit, task.turned(photo), material.seed, variant.scale))


def _batches(samples: dict[str, Sample], size: int) -> Iterator[list[str]]:
    """Keys of samples that can be edited at once."""
    ordered = sorted(samples, key=lambda key: samples[key].batches_with)
    for _, group in groupby(ordered, key=lambda key: samples[key].batches_with):
        keys = list(group)
        yield from (keys[start : start + size] for start in range(0, len(keys), size))


def add_figures(
    figures: dict[str, dict[str, float]], name: str, node: DictConfig, edited: Edited, masks: Masks, material: Material
) -> None:
    """Put one measure's figures beside those of the others. Raises BadInput for a column that is there already."""
    judged = judge_edits(name, node, edited, masks, material)
    if twice := _columns(judged) & _columns(figures):
        raise BadInput(f"another measure gives {', '.join(sorted(twice))} too; give one of them another name")
    for key, values in judged.items():
        figures[key] = figures.get(key, {}) | values


@torch.no_grad()
def judge_edits(
    name: str, node: DictConfig, edited: Edited, masks: Masks, material: Material
) -> dict[str, dict[str, float]]:
    """One measure's figures of every edit, by its key."""
    measure: Measure = make(node, device=material.device)
    by_key = {key: sample for samples in edited.values() for key, sample in samples.items()}
    regions = masks if measure.needs_masks else None
    found_by = masks.identity if measure.needs_masks else None
    figures = Figures(material.scores / f"{name}-{key_of(measure.identity, found_by)}.jsonl")
    kept_by = {key: key_of(key, sample.judged_by) for key, sample in by_key.items()}
    missing = {key: sample for key, sample in by_key.items() if kept_by[key] not in figures.known}
    with progress(f"measure: {name}", len(by_key), len(by_key) - len(missing), "edits") as bar:
        for keys in _batches(missing, material.batch_size):
            with memory_advice("batch_size", material.batch_size):
                seen = _seen([missing[key] for key in keys], keys, regions, material).to(material.device)
                columns = {metric: values.cpu().tolist() for metric, values in measure(seen).items()}
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            figures.add({kept_by[key]: row for key, row in zip(keys, rows, strict=True)})
            bar.advance(len(keys))
    return {key: figures.known[kept_by[key]] for key in by_key}


def _columns(figures: dict[str, dict[str, float]]) -> set[str]:
    return {column for values in figures.values() for column in values}


def _seen(samples: Sequence[Sample], keys: Sequence[str], masks: Masks | None, material: Material) -> Seen:
    """masks: None where nothing is asked of them; they are all True then."""
    images = [material.sources.load(sample.source) for sample in samples]
    task, photo = samples[0].task, samples[0].photo
    photos = to_images(task.photos.images[photo : photo + 1]).expand(len(samples), -1, -1, -1)
    source = to_images(np.stack(images))
    inside, photo_inside = torch.ones_like(source[:, 0]).bool(), torch.ones_like(photos[:, 0]).bool()
    if masks is not None:
        inside = torch.from_numpy(np.stack([masks.of_image(image, task.edit.region) for image in images]))
        photo_inside = torch.from_numpy(masks.of_photo(samples[0]))[None].expand(len(samples), -1, -1)
    edits = to_images(np.stack([material.images.read(key) for key in keys]))
    return Seen(source, edits, inside, photos, photo_inside, [task.edit.target_caption] * len(samples))


def _surviving(name: str, failures: dict[str, str], work: Callable[[], T]) -> T | None:
    """What `work` gives; None, said and recorded, where it fails: an editor or a judge may raise anything."""
    try:
        return work()
    except Exception as error:
        failures[name] = one_line(error)
        say(f"{name} failed and is left out: {failures[name]}")
        return None
