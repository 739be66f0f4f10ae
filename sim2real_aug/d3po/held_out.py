"""How good the edits of held-out frames are: the scores that choose the round, beside the training scores.

Legend: M held-out frames, S pixels a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.d3po.processes import collect
from sim2real_aug.d3po.rollouts import Task, TrainingImages, initial_latents, make_conditions
from sim2real_aug.d3po.scores import Scores
from sim2real_aug.editor.prompts import photos_in_turn
from sim2real_aug.errors import Fault
from sim2real_aug.pixels import to_frames
from sim2real_aug.report.pictures import grid

GRID_ROWS = 6
EPSILON = 1e-8


@dataclass(frozen=True)
class HeldOut:
    """Edits (M, S, S, 3) of the held-out frames; their scores (M, 1) by the judges, and by the guard if any."""

    edits: NDArray[np.uint8]
    scores: Scores
    guard: Scores | None


@torch.no_grad()
def edit_held_out(task: Task) -> HeldOut:
    """Edit the held-out frames by the sampler that `augment` uses, and score the edits.

    Deterministic (eta 0, the editor's own steps and scales, noise fixed for each frame), the photos taken in
    turn, so that two calls differ by the editor's weights only. The processes share the frames.
    """
    frames, scorers = task.images.held_out, [task.scorer, *([task.guard] if task.guard else [])]
    photos = photos_in_turn(len(task.images.photos), len(frames), task.editor.edit_settings.photos_per_edit)
    edited, seen = [], []
    for conditions in make_conditions(task.images, task.editor.device, frames, photos, task.settings.batch_size):
        latents = initial_latents(task, "held-out latents", numbers=conditions.numbers)
        with task.autocast():
            edits = task.editor.edit(conditions.source, conditions.visual_prompts, latents)
        edited.append(torch.from_numpy(to_frames(edits)))
        seen.append([scorer(conditions, edits[:, None]) for scorer in scorers])
    scores = [_collect(Scores.join(parts), len(frames)) for parts in zip(*seen, strict=True)]
    all_edits = collect(torch.cat(edited).to(task.editor.device), len(frames)).cpu().numpy()
    return HeldOut(all_edits, scores[0], scores[1] if task.guard else None)


def _collect(scores: Scores, count: int) -> Scores:
    return Scores(collect(scores.structural, count).cpu(), collect(scores.semantic, count).cpu())


def held_out_change(scores: Scores, base: Scores, alpha: float) -> Tensor:
    """The total of each held-out edit less the base editor's, in units of the base's spread: (M, 1).

    Below 0: better than the base editor on that frame. Unlike the advantages of a round, which are normalised
    by the round itself, it can be compared from round to round.
    """
    structural = (scores.structural - base.structural) / _spread(base.structural)
    semantic = (scores.semantic - base.semantic) / _spread(base.semantic)
    return structural + alpha * semantic


def _spread(scores: Tensor) -> Tensor:
    """The standard deviation of scores (M, 1); of one frame, which has none, its score."""
    return (scores.std(unbiased=False) if len(scores) > 1 else scores.abs().mean()) + EPSILON


def held_out_metrics(task: Task, held: HeldOut, base: HeldOut) -> dict[str, float]:
    """Means over the held-out frames; the win rate is the share of frames that are better than the base's.

    With a guard also its scores, with targets the edits' PSNR to them, dB. Raises Fault where one is not finite.
    """
    metrics = _score_metrics("held_out", held.scores, base.scores, task.settings.alpha)
    if held.guard is not None and base.guard is not None:
        metrics |= _score_metrics("guard", held.guard, base.guard, task.settings.alpha)
    if task.targets is not None:
        metrics["held_out_psnr"] = float(psnr(held.edits, task.targets).mean())
    if wrong := [f"{name} {value}" for name, value in metrics.items() if not math.isfinite(value)]:
        raise Fault(f"what the held-out edits score is not finite: {', '.join(wrong)}")
    return metrics


def _score_metrics(name: str, scores: Scores, base: Scores, alpha: float) -> dict[str, float]:
    change = held_out_change(scores, base, alpha)
    return {
        f"{name}_structural": scores.structural.mean().item(),
        f"{name}_semantic": scores.semantic.mean().item(),
        f"{name}_total": change.mean().item(),
        f"{name}_win_rate": (change < 0).float().mean().item(),
    }


def psnr(images: NDArray[np.uint8], targets: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each image (M, S, S, 3), dB: 10 log10(255^2 / MSE), at most 100."""
    error = np.square(images.astype(np.float64) - targets).mean(axis=(1, 2, 3))
    ratio: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, 255**2 * 1e-10))
    return ratio


def draw_grid(
    images: TrainingImages, edits: Sequence[NDArray[np.uint8]], labels: Sequence[str], path: Path
) -> Path:
    """One row a held-out frame: source, visual prompt, then its image in each of `edits`, (M, S, S, 3)."""
    shown = range(min(GRID_ROWS, len(images.held_out)))
    sources = images.read(images.held_out[: len(shown)])
    photos = [images.photos[row % len(images.photos)] for row in shown]
    rows = [[sources[row], photos[row], *(edit[row] for edit in edits)] for row in shown]
    return grid(rows, path, ["source", "visual prompt", *labels])
