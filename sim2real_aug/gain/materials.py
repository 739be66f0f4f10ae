"""What the arms are made of: stores, photos, editors, edited stores and policies, each made once in a folder.

Every function marked `piece` gives the place of its piece and makes it when it is not there; one that was cut off is
taken up by the command that it calls. Pieces are shared: all arms of a scene have its photos, both specialist arms
one store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.augment.classical import CLASSICAL, TransferEditor
from sim2real_aug.augment.engine import augment
from sim2real_aug.augment.settings import read_config
from sim2real_aug.augment.unpaired import CutSettings, train_cut
from sim2real_aug.config import command_config, settings
from sim2real_aug.d3po.trainer import train_editor
from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter, load_photos
from sim2real_aug.editor import load_editor
from sim2real_aug.envs.photos import PhotosSettings, take_photos
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import ALL, ARMS, CUT, RANDOMIZED, SPECIALIST, Unit
from sim2real_aug.policies.trainer import train_policy
from sim2real_aug.runs import RunFolder

T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """folder: of all pieces. config: with `stages`, as `configs/gain.yaml`. dataset: the user's episodes, None:
    simulated ones. seed: of episodes and photos, which all units share. materials: folder of all pieces but the
    policies, None: `folder` too. made: pieces that were seen to be there."""

    folder: Path
    config: DictConfig
    dataset: str | Path | None = None
    seed: int = 0
    materials: Path | None = None
    made: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def stage(self, name: str, command: str, **fixed: object) -> DictConfig:
        """The configuration of `command` as stage `name` has it."""
        return command_config(command, self.config.stages[name].settings, **fixed)

    def drawn(self, domain: str) -> dict[str, object]:
        """The keys of a command that say how frames are drawn."""
        return {"domain": domain, "config_dir": self.config.get("config_dir")}

    def material(self, scene: str | None = None) -> Path:
        """The folder of a scene's materials, or of those that all scenes share."""
        folder = self.materials or self.folder
        return folder if scene is None else folder / folder_name(scene)


def folder_name(scene: str) -> str:
    return scene.replace("/", "-")


def piece(make: Callable[..., T]) -> Callable[..., T]:
    """Let `make` look for its piece once in the life of an experiment."""

    @wraps(make)
    def once(experiment: Experiment, *which: object) -> T:
        key = (make.__name__, *which)
        if key not in experiment.made:
            experiment.made[key] = make(experiment, *which)
        return cast(T, experiment.made[key])

    return once


@piece
def simulated(experiment: Experiment) -> str | Path:
    """The episodes that all arms start from."""
    if experiment.dataset is not None:
        return experiment.dataset
    chosen = settings(SimulateSettings, experiment.stage("simulate", "simulate", seed=experiment.seed))
    return str(simulate(experiment.material() / "sim.zarr", chosen)["path"])


@piece
def redrawn(experiment: Experiment, domain: str) -> Path:
    """The same episodes drawn in another domain."""
    source = f"replay:{simulated(experiment)}"
    fixed = {"source": source, "seed": experiment.seed, **experiment.drawn(domain)}
    chosen = settings(SimulateSettings, experiment.stage("redraw", "simulate", **fixed))
    place = experiment.material(domain) / "redrawn.zarr"
    simulate(place, chosen)
    return place


@piece
def cotrained(experiment: Experiment, scene: str) -> Path:
    """The same episodes, the last few of them as the scene looks: as teleoperation on the real bench adds."""
    place = experiment.material(scene) / "cotrained.zarr"
    flat, real = (ReplayBuffer.open(store) for store in (simulated(experiment), redrawn(experiment, scene)))
    if place.exists() and ReplayBuffer.open(place).n_episodes == flat.n_episodes:
        return place
    first_real = flat.n_episodes - experiment.config.real_episodes
    if first_real < 1:
        raise BadInput(
            f"real_episodes must be below the dataset's {flat.n_episodes}; got {flat.n_episodes - first_real}"
        )
    with ReplayBufferWriter.create(place, overwrite=True) as writer:
        for episode in range(flat.n_episodes):
            buffer, rows = flat if episode < first_real else real, flat.episode(episode)
            writer.append_episode(
                {name: buffer.read(name, rows.start, rows.stop) for name in ("img", "state", "action")}
            )
    return place


