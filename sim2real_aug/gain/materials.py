"""What the arms are made of: stores, photos, editors, edited stores and policies, each made once in a folder.

Every function marked `piece` gives the place of its piece and makes it when it is not there; one that was cut off is
taken up by the command that it calls. Pieces are shared: all arms of a scene have its photos, both specialist arms
one store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.augment.classical import UNTRAINED, untrained_editor
from sim2real_aug.augment.engine import augment
from sim2real_aug.augment.provenance import describe, differences
from sim2real_aug.augment.settings import read_config
from sim2real_aug.augment.unpaired import CutSettings, train_cut
from sim2real_aug.config import command_config, make, settings
from sim2real_aug.d3po.trainer import train_editor
from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter, load_photos
from sim2real_aug.data.replay_buffer import ATTRIBUTE
from sim2real_aug.data.stores import pack, partial_folder
from sim2real_aug.editor import load_editor
from sim2real_aug.envs.photos import PhotosSettings, take_photos
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import ALL, ARMS, CUT, RANDOMIZED, SPECIALIST, Unit
from sim2real_aug.policies.trainer import train_policy
from sim2real_aug.runs import RunFolder

T = TypeVar("T")
ROUNDING = {"version", "precision"}  # of an edited store, beside which its frames are the same or nearly so


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
        """The configuration of `command` as stage `name` has it; composed once, as many units ask for the same.

        fixed: what the experiment decides. Raises BadInput where the stage's settings say otherwise.
        """
        key = ("stage", name, *fixed.items())
        if key not in self.made:
            chosen = self.config.stages[name].settings
            for setting, value in fixed.items():
                if (typed := OmegaConf.select(chosen, setting)) not in (None, value):
                    raise BadInput(
                        f"stages.{name}.settings.{setting} is the experiment's to decide, here {value}; got {typed}: "
                        "leave it out"
                    )
            self.made[key] = command_config(command, chosen, fixed, self.config.get("config_dir"))
        return cast(DictConfig, self.made[key].copy())

    def drawn(self, domain: str) -> dict[str, object]:
        """The keys of a command that say how frames are drawn."""
        return {"domain": domain, "config_dir": self.config.get("config_dir")}

    def material(self, scene: str | None = None) -> Path:
        """The folder of a scene's materials, or of those that all scenes share."""
        folder = self.materials or self.folder
        return folder if scene is None else folder / folder_name(scene)


def place_of(experiment: Experiment, *piece: object) -> Path:
    """Where a piece goes that is no policy, by its kind and what it is of."""
    match piece:
        case ("episodes",):
            return experiment.material() / "sim.zarr"
        case ("redrawn" | "cotrained" as kind, str(domain)):
            return experiment.material(domain) / f"{kind}.zarr"
        case ("photos", str(scene)):
            return experiment.material(scene) / "photos"
        case ("specialist" | "cut" as kind, str(scene), int(seed)):
            return experiment.material(scene) / f"{kind}-{seed}"
        case ("edits", str(kind), str(scene), int(seed)):
            return experiment.material(scene) / f"{kind}-{seed}.zarr"
    raise ValueError(f"no piece {piece}")


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
    chosen = settings(SimulateSettings, simulation(experiment))
    return str(simulate(place_of(experiment, "episodes"), chosen)["path"])


def simulation(experiment: Experiment) -> DictConfig:
    """How the episodes are recorded."""
    return experiment.stage("simulate", "simulate", seed=experiment.seed, size=frame_size(experiment))


def frame_size(experiment: Experiment) -> int:
    """The height and width of all frames: what the policy takes, whose dataset may be the user's."""
    return int(experiment.stage("train_policy", "train_policy").policy.model.image_size)


@piece
def redrawn(experiment: Experiment, domain: str) -> Path:
    """The same episodes drawn in another domain."""
    config = redrawing(experiment, domain)
    config.source = f"replay:{simulated(experiment)}"
    chosen = settings(SimulateSettings, config)
    place = place_of(experiment, "redrawn", domain)
    simulate(place, chosen)
    return place


def redrawing(experiment: Experiment, domain: str) -> DictConfig:
    """How episodes are drawn in another domain, but for whose they are."""
    drawn = {**experiment.drawn(domain), "size": frame_size(experiment)}
    return experiment.stage("redraw", "simulate", seed=experiment.seed, **drawn)


