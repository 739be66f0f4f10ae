"""What a unit is made of, known before anything is made: its pieces, how long they take, what decides its figures."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.editor.composition import COMPOSITION
from sim2real_aug.envs.rendering import scene_records
from sim2real_aug.gain.arms import ARMS, BASE, COMPOSED, CUT, FEW, RANDOMIZED, SPECIALIST, Unit
from sim2real_aug.gain.experiment import Experiment, Piece
from sim2real_aug.gain.materials import BaseEditor, Cut, Edits, Episodes, Photographs, Redrawn, Specialist
from sim2real_aug.gain.trials import Evaluation, Policy, Proxy
from sim2real_aug.judges import load_judge
from sim2real_aug.runs import is_one_of

Plan = Mapping[str, Any]
OF_POLICIES = (Policy.stage, Evaluation.stage, Proxy.stage)  # stages that make no material
KINDS = (Episodes, Redrawn, Photographs, Specialist, Cut, Edits)
STAGES = {*(kind.stage for kind in KINDS), *OF_POLICIES}
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
    "stages.*.tracking",
    "stages.augment.*engine",
    "stages.augment.*precision",
    "stages.evaluate.*picture_episodes",
    "stages.evaluate.*video_episodes",
    "scenes.*.variant",
)


def pieces_of(unit: Unit, proxy: bool, closed_loop: bool = True) -> list[Piece[Any]]:
    """The pieces of a unit; those that it shares with others are equal to theirs."""
    arm, scene, seed = ARMS[unit.arm], unit.scene, unit.seed
    pieces: list[Piece[Any]] = [Episodes()]
    if closed_loop:
        pieces += [Policy.of(unit), Evaluation(unit)]
    if arm.real is not None or proxy:
        pieces.append(Redrawn(scene))
    if proxy:
        pieces.append(Proxy(unit))
    if arm.edits == RANDOMIZED:
        pieces.append(Redrawn(RANDOMIZED))
    elif arm.edits is not None:
        pieces += [Photographs(scene), Edits(arm.edits, scene, seed)]
    if arm.edits == SPECIALIST:
        pieces.append(Specialist(scene, seed))
    if arm.edits == CUT:
        pieces.append(Cut(scene, seed))
    return pieces


def minutes(experiment: Experiment, units: Iterable[Unit], evaluated: Container[Unit] = ()) -> float:
    """What `units` take by the stages' budgets; a piece that several of them share counts once, one that is there not
    at all (nor a store of frames that is begun).

    evaluated: those of them that lack only the proxy.
    """
    proxy, stages = experiment.config.proxy, experiment.config.stages
    pieces = {piece for unit in units for piece in pieces_of(unit, proxy, closed_loop=unit not in evaluated)}
    left = [piece.stage for piece in pieces if not piece.is_made(experiment)]
    return sum(float(stages[stage].budget_seconds) for stage in left) / 60


def plan_of(experiment: Experiment, unit: Unit) -> dict[str, Any]:
    """All that decides a unit's figures beside its arm, scene and seed, as JSON has it.

    Only what the unit uses: another editor leaves the plan of an arm that edits nothing as it was.
    """
    arm, config = ARMS[unit.arm], experiment.config
    stages = _stages_of(unit, config.proxy)
    if experiment.dataset is not None:
        del stages["simulate"]
    plan: dict[str, Any] = {
        "stages": {name: _plain(piece.config(experiment)) for name, piece in stages.items()},
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


def _stages_of(unit: Unit, proxy: bool) -> dict[str, Piece[Any]]:
    """The pieces of a unit by the names of their stages; frames in random scenes have a name of their own."""
    named = {}
    for piece in pieces_of(unit, proxy):
        random = piece == Redrawn(RANDOMIZED) and unit.scene != RANDOMIZED
        named[f"{piece.stage}_{RANDOMIZED}" if random else piece.stage] = piece
    return named


def _plain(config: Any) -> dict[str, Any]:
    """A configuration, or settings, as plain containers."""
    if isinstance(config, DictConfig):
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    return asdict(config)


def _scene(experiment: Experiment, scene: str) -> dict[str, Any]:
    return experiment.once(("scene", scene), lambda: scene_records((scene,), experiment.config.config_dir))


def _dataset(experiment: Experiment) -> str | None:
    dataset = experiment.dataset
    return None if dataset is None else experiment.once("dataset", ReplayBuffer.open(dataset).content_hash)


def _weights(experiment: Experiment) -> dict[str, str]:
    """The hashes of what edits and judges."""
    return experiment.once(
        "weights",
        lambda: {
            "editor": weights_hash(experiment.get(BaseEditor()).components),
            "judge": weights_hash({"judge": load_judge()}),
        },
    )
