"""What a unit is made of, known before anything is made: its pieces, how long they take, what decides its figures."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.augment.unpaired import CutSettings
from sim2real_aug.config import settings
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.editor import load_editor
from sim2real_aug.gain.arms import ARMS, BASE, CUT, FEW, RANDOMIZED, SPECIALIST, Unit
from sim2real_aug.gain.materials import Experiment, piece
from sim2real_aug.gain.proxy import ProxySettings
from sim2real_aug.judges import load_judge

WITHOUT_COMMAND = {"train_cut": CutSettings, "proxy": ProxySettings}  # stages that only the experiment has


def pieces_of(unit: Unit, proxy: bool, closed_loop: bool = True) -> dict[tuple[object, ...], str]:
    """The stage that makes each piece of a unit; units that share a piece have its key in common."""
    arm, scene, seed = ARMS[unit.arm], unit.scene, unit.seed
    pieces: dict[tuple[object, ...], str] = {("episodes",): "simulate"}
    if closed_loop:
        pieces["policy", unit.arm, scene if arm.knows_scene else None, seed] = "train_policy"
        pieces["evaluation", unit] = "evaluate"
    if arm.real is not None or proxy:
        pieces["redrawn", scene] = "redraw"
    if proxy:
        pieces["proxy", unit] = "proxy"
    if arm.edits == RANDOMIZED:
        pieces["redrawn", RANDOMIZED] = "redraw"
    elif arm.edits is not None:
        pieces["photos", scene] = "photos"
        pieces["edits", arm.edits, scene, seed] = "augment"
    if arm.edits == SPECIALIST:
        pieces["specialist", scene, seed] = "train_editor"
    if arm.edits == CUT:
        pieces["cut", scene, seed] = "train_cut"
    return pieces


def minutes(config: DictConfig, units: Iterable[Unit], evaluated: Container[Unit] = ()) -> float:
    """What `units` take by the stages' budgets; a piece that several of them share counts once.

    evaluated: those of them that lack only the proxy.
    """
    pieces: dict[tuple[object, ...], str] = {}
    for unit in units:
        pieces |= pieces_of(unit, config.proxy, closed_loop=unit not in evaluated)
    return sum(float(config.stages[stage].budget_seconds) for stage in pieces.values()) / 60


def plan_of(experiment: Experiment, unit: Unit) -> dict[str, Any]:
    """All that decides a unit's figures beside its arm, scene and seed, as JSON has it.

    Only what the unit uses: another editor leaves the plan of an arm that edits nothing as it was.
    """
    arm, config = ARMS[unit.arm], experiment.config
    names = dict.fromkeys(pieces_of(unit, config.proxy).values())
    plan: dict[str, Any] = {
        "stages": {name: _resolved(experiment, name) for name in names},
        "dataset": _dataset(experiment),
    }
    if arm.edits in (BASE, SPECIALIST):
        plan["editor"] = _weights(experiment)["editor"]
    if arm.edits == SPECIALIST:
        plan["judge"] = _weights(experiment)["judge"]
    if arm.edits == CUT:
        plan["cut_frames"] = config.cut_frames
    if arm.real == FEW:
        plan["real_episodes"] = config.real_episodes
    return dict(json.loads(json.dumps(plan)))


@piece
def _resolved(experiment: Experiment, stage: str) -> Any:
    """The stage's whole configuration, defaults included."""
    if stage in WITHOUT_COMMAND:
        return asdict(settings(WITHOUT_COMMAND[stage], experiment.config.stages[stage].settings))
    command = {"redraw": "simulate"}.get(stage, stage)
    return OmegaConf.to_container(experiment.stage(stage, command), resolve=True)


@piece
def _dataset(experiment: Experiment) -> str | None:
    return None if experiment.dataset is None else ReplayBuffer.open(experiment.dataset).content_hash()


@piece
def _weights(experiment: Experiment) -> dict[str, str]:
    """The hashes of the weights that ship."""
    return {
        "editor": weights_hash(load_editor(None).components),
        "judge": weights_hash({"judge": load_judge()}),
    }
