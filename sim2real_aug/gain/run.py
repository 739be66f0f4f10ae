"""The experiment: which units are left, how long they will take, and the table, plot and animations of what there is.

    sim2real-aug gain --out runs/gain --records my-records

Units whose record is there are not measured again, so that the table fills up over several runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import settings
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput, below_least, unknown_name
from sim2real_aug.gain.arms import Unit, units_of
from sim2real_aug.gain.experiment import Experiment
from sim2real_aug.gain.materials import Episodes
from sim2real_aug.gain.pictures import film, plot
from sim2real_aug.gain.plan import OF_POLICIES, STAGES, UNMEASURED, minutes, plan_of
from sim2real_aug.gain.table import as_json, markdown, rows_of
from sim2real_aug.gain.trials import Policy
from sim2real_aug.gain.units import Record, measure_unit, read_record
from sim2real_aug.policies.demonstrations import open_stores
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.evaluation import EvaluateSettings
from sim2real_aug.policies.starts import refuse_known_starts, starts_of
from sim2real_aug.policies.trainer import TrainSettings
from sim2real_aug.progress import say
from sim2real_aug.runs import RunFolder, differing_keys, is_one_of, write_text_atomically

# which units there are, what is measured of them, where their pieces are, and what their budgets were estimated for
CHOICE = ("scenes", "arms", "seeds", "proxy", "config_dir", "materials", "machine")
# a run goes on with others: its figures do not hang on them; of a dataset what is in it is in every plan, not its place
FREE = (*UNMEASURED, "stages.*.budget_seconds", "dataset")


@dataclass(frozen=True)
class GainSettings:
    """What `configs/gain.yaml` holds, checked; each field is explained there."""

    scenes: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    machine: str
    stages: Any
    dataset: str | None = None
    materials: str | None = None
    proxy: bool = True
    real_episodes: int = 8
    cut_frames: int = 2000
    config_dir: str | None = None

    def __post_init__(self) -> None:
        wrong = below_least(self, real_episodes=1, cut_frames=2)
        wrong += [f"{name} must name at least one" for name in ("scenes", "arms", "seeds") if not getattr(self, name)]
        wrong += [f"seeds must be 0 or more; got {seed}" for seed in self.seeds if seed < 0]
        stages = self.stages if isinstance(self.stages, dict) else {}
        for name in sorted(STAGES):
            stage = stages.get(name)
            if not (isinstance(stage, dict) and isinstance(stage.get("settings"), dict)):
                wrong.append(f"stages.{name}.settings must hold keys of that command, or be {{}}")
        if wrong:
            raise BadInput("; ".join(wrong))


@dataclass(frozen=True)
class Choice:
    """Which of the experiment's units to measure now; None: all of them."""

    scenes: Sequence[str] | None = None
    arms: Sequence[str] | None = None
    seeds: Sequence[int] | None = None


