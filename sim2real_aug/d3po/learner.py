"""What moves in a D3PO run: the trained weights, their optimiser and their moving average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from sim2real_aug.d3po.processes import sum_gradients
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.adapter import trainable_parameters
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import Fault


@dataclass(frozen=True)
class Learner:
    """ema: the moving average of `parameters`, None where `ema_decay` is 0."""

    parameters: tuple[nn.Parameter, ...]
    optimizer: torch.optim.Optimizer
    ema: EMAModel | None


def make_learner(editor: Editor, settings: D3POSettings) -> Learner:
    """AdamW with D3PO's knobs over what the editor trains, and the average, which starts at the weights.

    The average's decay is 0 at the first update and min(ema_decay, n / (9 + n)) at update n (diffusers' EMAModel), so
    that a short run does not keep its start.
    """
    parameters = tuple(trainable_parameters(editor))
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.adam_betas,
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
    )
    ema = EMAModel(parameters, decay=settings.ema_decay) if settings.ema_decay else None
    return Learner(parameters, optimizer, ema)


def optimizer_step(learner: Learner, max_grad_norm: float) -> float:
    """One step on the gradient summed over the processes and clipped; returns its norm before the clip.

    Raises Fault, before the weights change, when the gradient is not finite.
    """
    sum_gradients(learner.parameters)
    norm = torch.nn.utils.clip_grad_norm_(learner.parameters, max_grad_norm).item()
    if not torch.isfinite(torch.tensor(norm)):
        raise Fault(f"the gradient norm is {norm}")
    learner.optimizer.step()
    if learner.ema is not None:
        learner.ema.step(learner.parameters)
    return norm


@contextmanager
def averaged(learner: Learner) -> Iterator[None]:
    """Inside, the editor has the averaged weights: what held-out scores and the result are of."""
    if learner.ema is None:
        yield
        return
    learner.ema.store(learner.parameters)
    learner.ema.copy_to(learner.parameters)
    try:
        yield
    finally:
        learner.ema.restore(learner.parameters)
