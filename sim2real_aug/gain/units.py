"""One unit of the experiment, from its materials to its record.

A record is a JSON file that stands by itself: what was compared, every episode's result, the plan and the versions
that gave it. It outlives the run folder, so that a table may be filled over several runs and machines.
"""

from __future__ import annotations

import copy
import json
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import sim2real_aug
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.arms import ARMS, SPECIALIST, Unit
from sim2real_aug.gain.experiment import Experiment
from sim2real_aug.gain.materials import Specialist
from sim2real_aug.gain.plan import plan_differences, proxy_stages
from sim2real_aug.gain.trials import Evaluation, Policy, Proxy, sources
from sim2real_aug.runs import RunFolder, write_text_atomically

Record = dict[str, Any]


def read_record(records: Path, unit: Unit, plan: Mapping[str, Any]) -> Record | None:
    """The unit's record, None when there is none yet. Raises BadInput for one of another plan."""
    file = records / unit.file_name
    if not file.exists():
        return None
    try:
        record: Record = json.loads(file.read_text())
        changed = plan_differences(unit, record["plan"], plan)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{file} is not a record of gain; remove it, and the unit is measured again"
        ) from error
    if changed:
        raise BadInput(
            f"{file} was measured with another {', '.join(changed)}; give another --records folder, or --overwrite "
            "to measure again"
        )
    return record


def measure_unit(experiment: Experiment, unit: Unit, plan: Mapping[str, Any], records: Path) -> None:
    """Write the unit's record, or add the proxy to one that has none; the closed loop is written before the proxy."""
    record = read_record(records, unit, plan)
    if record is None:
        record = _closed_loop(experiment, unit, plan)
        _write(records, unit, record)
    if experiment.config.proxy and record["proxy"] is None:
        start = time.monotonic()
        record["proxy"] = experiment.get(Proxy(unit))
        record["seconds"]["proxy"] = round(time.monotonic() - start, 1)
        added = {name: plan["stages"][name] for name in proxy_stages(unit)}
        record["plan"]["stages"] |= added  # the rest of the plan is that of the closed loop
        _write(records, unit, record)


def _closed_loop(experiment: Experiment, unit: Unit, plan: Mapping[str, Any]) -> Record:
    """The record of a trained and evaluated policy, without a proxy."""
    start = time.monotonic()
    sources(experiment, unit)
    materials = time.monotonic() - start
    summary = _summary(experiment.get(Policy.of(unit)))
    evaluated = experiment.get(Evaluation(unit))
    trained_editor = ARMS[unit.arm].edits == SPECIALIST
    return {
        "arm": unit.arm,
        "scene": unit.scene,
        "seed": unit.seed,
        "evaluation": {key: value for key, value in evaluated.items() if key != "picture"},
        "proxy": None,
        "policy": summary,
        "specialist": _summary(experiment.get(Specialist(unit.scene, unit.seed))) if trained_editor else None,
        "seconds": {  # materials: of what was still to make; the others whole, over all sessions
            "materials": round(materials, 1),
            "training": summary["seconds"],
            "evaluation": evaluated["seconds"],
        },
        "version": sim2real_aug.__version__,
        "git": git_revision(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "plan": copy.deepcopy(dict(plan)),
    }


def _write(records: Path, unit: Unit, record: Record) -> None:
    records.mkdir(parents=True, exist_ok=True)
    write_text_atomically(records / unit.file_name, json.dumps(record, indent=1) + "\n")


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
