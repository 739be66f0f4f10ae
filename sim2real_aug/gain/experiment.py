"""The experiment that units belong to: its folder, the settings of its stages, and what was made for it already."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import command_config, settings
from sim2real_aug.errors import BadInput
from sim2real_aug.locks import held

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Material(Protocol[T_co]):
    """What units are made of; equal ones are one, which all units share."""

    def place(self, experiment: Experiment) -> Path | None:
        """Where it is kept; None for what is in memory alone."""

    def make(self, experiment: Experiment) -> T_co:
        """Make it where it is not there, or take it up where it was cut off. Raises BadInput for one of other
        settings."""


class Piece(Material[T_co], Protocol[T_co]):
    """A material that a stage of `configs/gain.yaml` makes."""

    stage: ClassVar[str]

    def config(self, experiment: Experiment) -> Any:
        """All settings that it is made with, defaults included, but for the places of other pieces: a DictConfig or a
        dataclass."""

    def is_made(self, experiment: Experiment) -> bool:
        """Whether making it takes no time; a store of frames that is begun counts."""


@dataclass(frozen=True)
class Experiment:
    """folder: of all pieces. config: with `stages`, as `configs/gain.yaml`. dataset: the user's episodes, None:
    simulated ones. seed: of episodes and photos, which all units share. materials: folder of all pieces but the
    policies, None: `folder` too. made: what was asked for before."""

    folder: Path
    config: DictConfig
    dataset: str | Path | None = None
    seed: int = 0
    materials: Path | None = None
    made: dict[Hashable, Any] = field(default_factory=dict)

    def get(self, material: Material[T]) -> T:
        """What `material` is, made or looked for once in the life of an experiment; another process that makes it is
        waited for."""
        return self.once(cast(Hashable, material), partial(self._make, material))

    def _make(self, material: Material[T]) -> T:
        place = material.place(self)
        with nullcontext() if place is None else held(place, wait=True):
            return material.make(self)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gave when it was first asked for `key`."""
        if key not in self.made:
            self.made[key] = make()
        return cast(T, self.made[key])

    def stage(self, name: str, command: str, **fixed: object) -> DictConfig:
        """The configuration of `command` as stage `name` has it; composed once, as many units ask for the same.

        fixed: what the experiment decides. Raises BadInput where the stage's settings say otherwise.
        """
        compose = partial(self._composed, name, command, fixed)
        return self.once(("stage", name, *fixed.items()), compose).copy()

    def settings(self, name: str, kind: type[T], **fixed: object) -> T:
        """The settings of a stage that is no command, as `stage`."""
        chosen: Any = self._chosen(name, fixed)
        return settings(kind, {**chosen, **fixed}, f"stages.{name}.settings")

    def _composed(self, name: str, command: str, fixed: dict[str, object]) -> DictConfig:
        chosen = self._chosen(name, fixed)
        try:
            return command_config(command, chosen, fixed, self.config.get("config_dir"))
        except BadInput as error:
            raise BadInput(f"stages.{name}.settings: {error}") from error

    def _chosen(self, name: str, fixed: dict[str, object]) -> DictConfig:
        """A stage's settings. Raises BadInput where they contradict `fixed`."""
        chosen: DictConfig = self.config.stages[name].settings
        for setting, value in fixed.items():
            if (typed := OmegaConf.select(chosen, setting)) not in (None, value):
                raise BadInput(
                    f"stages.{name}.settings.{setting} is the experiment's to decide, here {value}; got {typed}: "
                    "leave it out"
                )
        return chosen

    def drawn(self, domain: str) -> dict[str, object]:
        """The keys of a command that say how frames are drawn."""
        return {"domain": domain, "config_dir": self.config.get("config_dir")}

    def material(self, scene: str | None = None) -> Path:
        """The folder of a scene's materials, or of those that all scenes share."""
        folder = self.materials or self.folder
        return folder if scene is None else folder / folder_name(scene)


def folder_name(scene: str) -> str:
    return scene.replace("/", "-")
