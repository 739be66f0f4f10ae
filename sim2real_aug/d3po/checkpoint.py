"""The state of a D3PO run on disk, from which it goes on exactly as if it had not stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sim2real_aug.d3po.rollouts import Task
from sim2real_aug.d3po.scores import Scores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.adapter import adapter_state, load_adapter_state, trainable_parameters
from sim2real_aug.editor.editor import Editor
from sim2real_aug.runs import RunFolder


@dataclass
class TrainingState:
    """Where a run stands. base: the base editor's held-out scores, (M, 1). best_*: of the round to keep."""

    optimizer: torch.optim.Optimizer
    base: Scores
    best_adapter: dict[str, Tensor]
    best_round: int = 0
    best_total: float = 0.0
    round: int = 0


def checkpoint_path(run: RunFolder) -> Path:
    return run.checkpoint("state.pt")


def make_optimizer(editor: Editor, settings: D3POSettings) -> torch.optim.Optimizer:
    """AdamW over the adapter, with D3PO's knobs."""
    return torch.optim.AdamW(
        trainable_parameters(editor),
        lr=settings.learning_rate,
        betas=settings.adam_betas,
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
    )


def copy_adapter(editor: Editor) -> dict[str, Tensor]:
    """A copy of the adapter that further training does not touch."""
    return {name: tensor.detach().clone() for name, tensor in adapter_state(editor).items()}


def save(task: Task, state: TrainingState, run: RunFolder) -> None:
    """Replace the checkpoint; a crash leaves the old one or the new one, never half of one."""
    content = {
        "round": state.round,
        "adapter": adapter_state(task.editor),
        "optimizer": state.optimizer.state_dict(),
        "base": [state.base.structural, state.base.semantic],
        "best_adapter": state.best_adapter,
        "best_round": state.best_round,
        "best_total": state.best_total,
    }
    path = checkpoint_path(run)
    temporary = path.with_suffix(".new")
    torch.save(content, temporary)
    temporary.replace(path)


def load(task: Task, run: RunFolder) -> TrainingState | None:
    """The run's state, with the editor's adapter set to it; None before the first checkpoint."""
    path = checkpoint_path(run)
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    load_adapter_state(task.editor, content["adapter"])
    optimizer = make_optimizer(task.editor, task.settings)
    optimizer.load_state_dict(content["optimizer"])
    return TrainingState(
        optimizer=optimizer,
        base=Scores(*content["base"]),
        best_adapter=content["best_adapter"],
        best_round=content["best_round"],
        best_total=content["best_total"],
        round=content["round"],
    )