@piece
def photographed(experiment: Experiment, scene: str) -> Path:
    """The photos of a scene: of random states, none of which is in the dataset."""
    place = experiment.material(scene) / "photos"
    config = experiment.stage("photos", "photos", seed=experiment.seed, **experiment.drawn(scene))
    take_photos(place, settings(PhotosSettings, config))
    return place


@piece
def specialist(experiment: Experiment, scene: str, seed: int) -> Path:
    """The run of the specialist that D3PO makes of the base editor."""
    place = experiment.material(scene) / f"specialist-{seed}"
    config = experiment.stage("train_editor", "train_editor", seed=seed)
    train_editor(config, simulated(experiment), photographed(experiment, scene), place)
    return place


@piece
def cut_editor(experiment: Experiment, scene: str, seed: int) -> Any:
    """CUT, trained on evenly spread frames of the dataset and on the photos."""
    chosen = CutSettings(**{**dict(experiment.config.stages.train_cut.settings), "seed": seed})
    buffer = ReplayBuffer.open(simulated(experiment))
    rows = np.unique(np.linspace(0, buffer.n_frames - 1, experiment.config.cut_frames).astype(int))
    frames = np.concatenate([buffer.images(row, row + 1) for row in rows])
    photos = load_photos(photographed(experiment, scene), frames.shape[1])
    run = RunFolder.open(experiment.material(scene) / f"cut-{seed}", OmegaConf.structured(chosen))
    return train_cut(frames, photos.images, chosen, run)


@piece
def edited(experiment: Experiment, kind: str, scene: str, seed: int) -> Path:
    """The dataset edited by `kind`: a colour transfer, CUT, the base editor or the scene's specialist."""
    place = experiment.material(scene) / f"{kind}-{seed}.zarr"
    if place.exists():  # complete: it appears only when it is
        return place
    photos = photographed(experiment, scene)
    chosen, judge, device = read_config(experiment.stage("augment", "augment", seed=seed))
    if kind in CLASSICAL:
        size = ReplayBuffer.open(simulated(experiment)).array("img").shape[1]
        editor: Any = TransferEditor(kind, load_photos(photos, size).images)
    elif kind == CUT:
        editor = cut_editor(experiment, scene, seed)
    else:
        editor = load_editor(specialist(experiment, scene, seed) if kind == SPECIALIST else None).to(device)
    prompts = load_photos(photos, editor.image_size)
    asked = judge if kind == SPECIALIST else None  # no other arm has a gate
    augment(simulated(experiment), editor, place, chosen, photos=prompts, judge=asked)
    return place


def sources(experiment: Experiment, unit: Unit) -> tuple[str | Path, Path | None]:
    """The dataset of the unit's policy and the edits that are mixed in."""
    arm = ARMS[unit.arm]
    dataset = simulated(experiment)
    if arm.real is not None:
        dataset = (redrawn if arm.real == ALL else cotrained)(experiment, unit.scene)
    if arm.edits is None:
        return dataset, None
    make = partial(redrawn, experiment, RANDOMIZED)
    if arm.edits != RANDOMIZED:
        make = partial(edited, experiment, arm.edits, unit.scene, unit.seed)
    return dataset, make()


def learner(experiment: Experiment, unit: Unit) -> DictConfig:
    """How the unit's policy is trained, but for its data."""
    arm = ARMS[unit.arm]
    options = {"use_gate": arm.use_gate, "color_jitter": arm.color_jitter}
    fixed = {f"policy.training.{name}": value for name, value in options.items()}
    return experiment.stage("train_policy", "train_policy", seed=unit.seed, **fixed)


def place_of_policy(experiment: Experiment, unit: Unit) -> Path:
    """Where the unit's policy is; an arm that does not know the scene has one for all scenes."""
    knows_scene = ARMS[unit.arm].knows_scene
    folder = experiment.folder / folder_name(unit.scene) if knows_scene else experiment.folder
    return folder / f"policy-{unit.arm}-{unit.seed}"


@piece
def policy(experiment: Experiment, unit: Unit) -> Path:
    """The run of the unit's policy."""
    place, (dataset, augmented) = place_of_policy(experiment, unit), sources(experiment, unit)
    train_policy(learner(experiment, unit), dataset, augmented=augmented, out=place)
    return place
