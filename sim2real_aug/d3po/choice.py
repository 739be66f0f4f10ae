"""Which round becomes the specialist, and when a run has begun to please its judges instead.

A policy that is trained against a judge learns that judge's blind spots: its score rises while the pictures get
worse (flow_grpo #233: within a few epochs). The held-out frames do not show it, since the same judge scores them.
A guard does, a judge that is not trained against. A round whose held-out total is the best so far while the
guard's total is worse than at the round kept until then, by more than `guard_tolerance`, is not kept; after
`guard_patience` such evaluations with none to keep in between, the run stops.

Totals are in units of the base editor's spread over the held-out frames (`held_out.held_out_change`); the base
editor itself has 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sim2real_aug.d3po.settings import D3POSettings


@dataclass(frozen=True)
class Choice:
    """The round to keep, its two totals, and how many evaluations in a row looked better to the judges alone."""

    round: int = 0
    total: float = 0.0
    guard_total: float = 0.0
    hacked: int = 0


def choose(choice: Choice, number: int, metrics: Mapping[str, float], settings: D3POSettings) -> Choice:
    """The choice after the evaluation of round `number`, whose held-out metrics are given; one whose totals are not
    finite is never kept."""
    total, guard_total = metrics["held_out_total"], metrics.get("guard_total", 0.0)
    if not math.isfinite(total + guard_total) or total >= choice.total:
        return choice
    if guard_total > choice.guard_total + settings.guard_tolerance:
        return Choice(choice.round, choice.total, choice.guard_total, choice.hacked + 1)
    return Choice(number, total, guard_total)


def is_hacked(choice: Choice, settings: D3POSettings) -> bool:
    """Whether the run should stop."""
    return choice.hacked >= settings.guard_patience
