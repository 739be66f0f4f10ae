"""One round's learning: reference log-probabilities, then minibatch updates of the weights that are trained.

The loss is the mean over all pairs of an optimiser step, wherever they were sampled: it depends neither on the
size of a minibatch nor on the number of processes.

Legend: C conditions of a round, G of this process, K edits of each, N = G * K rows, B rows of a minibatch, P its
pairs, S denoising steps that a condition trains on, (c, h, w) one latent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.d3po.learner import Learner, optimizer_step
from sim2real_aug.d3po.loss import d3po_loss, gaussian_kl, weighed_by_std
from sim2real_aug.d3po.preferences import rank_pairs
from sim2real_aug.d3po.processes import own, summed
from sim2real_aug.d3po.rollouts import Rollout, Task, guidance_scales
from sim2real_aug.editor.adapter import reference
from sim2real_aug.editor.ddim import log_prob
from sim2real_aug.editor.trajectory import step_distribution
from sim2real_aug.errors import Fault
from sim2real_aug.seeding import numpy_generator

SEEN = ("loss", "margin", "implicit_accuracy", "clamped_share", "approx_kl")


@dataclass(frozen=True)
class StepPolicy:
    """The Gaussian of one denoising step: mean (B, c, h, w), std (B, 1, 1, 1), log_probs (B,) of the step taken."""

    mean: Tensor
    std: Tensor
    log_probs: Tensor


@dataclass(frozen=True)
class Lesson:
    """A round ready to learn from.

    rollout: this process's samples. total: (C, K), L_total of all samples of the round. steps: (N, S), the
    denoising steps that each row trains on. reference_mean (N, S, c, h, w) and reference_log_probs (N, S): the
    base editor's view of these steps.
    """

    rollout: Rollout
    total: Tensor
    steps: Tensor
    reference_mean: Tensor
    reference_log_probs: Tensor


def step_policy(task: Task, rollout: Rollout, rows: Tensor, steps: Tensor) -> StepPolicy:
    """pi(x_{t-1} | x_t, c) at step steps[i] of trajectory rows[i], differentiable; rows, steps: (B,)."""
    settings, trajectory = task.settings, rollout.trajectory
    with task.autocast():
        mean, std = step_distribution(
            task.editor,
            rollout.conditioning.index(rows),
            trajectory.latents[rows, steps],
            trajectory.timesteps[steps],
            settings.num_inference_steps,
            guidance_scales(task),
            settings.eta,
        )
    return StepPolicy(mean, std, log_prob(trajectory.next_latents[rows, steps], mean, std))


def minibatches(task: Task, conditions: Tensor) -> tuple[Tensor, ...]:
    """Some of this process's conditions in parts that fit one forward pass; none of no condition."""
    return conditions.split(task.settings.groups_per_batch) if len(conditions) else ()


def group_rows(task: Task, conditions: Tensor) -> Tensor:
    """The rows of the trajectories of some of this process's conditions, group by group."""
    group = task.settings.trajectories_per_condition
    return (conditions[:, None] * group + torch.arange(group, device=conditions.device)).flatten()


@torch.no_grad()
def with_reference(task: Task, rollout: Rollout, total: Tensor, steps: Tensor) -> Lesson:
    """Add the reference's view of the steps, once a round. total: L_total (C, K) of the round; steps: (G, S)."""
    means, log_probs = [], []
    steps = steps.to(total.device)
    taken = steps.repeat_interleave(total.shape[1], 0)
    with reference(task.editor):
        for conditions in minibatches(task, torch.arange(len(steps), device=steps.device)):
            rows = group_rows(task, conditions)
            policies = [step_policy(task, rollout, rows, at) for at in taken[rows].unbind(1)]
            means.append(torch.stack([policy.mean for policy in policies], dim=1))
            log_probs.append(torch.stack([policy.log_probs for policy in policies], dim=1))
    return Lesson(rollout, total, taken, torch.cat(means), torch.cat(log_probs))


def update(task: Task, learner: Learner, lesson: Lesson, round_number: int) -> dict[str, float]:
    """Learn from a round in `updates_per_round` optimiser steps. Returns what they saw: of each step the mean over its
    pairs, and of these the mean, so that every step counts alike.

    Each step takes a random share of the round's conditions; a share without a pair takes none. Raises Fault, in
    every process at once and before the weights change, when a loss or a gradient is not finite.
    """
    settings, count = task.settings, len(lesson.total)
    seen = []
    for epoch in range(settings.inner_epochs):
        order = numpy_generator(settings.seed, "minibatches", round_number, epoch).permutation(count)
        for share in np.array_split(order, min(settings.updates_per_round, count)):
            pairs = len(rank_pairs(lesson.total[torch.from_numpy(share).to(lesson.total.device)]))
            if pairs:
                seen.append(learn_share(task, learner, lesson, share, pairs))
    return {name: float(np.mean([one[name] for one in seen])) for name in (seen[0] if seen else {})}


def learn_share(
    task: Task, learner: Learner, lesson: Lesson, share: NDArray[np.int64], pairs: int
) -> dict[str, float]:
    """One optimiser step from the conditions `share` of the round, which make `pairs` pairs over all processes."""
    device = lesson.total.device
    learner.optimizer.zero_grad(set_to_none=True)
    mine = torch.from_numpy(np.flatnonzero(np.isin(own(len(lesson.total)), share))).to(device)
    sums = torch.zeros(len(SEEN), device=device)
    for conditions in minibatches(task, mine):
        sums += accumulate_gradient(task, lesson, conditions, 1 / pairs)
    seen = dict(zip(SEEN, summed(sums).tolist(), strict=True))
    if not np.isfinite(list(seen.values())).all():
        raise Fault(
            f"the loss is not finite: {', '.join(f'{name} {value:.3g}' for name, value in seen.items())}"
        )
    return {**seen, "grad_norm": optimizer_step(learner, task.settings.max_grad_norm)}


def accumulate_gradient(task: Task, lesson: Lesson, conditions: Tensor, weight: float) -> Tensor:
    """Add `weight` times the gradient of the loss of every pair of `conditions`, one step's graph at a time.

    Returns `SEEN`, summed over the pairs with the same weight, each a mean over the denoising steps.
    """
    settings, rows = task.settings, group_rows(task, conditions)
    mine = torch.from_numpy(own(len(lesson.total))).to(conditions.device)[conditions]
    pairs = rank_pairs(lesson.total[mine])
    seen = torch.zeros(len(SEEN), device=conditions.device)
    if len(pairs) == 0:
        return seen
    weight = weight * len(pairs) / settings.train_timesteps
    for place, steps in enumerate(lesson.steps[rows].unbind(1)):
        new = step_policy(task, lesson.rollout, rows, steps)
        log_ratio = new.log_probs - lesson.reference_log_probs[rows, place]
        if settings.weigh_steps:
            log_ratio = weighed_by_std(log_ratio, new.std)
        loss = d3po_loss(log_ratio[pairs.winner], log_ratio[pairs.loser], settings.beta, settings.clip_ratio)
        (loss.value * weight).backward()
        divergence = gaussian_kl(new.mean.detach(), lesson.reference_mean[rows, place], new.std).mean()
        values = (loss.value.detach(), loss.margin, loss.implicit_accuracy, loss.clamped_share, divergence)
        seen += weight * torch.stack(values)
    return seen
