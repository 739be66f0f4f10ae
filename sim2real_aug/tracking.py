"""A run's metrics where people watch them: TensorBoard or Weights & Biases, beside metrics.jsonl (extra [tracking])."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sim2real_aug.errors import MissingExtra, unknown_name

PROJECT = "sim2real-aug"
MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


class Tracker(Protocol):
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of a step."""


class TensorBoard:
    """Events in `folder`, for `tensorboard --logdir`. first_step: what was shown of it and after it, by a run that was
    interrupted, is hidden; None hides nothing."""

    def __init__(self, folder: Path, first_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


class WandB:
    """A run of the project PROJECT, by W&B's own settings (WANDB_MODE, WANDB_PROJECT, ...); its name is kept in
    `folder`, so that an interrupted run goes on there."""

    def __init__(self, folder: Path) -> None:
        import wandb
        from omegaconf import OmegaConf

        file = folder / "wandb_id.txt"
        if not file.exists():
            file.write_text(uuid.uuid4().hex)
        project = wandb.setup().settings.project or PROJECT
        chosen = {"project": project, "name": folder.name, "id": file.read_text(), "dir": str(folder)}
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        self.run = wandb.init(**chosen, config=config, resume="allow", reinit=True)
        self.run.define_metric("*", step_metric="step")  # its own steps only rise, those of a resumed run do not

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log({**metrics, "step": step})


def require_tracker(name: str | None) -> None:
    """Raises BadInput for an unknown name, and MissingExtra where it is not installed."""
    if name is None:
        return
    if name not in MODULES:
        raise unknown_name("tracking", name, MODULES)
    try:
        importlib.import_module(MODULES[name])
    except ImportError as error:
        raise MissingExtra(f"tracking={name}", "tracking") from error


def open_tracker(name: str, folder: Path, first_step: int | None) -> Tracker:
    """The tracker `name` of the run in `folder`, whose next metrics are of `first_step`."""
    return TensorBoard(folder / "tensorboard", first_step) if name == "tensorboard" else WandB(folder)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn; by part where a run has several."""
    part = f"{metrics['part']}/" if "part" in metrics else ""
    return {f"{part}{name}": value for name, value in metrics.items() if isinstance(value, int | float)}
