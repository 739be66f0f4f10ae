"""Units of work of a measurement of specialists: photos, frames, training runs and their edits, kept in a folder.

Each unit is made once: a measurement that was interrupted goes on where it stopped, and one that was extended by a
seed or a scene makes only these.

Legend: M states, P photos, S pixels a side; images (M, S, S, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from edit_metrics import Frames
from omegaconf import DictConfig, OmegaConf
from paired_frames import PairedFrames, paired_frames

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.config import compose, make
from sim2real_aug.d3po.trainer import train_editor
from sim2real_aug.data.photos import load_photos
from sim2real_aug.editor.composition import composition_of
from sim2real_aug.editor.editor import Editor
from sim2real_aug.envs.photos import PhotosSettings, take_photos
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.progress import progress
from sim2real_aug.runs import RunFolder
from sim2real_aug.seeding import derive_seed

BATCH = 25


@dataclass(frozen=True)
class Plan:
    """What every unit of a measurement shares.

    photos: of each bench. states: held out, edited and measured. episodes: flat ones that specialists train on.
    overrides: of `train-editor`, for every run. seed: of photos and states.
    """

    photos: int = 8
    states: int = 200
    episodes: int = 50
    overrides: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Bench:
    """One domain's material: photos (P, S, S, 3), and the frames to edit. folder: of its units."""

    domain: str
    folder: Path
    photos: Frames
    frames: PairedFrames


def open_work(work: Path, plan: Plan) -> Editor:
    """Begin the folder of all units, or take it up; returns the base editor.

    Raises BadInput when units of another plan, or of other weights, are there.
    """
    config = run_config(plan, seed=0)
    editor, judge = make(config.editor), make(config.judge)
    record = {
        **asdict(plan),
        "editor": weights_hash(editor.components),
        "edit_settings": asdict(editor.edit_settings),
        "composition": composition_of(editor),
        "judge": weights_hash({"judge": judge}),
    }
    RunFolder.open(work, OmegaConf.create(record))
    return cast(Editor, editor)


def prepare_bench(work: Path, plan: Plan, domain: str, size: int) -> Bench:
    """Take the photos and draw the frames of a domain that are not there yet; photos come at size x size."""
    folder = work / domain.replace("/", "-")
    seed = derive_seed(plan.seed, "benchmark", domain)
    take_photos(folder / "photos", PhotosSettings(domain=domain, count=plan.photos, seed=seed))
    frames = paired_frames(domain, plan.states, plan.seed, work / "frames")
    return Bench(domain, folder, load_photos(folder / "photos", size).images, frames)


def training_store(work: Path, plan: Plan) -> Path:
    """The flat episodes that every specialist trains on: the first ones that ship."""
    simulate(work / "flat.zarr", SimulateSettings(episodes=plan.episodes, workers=1))
    return work / "flat.zarr"


def run_config(plan: Plan, seed: int, overrides: tuple[str, ...] = ()) -> DictConfig:
    return compose("train_editor", [*plan.overrides, *overrides, f"seed={seed}"])


def train_run(bench: Bench, store: Path, config: DictConfig, name: str) -> dict[str, Any]:
    """The summary of the specialist `name` of a bench, trained if it is not there yet."""
    return train_editor(config, store, bench.folder / "photos", bench.folder / "runs" / name)


def edited(bench: Bench, load: Callable[[], Editor], name: str, seed: int) -> Frames:
    """The bench's flat frames, edited after its photos as the editor does by itself; kept as edits/NAME.npz.

    load: gives the editor, if it is needed. seed: of the noise.
    """
    file = bench.folder / "edits" / f"{name}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part.npz")
        np.savez_compressed(temporary, edits=_edit(load(), bench, name, seed))
        temporary.replace(file)
    with np.load(file) as content:
        return np.asarray(content["edits"])


def _edit(editor: Editor, bench: Bench, name: str, seed: int) -> Frames:
    flat, photos = bench.frames.flat.images, bench.photos
    batch = max(BATCH // len(photos), 1) * len(photos)  # every batch begins with the first photo
    parts = []
    with progress(f"edit {bench.domain} {name}", len(flat), unit="frames") as bar:
        for start in range(0, len(flat), batch):
            parts.append(editor(flat[start : start + batch], photos, seed=seed))
            bar.advance(len(parts[-1]))
    return np.concatenate(parts)
