"""What a unit is made of, known before anything is made: its pieces, how long they take, what decides its figures."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.config import settings
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.editor.composition import COMPOSITION
from sim2real_aug.envs.rendering import scene_records
from sim2real_aug.gain.arms import ARMS, BASE, COMPOSED, CUT, FEW, RANDOMIZED, SPECIALIST, Unit
from sim2real_aug.gain.materials import (
    Experiment,
    base_editor,
    editing,
    learner,
    photography,
    piece,
    place_of,
    place_of_policy,
    redrawing,
    simulation,
    specialization,
    translation,
    trial,
)
from sim2real_aug.gain.proxy import ProxySettings
from sim2real_aug.judges import load_judge
from sim2real_aug.policies.evaluation import EvaluateSettings
from sim2real_aug.runs import is_one_of

Piece = tuple[object, ...]
Plan = Mapping[str, Any]
# Settings that came later than the first records, and the value with which these were measured: a new setting of a
# command goes here, or every record from before it is refused.
ADDED = {
    "stages.train_policy.policy.model.prediction_type": "epsilon",
    "stages.train_policy.policy.training.landmark_weight": 0.0,
    "stages.augment.keep_refused": True,
    "stages.evaluate.allow_training_starts": False,
    "composition": 1,
}
# Settings that may differ between a record and today's plan: where and how fast something is done and what is drawn
# of it. The precision of edits and the variant of the path tracer move single values of a frame by a rounding or by
# noise, and `auto` picks by machine: a record made elsewhere stays one of this plan. In a plan the keys of a command
# follow its stage, in a configuration there is `settings` between them.
UNMEASURED = (
    "stages.*.config_dir",
    "stages.*.device",
    "stages.*.workers",
    "stages.augment.*precision",
    "stages.evaluate.*picture_episodes",
    "stages.evaluate.*video_episodes",
    "scenes.*.variant",
)


def pieces_of(unit: Unit, proxy: bool, closed_loop: bool = True) -> dict[Piece, str]:
    """The stage that makes each piece of a unit; units that share a piece have its key in common."""
    arm, scene, seed = ARMS[unit.arm], unit.scene, unit.seed
    pieces: dict[Piece, str] = {("episodes",): "simulate"}
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


def minutes(experiment: Experiment, units: Iterable[Unit], evaluated: Container[Unit] = ()) -> float:
    """What `units` take by the stages' budgets; a piece that several of them share counts once, one that is there not
    at all (nor a store of frames that is begun).

    evaluated: those of them that lack only the proxy.
    """
    config, pieces = experiment.config, dict[Piece, str]()
    for unit in units:
        pieces |= pieces_of(unit, config.proxy, closed_loop=unit not in evaluated)
    left = [stage for key, stage in pieces.items() if not _is_made(experiment, key)]
    return sum(float(config.stages[stage].budget_seconds) for stage in left) / 60


def _is_made(experiment: Experiment, key: Piece) -> bool:
    match key:
        case ("episodes",) if experiment.dataset is not None:
            return True
        case ("proxy", _):
            return False
        case ("policy", str(arm), scene, int(seed)):
            return (place_of_policy(experiment, Unit(arm, str(scene), seed)) / "summary.json").exists()
        case ("evaluation", Unit() as unit):
            chosen = settings(EvaluateSettings, trial(experiment, unit))
            return (chosen.folder(place_of_policy(experiment, unit)) / "summary.json").exists()
    place = place_of(experiment, *key)
    return (place / "summary.json").exists() if key[0] in ("specialist", "cut") else place.exists()


def plan_of(experiment: Experiment, unit: Unit) -> dict[str, Any]:
    """All that decides a unit's figures beside its arm, scene and seed, as JSON has it.

    Only what the unit uses: another editor leaves the plan of an arm that edits nothing as it was.
    """
    arm, config = ARMS[unit.arm], experiment.config
    stages = _stages_of(unit, config.proxy)
    if experiment.dataset is not None:
        del stages["simulate"]
    plan: dict[str, Any] = {
        "stages": {name: _settings_of(experiment, unit, key) for name, key in stages.items()},
        "dataset": _dataset(experiment),
        "scenes": _scene(experiment, unit.scene),
    }
    if arm.edits in (BASE, SPECIALIST):
        plan["editor"] = _weights(experiment)["editor"]
    if arm.edits in (BASE, SPECIALIST, COMPOSED):  # it finds the regions that prompts are composed of
        plan |= {"judge": _weights(experiment)["judge"], "composition": COMPOSITION}
    if arm.edits == CUT:
        plan["cut_frames"] = config.cut_frames
    if arm.real == FEW:
        plan["real_episodes"] = config.real_episodes
    return dict(json.loads(json.dumps(plan)))


def plan_differences(unit: Unit, old: Plan, new: Plan) -> list[str]:
    """Dotted names of the settings in which two plans of `unit` measure something else.

    A setting that `old` lacks counts as it was when `old` was measured: as ADDED says, else as null. Where only one
    of the plans has the proxy, what the proxy alone needs is not looked at.
    """
    apart = () if _has_proxy(old) == _has_proxy(new) else tuple(f"stages.{name}." for name in proxy_stages(unit))
    was, now = (
        {key: value for key, value in _flat(plan) if not key.startswith(apart) and not is_one_of(key, UNMEASURED)}
        for plan in (old, new)
    )
    was = {key: value for key, value in ADDED.items() if key in now} | was
    return sorted(key for key in was | now if was.get(key) != now.get(key))


def proxy_stages(unit: Unit) -> set[str]:
    """The stages of a unit's plan that only the proxy needs."""
    return set(_stages_of(unit, proxy=True)) - set(_stages_of(unit, proxy=False))


