"""The state of a D3PO run on disk, from which it goes on exactly as if it had not stopped."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sim2real_aug.d3po.choice import Choice
from sim2real_aug.d3po.held_out import HeldOut
from sim2real_aug.d3po.learner import Learner, make_learner
from sim2real_aug.d3po.processes import is_main
from sim2real_aug.d3po.rollouts import Task
from sim2real_aug.d3po.scores import Scores
from sim2real_aug.editor.adapter import adapter_state, load_adapter_state
from sim2real_aug.editor.editor import Editor
from sim2real_aug.runs import RunFolder, save_atomically


@dataclass
class TrainingState:
    """Where a run stands. base: the base editor's held-out edits. best_adapter: the weights of `choice.round`.

    began: by time.monotonic(), when the run would have begun if it had never been stopped.
    """

    learner: Learner
    base: HeldOut
    best_adapter: dict[str, Tensor]
    began: float
    choice: Choice = field(default_factory=Choice)
    round: int = 0

    def seconds(self) -> float:
        """Wall-clock time of all stretches of the run, without what was lost between a checkpoint and a stop."""
        return time.monotonic() - self.began


def checkpoint_path(run: RunFolder) -> Path:
    return run.checkpoint("state.pt")


def copy_adapter(editor: Editor) -> dict[str, Tensor]:
    """A copy of the adapter that further training does not touch."""
    return {name: tensor.detach().clone() for name, tensor in adapter_state(editor).items()}


def save(task: Task, state: TrainingState, run: RunFolder) -> None:
    """Replace the checkpoint, in the main process; a crash leaves the old one or the new one, never half."""
    if not is_main():
        return
    ema = state.learner.ema
    content = {
        "round": state.round,
        "adapter": adapter_state(task.editor),
        "optimizer": state.learner.optimizer.state_dict(),
        "ema": None if ema is None else ema.state_dict(),
        "base": _from_held_out(state.base),
        "best_adapter": state.best_adapter,
        "choice": asdict(state.choice),
        "seconds": state.seconds(),
    }
    save_atomically(content, checkpoint_path(run))


def load(task: Task, run: RunFolder) -> TrainingState | None:
    """The run's state, with the editor's adapter set to it; None before the first checkpoint."""
    path = checkpoint_path(run)
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    load_adapter_state(task.editor, content["adapter"])
    learner = make_learner(task.editor, task.settings)
    learner.optimizer.load_state_dict(content["optimizer"])
    if learner.ema is not None:
        learner.ema.load_state_dict(content["ema"])
        learner.ema.to(task.editor.device)
    return TrainingState(
        learner=learner,
        base=_to_held_out(content["base"]),
        best_adapter=content["best_adapter"],
        began=time.monotonic() - content["seconds"],
        choice=Choice(**content["choice"]),
        round=content["round"],
    )


def _from_held_out(held: HeldOut) -> dict[str, Any]:
    both = [scores and [scores.structural, scores.semantic] for scores in (held.scores, held.guard)]
    return {"edits": torch.from_numpy(held.edits), "scores": both[0], "guard": both[1]}


def _to_held_out(content: dict[str, Any]) -> HeldOut:
    guard = content["guard"]
    return HeldOut(content["edits"].numpy(), Scores(*content["scores"]), guard and Scores(*guard))
