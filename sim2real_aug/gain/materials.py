"""What the arms are made of: stores, photos, editors and edited stores, each made once in a folder.

Each material is a class whose fields say which one it is; `Experiment.get` makes it when it is not there, and one that
was cut off is taken up by the command that it calls. Materials are shared: all arms of a scene have its photos, both
specialist arms one store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.augment.classical import UNTRAINED, untrained_editor
from sim2real_aug.augment.engine import augment, engine_of
from sim2real_aug.augment.provenance import describe, differences
from sim2real_aug.augment.settings import read_config
from sim2real_aug.augment.unpaired import CutSettings, train_cut
from sim2real_aug.config import make, settings
from sim2real_aug.d3po.trainer import train_editor
from sim2real_aug.data import ReplayBuffer, load_photos
from sim2real_aug.data.replay_buffer import ATTRIBUTE
from sim2real_aug.data.sequences import evenly_spaced
from sim2real_aug.data.writer import building
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.composition import load_prompts
from sim2real_aug.envs.photos import PhotosSettings, take_photos
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import CUT, SPECIALIST
from sim2real_aug.gain.experiment import Experiment
from sim2real_aug.runs import RunFolder

ROUNDING = {"version", "precision"}  # of an edited store, beside which its frames are the same or nearly so


@dataclass(frozen=True)
class Episodes:
    """The episodes that all arms start from: the user's, or simulated ones."""

    stage: ClassVar[str] = "simulate"

    def place(self, experiment: Experiment) -> Path:
        return experiment.material() / "sim.zarr"

    def config(self, experiment: Experiment) -> DictConfig:
        return experiment.stage(self.stage, "simulate", seed=experiment.seed, size=frame_size(experiment))

    def is_made(self, experiment: Experiment) -> bool:
        return experiment.dataset is not None or self.place(experiment).exists()

    def make(self, experiment: Experiment) -> str | Path:
        if experiment.dataset is not None:
            return experiment.dataset
        chosen = settings(SimulateSettings, self.config(experiment))
        return str(simulate(self.place(experiment), chosen)["path"])


def frame_size(experiment: Experiment) -> int:
    """The height and width of all frames: what the policy takes, whose dataset may be the user's."""
    return int(experiment.stage("train_policy", "train_policy").policy.model.image_size)


@dataclass(frozen=True)
class Redrawn:
    """The same episodes drawn in another domain."""

    stage: ClassVar[str] = "redraw"
    domain: str

    def place(self, experiment: Experiment) -> Path:
        return experiment.material(self.domain) / "redrawn.zarr"

    def config(self, experiment: Experiment) -> DictConfig:
        drawn = {**experiment.drawn(self.domain), "size": frame_size(experiment)}
        config = experiment.stage(self.stage, "simulate", seed=experiment.seed, **drawn)
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "source"])

    def is_made(self, experiment: Experiment) -> bool:
        return self.place(experiment).exists()

    def make(self, experiment: Experiment) -> Path:
        chosen = dict[str, Any](source=f"replay:{experiment.get(Episodes())}")
        chosen |= {str(key): value for key, value in self.config(experiment).items()}
        simulate(self.place(experiment), settings(SimulateSettings, chosen))
        return self.place(experiment)


@dataclass(frozen=True)
class CoTrained:
    """The same episodes, the last few of them as the scene looks: as teleoperation on the real bench adds.

    All but the frames is the dataset's in every episode, so that each teaches what the other arms' episodes do.
    """

    scene: str

    def place(self, experiment: Experiment) -> Path:
        return experiment.material(self.scene) / "cotrained.zarr"

    def make(self, experiment: Experiment) -> Path:
        place = self.place(experiment)
        flat, real = (ReplayBuffer.open(experiment.get(store)) for store in (Episodes(), Redrawn(self.scene)))
        few = experiment.config.real_episodes
        first_real = flat.n_episodes - few
        if first_real < 1:
            raise BadInput(f"real_episodes must be below the dataset's {flat.n_episodes}; got {few}")
        made_of = {"dataset": flat.content_hash(), "scene": real.content_hash(), "real_episodes": few}
        if place.exists():  # complete: it appears only when it is
            found = ReplayBuffer.open(place).attrs
            _require_same(place, (name for name, value in made_of.items() if found.get(name) != value))
            return place
        with building(place, attrs=made_of) as writer:
            for episode in range(flat.n_episodes):
                rows = flat.episode(episode)
                arrays = {name: flat.read(name, rows.start, rows.stop) for name in flat.names if name != "img"}
                frames = (flat if episode < first_real else real).images(rows.start, rows.stop)
                writer.append_episode({**arrays, "img": frames})
        return place


def _require_same(place: Path, changed: Iterable[str]) -> None:
    """Raise BadInput when a finished piece differs in `changed` from what would be made now."""
    if names := ", ".join(sorted(changed)):
        raise BadInput(f"{place} was made with another {names}; remove it, and it is made again")


