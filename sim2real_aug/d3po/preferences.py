"""From scores to preference pairs: advantages over the batch, then every pair of each group.

This is the one place where "lower is better" becomes "this one wins".

Legend: C conditions, K edits of each condition (a group), N = C * K, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PreferencePairs:
    """winner, loser: (P,) int64 rows of the batch flattened to (N,); both edit the same condition."""

    winner: Tensor
    loser: Tensor

    def __len__(self) -> int:
        return len(self.winner)


def advantages(scores: Tensor, epsilon: float = 1e-8) -> Tensor:
    """A = (L - mean) / sqrt(var + epsilon) over the whole batch; same shape, the sign of a distance.

    The paper's multi-objective normalisation. The variance is the population's. Inside a pair the mean
    cancels, so all this does is set the weight of one score against another. Spread from condition to condition
    counts as well, which ranks no pair: the trainer logs each score's spread (sigma) and the mean of that within
    groups (group_sigma), by whose share of sigma it pulls.
    """
    return (scores - scores.mean()) / torch.sqrt(scores.var(unbiased=False) + epsilon)


def total_score(structural: Tensor, semantic: Tensor, alpha: float) -> Tensor:
    """L_total = A_struct + alpha * A_sem, same shape as the scores; lower is better."""
    return advantages(structural) + alpha * advantages(semantic)


def rank_pairs(total: Tensor) -> PreferencePairs:
    """Every pair of each group, the LOWER total winning; a tie makes no pair.

    total: (C, K) distances. A group of K distinct totals gives K (K - 1) / 2 pairs.
    """
    conditions, group = total.shape
    first, second = torch.triu_indices(group, group, offset=1, device=total.device)
    offset = torch.arange(conditions, device=total.device)[:, None] * group
    first_rows, second_rows = (offset + first).flatten(), (offset + second).flatten()
    difference = total[:, first].flatten() - total[:, second].flatten()
    first_wins, decided = difference < 0, difference != 0
    winner = torch.where(first_wins, first_rows, second_rows)
    loser = torch.where(first_wins, second_rows, first_rows)
    return PreferencePairs(winner[decided], loser[decided])