@piece
def cotrained(experiment: Experiment, scene: str) -> Path:
    """The same episodes, the last few of them as the scene looks: as teleoperation on the real bench adds.

    All but the frames is the dataset's in every episode, so that each teaches what the other arms' episodes do.
    """
    place = place_of(experiment, "cotrained", scene)
    flat, real = (ReplayBuffer.open(store) for store in (simulated(experiment), redrawn(experiment, scene)))
    few = experiment.config.real_episodes
    first_real = flat.n_episodes - few
    if first_real < 1:
        raise BadInput(f"real_episodes must be below the dataset's {flat.n_episodes}; got {few}")
    made_of = {"dataset": flat.content_hash(), "scene": real.content_hash(), "real_episodes": few}
    if place.exists():  # complete: it appears only when it is
        found = ReplayBuffer.open(place).attrs
        _require_same(place, (name for name, value in made_of.items() if found.get(name) != value))
        return place
    begun = partial_folder(place)
    with ReplayBufferWriter.create(begun, overwrite=True, attrs=made_of) as writer:
        for episode in range(flat.n_episodes):
            rows = flat.episode(episode)
            arrays = {name: flat.read(name, rows.start, rows.stop) for name in flat.names if name != "img"}
            frames = (flat if episode < first_real else real).images(rows.start, rows.stop)
            writer.append_episode({**arrays, "img": frames})
    pack(begun, place)
    return place


def _require_same(place: Path, changed: Iterable[str]) -> None:
    """Raise BadInput when a finished piece differs in `changed` from what would be made now."""
    if names := ", ".join(sorted(changed)):
        raise BadInput(f"{place} was made with another {names}; remove it, and it is made again")


@piece
def photographed(experiment: Experiment, scene: str) -> Path:
    """The photos of a scene: of random states, none of which is in the dataset."""
    place = place_of(experiment, "photos", scene)
    take_photos(place, settings(PhotosSettings, photography(experiment, scene)))
    return place


def photography(experiment: Experiment, scene: str) -> DictConfig:
    """How the photos of a scene are taken."""
    return experiment.stage("photos", "photos", seed=experiment.seed, **experiment.drawn(scene))


@piece
def specialist(experiment: Experiment, scene: str, seed: int) -> Path:
    """The run of the specialist that D3PO makes of the base editor."""
    place = place_of(experiment, "specialist", scene, seed)
    config = specialization(experiment, seed)
    train_editor(config, simulated(experiment), photographed(experiment, scene), place)
    return place


def specialization(experiment: Experiment, seed: int) -> DictConfig:
    """How the base editor becomes a specialist, but for its data."""
    return experiment.stage("train_editor", "train_editor", seed=seed)


@piece
def cut_editor(experiment: Experiment, scene: str, seed: int) -> Any:
    """CUT, trained on evenly spread frames of the dataset and on the photos."""
    chosen = translation(experiment, seed)
    buffer = ReplayBuffer.open(simulated(experiment))
    rows = np.unique(np.linspace(0, buffer.n_frames - 1, experiment.config.cut_frames).astype(int))
    frames = buffer.images_at(rows)
    photos = load_photos(photographed(experiment, scene), frames.shape[1])
    run = RunFolder.open(place_of(experiment, "cut", scene, seed), OmegaConf.structured(chosen))
    return train_cut(frames, photos.images, chosen, run)


def translation(experiment: Experiment, seed: int) -> CutSettings:
    """How CUT is trained."""
    return settings(CutSettings, {**experiment.config.stages.train_cut.settings, "seed": seed})


@piece
def edited(experiment: Experiment, kind: str, scene: str, seed: int) -> Path:
    """The dataset edited by `kind`: a transfer, the composed prompts, CUT, the base editor or the specialist."""
    place = place_of(experiment, "edits", kind, scene, seed)
    photos = photographed(experiment, scene)
    chosen, judge, device = read_config(editing(experiment, seed))
    dataset = ReplayBuffer.open(simulated(experiment))
    editor = _editor(experiment, kind, scene, seed, device)
    prompts = load_photos(photos, editor.image_size)
    asked = judge if kind == SPECIALIST else None  # no other arm has a gate
    if place.exists():  # complete: it appears only when it is
        found = ReplayBuffer.open(place).attrs.get(ATTRIBUTE, {})
        changed = differences(found, describe(dataset, editor, prompts, asked, chosen))
        _require_same(place, set(changed) - ROUNDING)
        return place
    augment(simulated(experiment), editor, place, chosen, photos=prompts, judge=asked)
    return place


def _editor(experiment: Experiment, kind: str, scene: str, seed: int, device: torch.device) -> Any:
    """What edits as `kind`."""
    if kind in UNTRAINED:
        return untrained_editor(kind, device)
    if kind == CUT:
        return cut_editor(experiment, scene, seed)
    editor = load_editor(specialist(experiment, scene, seed)) if kind == SPECIALIST else base_editor(experiment)
    return editor.to(device)


def base_editor(experiment: Experiment) -> Any:
    """What specialists start from."""
    return make(specialization(experiment, experiment.seed).editor)


def editing(experiment: Experiment, seed: int) -> DictConfig:
    """How frames are edited, but for the data and the editor: whether the gate counts is up to each arm's policy."""
    return experiment.stage("augment", "augment", seed=seed, keep_refused=True)


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


def trial(experiment: Experiment, unit: Unit) -> DictConfig:
    """How the unit's policy is evaluated: all units of a scene from the same starts."""
    return experiment.stage("evaluate", "evaluate", **experiment.drawn(unit.scene))


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
