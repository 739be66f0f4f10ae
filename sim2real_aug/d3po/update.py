"""One round's learning: reference log-probabilities, then minibatch updates of the adapter.

Legend: N rows of a minibatch, P its pairs, (c, h, w) one latent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sim2real_aug.d3po.loss import d3po_loss, gaussian_kl
from sim2real_aug.d3po.preferences import PreferencePairs
from sim2real_aug.d3po.rollouts import Rollout, Task, guidance_scales
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.adapter import reference
from sim2real_aug.editor.ddim import log_prob
from sim2real_aug.editor.trajectory import step_distribution
from sim2real_aug.errors import Fault
from sim2real_aug.seeding import numpy_generator


@dataclass(frozen=True)
class StepPolicy:
    """The Gaussian of one denoising step: mean (N, c, h, w), std, and log_probs (N,) of the step taken."""

    mean: Tensor
    std: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class UpdateBatch:
    """A minibatch ready to learn from: its pairs, the steps drawn for it, the reference's view of each."""

    rollout: Rollout
    pairs: PreferencePairs
    steps: tuple[int, ...]
    references: tuple[StepPolicy, ...]


def step_policy(task: Task, rollout: Rollout, step: int) -> StepPolicy:
    """pi(x_{t-1} | x_t, c) of step number `step` of the rollout's trajectories, differentiable."""
    settings, trajectory = task.settings, rollout.trajectory
    latents = trajectory.latents[:, step]
    mean, std = step_distribution(
        task.editor,
        rollout.conditioning,
        latents,
        trajectory.timesteps[step].expand(len(latents)),
        settings.num_inference_steps,
        guidance_scales(task),
        settings.eta,
    )
    return StepPolicy(mean, std, log_prob(trajectory.next_latents[:, step], mean, std))


def draw_steps(settings: D3POSettings, round_number: int, batch: int) -> tuple[int, ...]:
    """The random subset of denoising steps that minibatch `batch` trains on."""
    generator = numpy_generator(settings.seed, "train timesteps", round_number, batch)
    drawn = generator.choice(settings.num_inference_steps, settings.train_timesteps, replace=False)
    return tuple(sorted(drawn.tolist()))


@torch.no_grad()
def with_reference(task: Task, rollout: Rollout, pairs: PreferencePairs, steps: Sequence[int]) -> UpdateBatch:
    """Add the reference's steps, once a round: the same network with the adapter off, not a second copy."""
    with reference(task.editor):
        references = tuple(step_policy(task, rollout, step) for step in steps)
    return UpdateBatch(rollout, pairs, tuple(steps), references)


def update(
    task: Task, optimizer: torch.optim.Optimizer, batches: Sequence[UpdateBatch], round_number: int
) -> dict[str, float]:
    """Learn from a round's minibatches in `updates_per_round` optimiser steps. Returns means of what it saw.

    Raises Fault before the weights change when a loss or a gradient is not finite.
    """
    settings = task.settings
    decided = [batch for batch in batches if len(batch.pairs)]
    seen: dict[str, list[float]] = defaultdict(list)
    for epoch in range(settings.inner_epochs):
        order = numpy_generator(settings.seed, "minibatches", round_number, epoch).permutation(len(decided))
        for share in np.array_split(order, min(settings.updates_per_round, max(1, len(decided)))):
            optimizer.zero_grad(set_to_none=True)
            for index in share:
                accumulate_gradient(task, decided[index], 1 / len(share), seen)
            if len(share):
                seen["grad_norm"].append(_step(optimizer, settings.max_grad_norm))
    return {name: float(np.mean(values)) for name, values in seen.items()}


def accumulate_gradient(task: Task, batch: UpdateBatch, weight: float, seen: dict[str, list[float]]) -> None:
    """Add the gradient of the batch's loss, mean over its steps, one step's graph at a time."""
    for step, old in zip(batch.steps, batch.references, strict=True):
        new = step_policy(task, batch.rollout, step)
        log_ratio = new.log_probs - old.log_probs
        winner, loser = log_ratio[batch.pairs.winner], log_ratio[batch.pairs.loser]
        loss = d3po_loss(winner, loser, task.settings.beta, task.settings.clip_ratio)
        seen["loss"].append(_finite("loss", loss.value))
        (loss.value * weight / len(batch.steps)).backward()
        seen["margin"].append(loss.margin.item())
        seen["implicit_accuracy"].append(loss.implicit_accuracy.item())
        seen["clamped_share"].append(loss.clamped_share.item())
        seen["approx_kl"].append(gaussian_kl(new.mean.detach(), old.mean, old.std).mean().item())


def _step(optimizer: torch.optim.Optimizer, max_grad_norm: float) -> float:
    """One optimiser step on the clipped gradient; its norm before the clip."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = _finite("gradient norm", torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    optimizer.step()
    return norm


def _finite(name: str, value: Tensor) -> float:
    number = value.item()
    if not np.isfinite(number):
        raise Fault(f"the {name} is {number}")
    return number
