"""The arms of the experiment: policies of the same architecture and budget that differ in the frames they see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sim2real_aug.errors import unknown_name

SIM_ONLY, BASE, SPECIALIST, ORACLE = "sim_only", "base", "specialist", "oracle"
RANDOMIZED, CUT, COMPOSED = "randomized", "cut", "composed"
FEW, ALL = "few", "all"


@dataclass(frozen=True)
class Arm:
    """What a policy learns from.

    real: which of the dataset's episodes are drawn as the scene looks: ALL, the last FEW, or none. edits: who made
    the frames that are mixed in, None for none. use_gate: edits that failed the quality gate are left out.
    color_jitter: of the training frames.
    """

    real: str | None = None
    edits: str | None = None
    use_gate: bool = False
    color_jitter: bool = False

    @property
    def knows_scene(self) -> bool:
        """Whether what it learns from depends on the scene."""
        return self.real is not None or self.edits not in (None, RANDOMIZED)


ARMS: dict[str, Arm] = {
    SIM_ONLY: Arm(),
    "color_jitter": Arm(color_jitter=True),
    RANDOMIZED: Arm(edits=RANDOMIZED),
    "reinhard": Arm(edits="reinhard"),
    "histogram": Arm(edits="histogram"),
    CUT: Arm(edits=CUT),
    COMPOSED: Arm(edits=COMPOSED),
    BASE: Arm(edits=BASE),
    SPECIALIST: Arm(edits=SPECIALIST),
    "specialist_gate": Arm(edits=SPECIALIST, use_gate=True),
    "cotrain": Arm(real=FEW),
    ORACLE: Arm(real=ALL),
}


@dataclass(frozen=True)
class Unit:
    """One arm in one scene (a domain) with one seed: what is trained, evaluated and recorded by itself."""

    arm: str
    scene: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm} in {self.scene}, seed {self.seed}"

    @property
    def file_name(self) -> str:
        return f"{self.scene.replace('/', '-')}-{self.arm}-{self.seed}.json"


def units_of(scenes: Iterable[str], arms: Iterable[str], seeds: Iterable[int]) -> Iterator[Unit]:
    """All units, scene by scene, so that a table of whole scenes comes first. BadInput for an unknown arm."""
    arms, seeds = list(arms), list(seeds)
    for arm in arms:
        if arm not in ARMS:
            raise unknown_name("arm", arm, ARMS)
    for scene in scenes:
        for seed in seeds:
            for arm in arms:
                yield Unit(arm, scene, seed)