@dataclass(frozen=True)
class Photographs:
    """The photos of a scene: of random states, none of which is in the dataset."""

    stage: ClassVar[str] = "photos"
    scene: str

    def place(self, experiment: Experiment) -> Path:
        return experiment.material(self.scene) / "photos"

    def config(self, experiment: Experiment) -> DictConfig:
        return experiment.stage(self.stage, "photos", seed=experiment.seed, **experiment.drawn(self.scene))

    def is_made(self, experiment: Experiment) -> bool:
        return self.place(experiment).exists()

    def make(self, experiment: Experiment) -> Path:
        take_photos(self.place(experiment), settings(PhotosSettings, self.config(experiment)))
        return self.place(experiment)


@dataclass(frozen=True)
class Specialist:
    """The run of the specialist that D3PO makes of the base editor."""

    stage: ClassVar[str] = "train_editor"
    scene: str
    seed: int

    def place(self, experiment: Experiment) -> Path:
        return experiment.material(self.scene) / f"specialist-{self.seed}"

    def config(self, experiment: Experiment) -> DictConfig:
        return experiment.stage(self.stage, "train_editor", seed=self.seed)

    def is_made(self, experiment: Experiment) -> bool:
        return RunFolder(self.place(experiment)).is_finished

    def make(self, experiment: Experiment) -> Path:
        photos = experiment.get(Photographs(self.scene))
        train_editor(self.config(experiment), experiment.get(Episodes()), photos, self.place(experiment))
        return self.place(experiment)


@dataclass(frozen=True)
class BaseEditor:
    """What specialists start from."""

    def place(self, experiment: Experiment) -> None:
        return None

    def make(self, experiment: Experiment) -> Any:
        return make(experiment.stage(Specialist.stage, "train_editor", seed=experiment.seed).editor)


@dataclass(frozen=True)
class Cut:
    """CUT, trained on evenly spread frames of the dataset and on the photos."""

    stage: ClassVar[str] = "train_cut"
    scene: str
    seed: int

    def place(self, experiment: Experiment) -> Path:
        return experiment.material(self.scene) / f"cut-{self.seed}"

    def config(self, experiment: Experiment) -> CutSettings:
        return experiment.settings(self.stage, CutSettings, seed=self.seed)

    def is_made(self, experiment: Experiment) -> bool:
        return RunFolder(self.place(experiment)).is_finished

    def make(self, experiment: Experiment) -> Any:
        chosen = self.config(experiment)
        buffer = ReplayBuffer.open(experiment.get(Episodes()))
        rows = evenly_spaced(buffer.n_frames, experiment.config.cut_frames)
        frames = buffer.images_at(rows)
        photos = load_photos(experiment.get(Photographs(self.scene)), frames.shape[1])
        run = RunFolder.open(self.place(experiment), OmegaConf.structured(chosen))
        return train_cut(frames, photos.images, chosen, run)


@dataclass(frozen=True)
class Edits:
    """The dataset edited by `kind`: a transfer, the composed prompts, CUT, the base editor or the specialist."""

    stage: ClassVar[str] = "augment"
    kind: str
    scene: str
    seed: int

    def place(self, experiment: Experiment) -> Path:
        return experiment.material(self.scene) / f"{self.kind}-{self.seed}.zarr"

    def config(self, experiment: Experiment) -> DictConfig:
        """Whether the gate counts is up to each arm's policy."""
        return experiment.stage(self.stage, "augment", seed=self.seed, keep_refused=True)

    def is_made(self, experiment: Experiment) -> bool:
        return self.place(experiment).exists()

    def make(self, experiment: Experiment) -> Path:
        place, dataset = self.place(experiment), experiment.get(Episodes())
        config = self.config(experiment)
        chosen, judge, device = read_config(config)
        editor = self.editor(experiment, device)
        height, width = ReplayBuffer.open(dataset).array("img").shape[1:3]
        prompts = load_prompts(experiment.get(Photographs(self.scene)), editor, height, width)
        asked = judge if self.kind == SPECIALIST else None  # no other arm has a gate
        if place.exists():  # complete: it appears only when it is
            found = ReplayBuffer.open(place).attrs.get(ATTRIBUTE, {})
            record = describe(ReplayBuffer.open(dataset), editor, prompts, asked, chosen)
            _require_same(place, set(differences(found, record)) - ROUNDING)
        else:
            augment(dataset, editor, place, chosen, photos=prompts, judge=asked, engine=engine_of(config))
        return place

    def editor(self, experiment: Experiment, device: torch.device) -> Any:
        """What edits."""
        if self.kind in UNTRAINED:
            return untrained_editor(self.kind, device)
        if self.kind == CUT:
            return experiment.get(Cut(self.scene, self.seed))
        if self.kind == SPECIALIST:
            return load_editor(experiment.get(Specialist(self.scene, self.seed))).to(device)
        return experiment.get(BaseEditor()).to(device)
