"""What is measured of a unit: a policy that learned from its arm's frames, in closed loop and by the proxy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig

from sim2real_aug.config import settings
from sim2real_aug.gain.arms import ALL, ARMS, RANDOMIZED, Unit
from sim2real_aug.gain.experiment import Experiment, folder_name
from sim2real_aug.gain.materials import CoTrained, Edits, Episodes, Redrawn
from sim2real_aug.gain.proxy import ProxySettings, measure_proxy
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.evaluation import EvaluateSettings, evaluate
from sim2real_aug.policies.trainer import TrainSettings, train_policy
from sim2real_aug.runs import RunFolder


def sources(experiment: Experiment, unit: Unit) -> tuple[str | Path, Path | None]:
    """The dataset of the unit's policy and the edits that are mixed in."""
    arm = ARMS[unit.arm]
    dataset: str | Path = experiment.get(Episodes())
    if arm.real is not None:
        dataset = experiment.get(Redrawn(unit.scene) if arm.real == ALL else CoTrained(unit.scene))
    if arm.edits is None:
        return dataset, None
    if arm.edits == RANDOMIZED:
        return dataset, experiment.get(Redrawn(RANDOMIZED))
    return dataset, experiment.get(Edits(arm.edits, unit.scene, unit.seed))


@dataclass(frozen=True)
class Policy:
    """The run of a unit's policy. scene: None of an arm that does not know it, which has one for all scenes."""

    stage: ClassVar[str] = "train_policy"
    arm: str
    scene: str | None
    seed: int

    @classmethod
    def of(cls, unit: Unit) -> Policy:
        return cls(unit.arm, unit.scene if ARMS[unit.arm].knows_scene else None, unit.seed)

    def place(self, experiment: Experiment) -> Path:
        folder = experiment.folder if self.scene is None else experiment.folder / folder_name(self.scene)
        return folder / f"policy-{self.arm}-{self.seed}"

    def config(self, experiment: Experiment) -> DictConfig:
        arm = ARMS[self.arm]
        options = {"use_gate": arm.use_gate, "color_jitter": arm.color_jitter}
        fixed = {f"policy.training.{name}": value for name, value in options.items()}
        return experiment.stage(self.stage, "train_policy", seed=self.seed, **fixed)

    def is_made(self, experiment: Experiment) -> bool:
        return RunFolder(self.place(experiment)).is_finished

    def make(self, experiment: Experiment) -> Path:
        place = self.place(experiment)
        dataset, augmented = sources(experiment, Unit(self.arm, self.scene or "", self.seed))
        train_policy(self.config(experiment), dataset, augmented=augmented, out=place)
        return place


@dataclass(frozen=True)
class Evaluation:
    """The unit's policy in closed loop: all units of a scene from the same starts."""

    stage: ClassVar[str] = "evaluate"
    unit: Unit

    def config(self, experiment: Experiment) -> DictConfig:
        return experiment.stage(self.stage, "evaluate", **experiment.drawn(self.unit.scene))

    def place(self, experiment: Experiment) -> Path:
        chosen = settings(EvaluateSettings, self.config(experiment))
        return chosen.folder(Policy.of(self.unit).place(experiment))

    def is_made(self, experiment: Experiment) -> bool:
        return RunFolder(self.place(experiment)).is_finished

    def make(self, experiment: Experiment) -> dict[str, Any]:
        policy = experiment.get(Policy.of(self.unit))
        return evaluate(policy, settings(EvaluateSettings, self.config(experiment)))


@dataclass(frozen=True)
class Proxy:
    """The proxy's errors for the unit (`gain/proxy.py`)."""

    stage: ClassVar[str] = "proxy"
    unit: Unit

    def place(self, experiment: Experiment) -> None:
        return None

    def config(self, experiment: Experiment) -> ProxySettings:
        return experiment.settings(self.stage, ProxySettings)

    def is_made(self, experiment: Experiment) -> bool:
        return False

    def make(self, experiment: Experiment) -> dict[str, float]:
        policy = Policy.of(self.unit).config(experiment)
        own = {"seed": self.unit.seed, "device": policy.device}
        training = settings(TrainSettings, {**policy.policy.training, **own})
        real = experiment.get(Redrawn(self.unit.scene))
        model = settings(PolicySettings, policy.policy.model)
        return measure_proxy(sources(experiment, self.unit), real, model, training, self.config(experiment))
