"""How good the edits of held-out frames are: the score that chooses the round, beside the training scores.

Legend: M held-out frames, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.d3po.rollouts import Task, TrainingImages, initial_latents, make_conditions
from sim2real_aug.d3po.scores import Scores
from sim2real_aug.editor.editor import to_frames
from sim2real_aug.report.pictures import grid

GRID_ROWS = 6
EPSILON = 1e-8


@torch.no_grad()
def edit_held_out(task: Task) -> tuple[Scores, NDArray[np.uint8]]:
    """Scores (M, 1) and edits (M, S, S, 3) of the held-out frames, by the sampler that `augment` uses.

    Deterministic (eta 0, the editor's own steps and scales, noise fixed for each frame), the photos taken in
    turn, so that two calls differ by the editor's weights only.
    """
    frames, settings = task.images.held_out, task.settings
    photos = np.arange(len(frames)) % len(task.images.photos)
    structural, semantic, edited = [], [], []
    for conditions in make_conditions(task, frames, photos, settings.batch_size):
        latents = initial_latents(task, "held-out latents", numbers=conditions.numbers)
        edits = task.editor.edit(conditions.source, conditions.photos, latents)
        scores = task.scorer(conditions.source, conditions.photos, edits[:, None], conditions.photo_masks)
        structural.append(scores.structural.cpu())
        semantic.append(scores.semantic.cpu())
        edited.append(to_frames(edits))
    return Scores(torch.cat(structural), torch.cat(semantic)), np.concatenate(edited)


def held_out_change(scores: Scores, base: Scores, alpha: float) -> Tensor:
    """The total of each held-out edit less the base editor's, in units of the base's spread: (M, 1).

    Below 0: better than the base editor on that frame. Unlike the advantages of a round, which are normalised
    by the round itself, it can be compared from round to round.
    """
    structural = (scores.structural - base.structural) / (base.structural.std(unbiased=False) + EPSILON)
    semantic = (scores.semantic - base.semantic) / (base.semantic.std(unbiased=False) + EPSILON)
    return structural + alpha * semantic


def held_out_metrics(scores: Scores, base: Scores, alpha: float) -> dict[str, float]:
    """Means over the held-out frames; the win rate is the share of frames that are better than the base's."""
    change = held_out_change(scores, base, alpha)
    return {
        "held_out_structural": scores.structural.mean().item(),
        "held_out_semantic": scores.semantic.mean().item(),
        "held_out_total": change.mean().item(),
        "held_out_win_rate": (change < 0).float().mean().item(),
    }


def draw_grid(
    images: TrainingImages, edits: Sequence[NDArray[np.uint8]], labels: Sequence[str], path: Path
) -> Path:
    """One row a held-out frame: source, visual prompt, then its image in each of `edits`, (M, S, S, 3)."""
    shown = range(min(GRID_ROWS, len(images.held_out)))
    sources = images.read(images.held_out[: len(shown)])
    photos = [images.photos[row % len(images.photos)] for row in shown]
    rows = [[sources[row], photos[row], *(edit[row] for edit in edits)] for row in shown]
    return grid(rows, path, ["source", "visual prompt", *labels])
