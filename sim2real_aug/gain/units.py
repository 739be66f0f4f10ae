"""One unit of the experiment, from its materials to its record.

A record is a JSON file that stands by itself: what was compared, every episode's result, the plan and the versions
that gave it. It outlives the run folder, so that a table may be filled over several runs and machines.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import sim2real_aug
from sim2real_aug.config import settings
from sim2real_aug.envs.rendering import scene_records
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import ARMS, SPECIALIST, Unit
from sim2real_aug.gain.materials import Experiment, learner, policy, redrawn, sources, specialist
from sim2real_aug.gain.proxy import ProxySettings, measure_proxy
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.evaluation import EvaluateSettings, evaluate
from sim2real_aug.policies.trainer import TrainSettings
from sim2real_aug.runs import RunFolder, differing_keys, write_text_atomically

Record = dict[str, Any]


def read_record(records: Path, unit: Unit, plan: Mapping[str, Any]) -> Record | None:
    """The unit's record, None when there is none yet. Raises BadInput for one of another plan; settings that came
    later than the record count as they were."""
    file = records / unit.file_name
    if not file.exists():
        return None
    try:
        record: Record = json.loads(file.read_text())
        changed = differing_keys(record["plan"], _known_to(record["plan"], plan))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{file} is not a record of gain; remove it, and the unit is measured again"
        ) from error
    if changed:
        raise BadInput(
            f"{file} was measured with another {', '.join(changed)}; give another --records folder, or --overwrite "
            "to measure again"
        )
    return record


def _known_to(old: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `plan` whose keys `old` has too."""
    return {
        key: _known_to(old[key], value) if isinstance(value, dict) and isinstance(old[key], dict) else value
        for key, value in plan.items()
        if key in old
    }


def measure_unit(experiment: Experiment, unit: Unit, plan: Mapping[str, Any], records: Path) -> None:
    """Write the unit's record, or add the proxy to one that has none; the closed loop is written before the proxy."""
    record = read_record(records, unit, plan)
    if record is None:
        record = _closed_loop(experiment, unit, plan)
        _write(records, unit, record)
    if experiment.config.proxy:
        start = time.monotonic()
        record["proxy"] = measure_unit_proxy(experiment, unit)
        record["seconds"]["proxy"] = round(time.monotonic() - start, 1)
        record["plan"] = dict(plan)
        _write(records, unit, record)


def _closed_loop(experiment: Experiment, unit: Unit, plan: Mapping[str, Any]) -> Record:
    """The record of a trained and evaluated policy, without a proxy."""
    start = time.monotonic()
    trained = policy(experiment, unit)
    after_training = time.monotonic()
    evaluated = evaluate(trained, evaluation(experiment, unit))
    return {
        "arm": unit.arm,
        "scene": unit.scene,
        "seed": unit.seed,
        "evaluation": {key: value for key, value in evaluated.items() if key != "picture"},
        "proxy": None,
        "policy": _summary(trained),
        "specialist": _summary(specialist(experiment, unit.scene, unit.seed))
        if ARMS[unit.arm].edits == SPECIALIST
        else None,
        "seconds": {
            "materials_and_training": round(after_training - start, 1),
            "evaluation": round(time.monotonic() - after_training, 1),
        },
        "scenes": scene_records((unit.scene,), experiment.config.config_dir),
        "version": sim2real_aug.__version__,
        "git": git_revision(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "plan": dict(plan),
    }


def _write(records: Path, unit: Unit, record: Record) -> None:
    records.mkdir(parents=True, exist_ok=True)
    write_text_atomically(records / unit.file_name, json.dumps(record, indent=1) + "\n")


def evaluation(experiment: Experiment, unit: Unit) -> EvaluateSettings:
    """All units of a scene are evaluated from the same starts."""
    return settings(
        EvaluateSettings, experiment.stage("evaluate", "evaluate", **experiment.drawn(unit.scene))
    )


def measure_unit_proxy(experiment: Experiment, unit: Unit) -> dict[str, float]:
    config = learner(experiment, unit)
    model: PolicySettings = settings(PolicySettings, config.policy.model)
    training = settings(TrainSettings, {**config.policy.training, "seed": unit.seed})
    chosen = settings(ProxySettings, experiment.config.stages.proxy.settings)
    return measure_proxy(sources(experiment, unit), redrawn(experiment, unit.scene), model, training, chosen)


def _summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run, but for the places in it, which mean nothing elsewhere."""
    whole = RunFolder(run).summary() or {}
    return {key: value for key, value in whole.items() if not isinstance(value, str)}


def git_revision() -> str | None:
    """The commit of the checkout that this package is in, with a + when files differ from it; None elsewhere."""
    command = ["git", "-C", str(Path(sim2real_aug.__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
