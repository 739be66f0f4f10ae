"""The quality gate: is an edit good enough that its action label still holds?

Legend: B frames of one batch, H W pixels; images float32 (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.d3po.scores import Conditions, JudgedScores, left_uncovered, source_region


@dataclass(frozen=True)
class Verdict:
    """scores: (B, 2) float32, structural and semantic (lower is better). ok: (B,) bool."""

    scores: NDArray[np.float32]
    ok: NDArray[np.bool_]


@torch.no_grad()
def judge_edits(conditions: Conditions, edits: Tensor, scorer: JudgedScores, settings: AugmentSettings) -> Verdict:
    """Scores of the edits by `scorer`, and whether each passes every limit that is set.

    edits: (B, 3, H, W), one of each condition. Where the region is not found in the source, or the prompt's
    pusher hides it, there is no outline to keep: that test is passed.
    """
    judged = scorer(conditions, edits[:, None])
    structural, semantic = judged.structural[:, 0], judged.semantic[:, 0]
    ok = torch.ones_like(structural, dtype=torch.bool)
    if settings.max_structural is not None:
        ok &= structural <= settings.max_structural
    if settings.max_semantic is not None:
        ok &= semantic <= settings.max_semantic
    if settings.min_region_iou is not None:
        before = source_region(scorer.judge, conditions, settings.region)
        after = scorer.judge.segment(edits, settings.region)
        seen, hidden = left_uncovered(before, conditions.covered, settings.region)
        kept = region_iou(seen, after & ~conditions.covered) >= settings.min_region_iou
        ok &= kept | hidden | ~before.flatten(1).any(1)
    scores = torch.stack([structural, semantic], dim=1).float()
    return Verdict(scores.cpu().numpy(), ok.cpu().numpy())


def region_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of two masks, (B, H, W) bool → (B,) float; 1 where both are empty."""
    both, either = (first & second).flatten(1).sum(1), (first | second).flatten(1).sum(1)
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(either, dtype=torch.float32))