def _has_proxy(plan: Plan) -> bool:
    return "proxy" in plan["stages"]


def _flat(node: Plan, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _stages_of(unit: Unit, proxy: bool) -> dict[str, Piece]:
    """The pieces of a unit by the names of their stages; frames in random scenes have a name of their own."""
    named = {}
    for key, stage in pieces_of(unit, proxy).items():
        random = key == ("redrawn", RANDOMIZED) and unit.scene != RANDOMIZED
        named[f"{stage}_{RANDOMIZED}" if random else stage] = key
    return named


def _settings_of(experiment: Experiment, unit: Unit, key: Piece) -> Any:
    """All settings that the piece is made with, defaults included, but for the places of other pieces."""
    kind, seed = key[0], unit.seed
    if kind == "cut":
        return asdict(translation(experiment, seed))
    if kind == "proxy":
        return asdict(settings(ProxySettings, experiment.config.stages.proxy.settings))
    if kind == "redrawn":
        drawn = redrawing(experiment, str(key[1]))
        return {key: value for key, value in _plain(drawn).items() if key != "source"}
    made = {
        "episodes": partial(simulation, experiment),
        "photos": partial(photography, experiment, unit.scene),
        "specialist": partial(specialization, experiment, seed),
        "edits": partial(editing, experiment, seed),
        "policy": partial(learner, experiment, unit),
        "evaluation": partial(trial, experiment, unit),
    }
    return _plain(made[str(kind)]())


def _plain(config: DictConfig) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))


@piece
def _scene(experiment: Experiment, scene: str) -> dict[str, Any]:
    return scene_records((scene,), experiment.config.config_dir)


@piece
def _dataset(experiment: Experiment) -> str | None:
    return None if experiment.dataset is None else ReplayBuffer.open(experiment.dataset).content_hash()


@piece
def _weights(experiment: Experiment) -> dict[str, str]:
    """The hashes of what edits and judges."""
    return {
        "editor": weights_hash(base_editor(experiment).components),
        "judge": weights_hash({"judge": load_judge()}),
    }