def run_gain(
    config: DictConfig,
    out: Path,
    records: Path | None = None,
    dataset: str | Path | None = None,
    choice: Choice | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure what the chosen units have no record of yet; the summary, saved with table.md and gain.png in `out`.

    records: folder of the records, None: out/records. overwrite: the chosen units are trained and measured again; when
    all are chosen, everything in `out` is made again. Raises BadInput, before anything is made or removed, for an
    unknown arm, scene or seed, a dataset that does not fit the policy, starts that are in it, records of another plan
    (also those of units that are not chosen); later for pieces in `out` of another plan.
    """
    records = out / "records" if records is None else records
    choice = choice or Choice()
    settings(GainSettings, config)
    planned, chosen = list(units_of(config.scenes, config.arms, config.seeds)), _chosen(config, choice)
    for scene in config.scenes:
        make_renderer(scene, config_dir=config.config_dir)
    config.dataset = None if dataset is None else str(dataset)
    frozen = OmegaConf.masked_copy(config, [str(key) for key in config if key not in CHOICE])
    materials = None if config.materials is None else Path(config.materials)
    if materials is not None:
        _require_same_materials(materials, frozen)
    experiment = Experiment(out, config, dataset, materials=materials)
    if dataset is not None:
        _check_dataset(experiment)
    plans = {unit: plan_of(experiment, unit) for unit in planned}
    kept = {unit: plan for unit, plan in plans.items() if not (overwrite and unit in chosen)}
    found = {unit: read_record(records, unit, plan) for unit, plan in kept.items()}
    evaluated = [unit for unit, record in found.items() if record is not None]
    left = [unit for unit in chosen if _is_left(found.get(unit), config.proxy)]
    everything = overwrite and choice == Choice()
    if everything:
        _refuse_other_units(out, planned)
    run = RunFolder.open(out, frozen, everything, FREE)
    _make_folder(records)
    if left and dataset is None:
        _refuse_known_starts(experiment)
    if overwrite:
        for unit in chosen:
            (records / unit.file_name).unlink(missing_ok=True)
            shutil.rmtree(Policy.of(unit).place(experiment), ignore_errors=True)
    if left:
        about = minutes(experiment, left, evaluated)
        say(f"{len(left)} of {len(planned)} units to measure, about {about:.0f} minutes on {config.machine}")
    for number, unit in enumerate(left, 1):
        say(f"[{number}/{len(left)}] {unit}")
        measure_unit(experiment, unit, plans[unit], records)
        _write_table(run, _recorded(records, plans))
    measured = _recorded(records, plans)
    if not measured:
        raise BadInput(f"{records} holds no record of this plan")
    return _report(experiment, run, measured, len(planned), {unit.scene for unit in left})


def _refuse_other_units(out: Path, planned: Sequence[Unit]) -> None:
    """Raise BadInput where `out` has records of units that are not planned: making it anew would lose them."""
    others = {file.name for file in (out / "records").glob("*.json")} - {unit.file_name for unit in planned}
    if others:
        raise BadInput(
            f"{out} holds other units, such as {min(others)}, that --overwrite would remove; say which to measure "
            "again with --scene, --arm and --seed, or choose another --out"
        )


def _make_folder(records: Path) -> None:
    try:
        records.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--records {records} cannot be made a folder: {error}") from error


def _is_left(record: Record | None, proxy: bool) -> bool:
    """Whether a unit is to be measured, or its proxy."""
    return record is None or (proxy and not record["proxy"])


def _report(
    experiment: Experiment, run: RunFolder, measured: Sequence[Record], units: int, changed: Container[str]
) -> dict[str, Any]:
    """Write table, plot, animations and summary, which is returned. changed: scenes that have a new record."""
    _write_table(run, measured)
    summary = {
        "path": str(run.path),
        "table": str(run.path / "table.md"),
        "plot": str(plot(measured, run.path / "gain.png")),
        "animations": [str(path) for path in film(experiment, measured, changed)],
        "units": units,
        "measured": len(measured),
        "arms": as_json(rows_of(measured)),
    }
    run.write_summary(summary)
    return summary


def _chosen(config: DictConfig, choice: Choice) -> list[Unit]:
    parts = {}
    for name in (field.name for field in fields(Choice)):
        planned, wanted = list(config[name]), getattr(choice, name)
        for value in wanted or ():
            if value not in planned:
                unknown = unknown_name(f"{name.removesuffix('s')} of this experiment", str(value), map(str, planned))
                raise BadInput(f"{unknown} Plan others with {name}=[...]")
        parts[name] = planned if not wanted else [value for value in planned if value in wanted]
    return list(units_of(**parts))


def _require_same_materials(materials: Path, config: DictConfig) -> None:
    """Raise BadInput when the run in `materials` makes other episodes, photos, editors or edits than `config`."""
    saved = materials / "config.yaml"
    if not saved.is_file():
        raise BadInput(f"materials must be the folder of a gain run; {materials} holds no config.yaml")
    free = (*FREE, *(f"stages.{stage}.*" for stage in OF_POLICIES))
    changed = [key for key in differing_keys(OmegaConf.load(saved), config) if not is_one_of(key, free)]
    if changed:
        raise BadInput(f"the materials in {materials} were made with another {', '.join(changed)}")


def _refuse_known_starts(experiment: Experiment) -> None:
    """Raise BadInput when an evaluation would start where an episode of the dataset does."""
    buffer = ReplayBuffer.open(experiment.get(Episodes()))
    known = starts_of(buffer)
    chosen = settings(EvaluateSettings, experiment.stage("evaluate", "evaluate"))
    if known is None:
        raise BadInput(
            f"{buffer.path}: data/state is {buffer.array('state').shape}; gain needs Push-T's five columns, "
            "agent x, y, block x, y and angle"
        )
    if not chosen.allow_training_starts:
        seeds = range(chosen.seed, chosen.seed + chosen.episodes)
        refuse_known_starts(known, seeds, str(buffer.path), "choose another stages.evaluate.settings.seed")


def _check_dataset(experiment: Experiment) -> None:
    """Raise BadInput for a dataset of the user's that does not fit the policy or the evaluation."""
    config = experiment.stage("train_policy", "train_policy")
    model = settings(PolicySettings, config.policy.model)
    open_stores(experiment.get(Episodes()), None, model, settings(TrainSettings, config.policy.training).val_fraction)
    _refuse_known_starts(experiment)


def _recorded(records: Path, plans: Mapping[Unit, Mapping[str, Any]]) -> list[Record]:
    """The records of those of the planned units that have one."""
    return [
        record for unit, plan in plans.items() if (record := read_record(records, unit, plan)) is not None
    ]


def _write_table(run: RunFolder, measured: Sequence[Record]) -> None:
    write_text_atomically(run.path / "table.md", markdown(measured))
