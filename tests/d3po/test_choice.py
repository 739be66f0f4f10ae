"""Which round is kept, by hand; and a run against a judge that can be pleased without a better picture."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from sim2real_aug.d3po.choice import Choice, choose, is_hacked
from sim2real_aug.d3po.rollouts import Task
from sim2real_aug.d3po.scores import Conditions, Scores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.trainer import train
from sim2real_aug.runs import RunFolder

SETTINGS = D3POSettings(guard_tolerance=0.1, guard_patience=2)


def after(*evaluations: tuple[float, float]) -> Choice:
    """The choice after rounds 1, 2, ... with these totals of judge and guard."""
    choice = Choice()
    for number, (total, guard) in enumerate(evaluations, 1):
        choice = choose(choice, number, {"held_out_total": total, "guard_total": guard}, SETTINGS)
    return choice


def test_without_a_guard_the_lowest_total_below_the_base_is_kept() -> None:
    choice = Choice()
    for number, total in enumerate((0.3, -0.2, -0.1, -0.4), 1):
        choice = choose(choice, number, {"held_out_total": total}, SETTINGS)
    assert choice == Choice(round=4, total=-0.4)
    assert after((0.3, 0.0)).round == 0, "worse than the base editor"


@pytest.mark.parametrize("totals", [(math.nan, 0.0), (-math.inf, 0.0), (-0.5, math.nan)])
def test_a_total_that_is_not_finite_is_not_kept(totals: tuple[float, float]) -> None:
    assert after((-0.2, -0.1), totals) == after((-0.2, -0.1))


def test_a_round_that_only_the_judge_likes_is_not_kept() -> None:
    assert after((-0.2, -0.1), (-0.5, 0.05)) == Choice(1, -0.2, -0.1, hacked=1), "0.15 worse than at round 1"
    assert after((-0.2, -0.1), (-0.5, -0.02)).round == 2, "0.08 worse is within the tolerance"


def test_two_in_a_row_stop_and_a_better_round_forgives() -> None:
    assert is_hacked(after((-0.2, 0.5), (-0.4, 0.9)), SETTINGS)
    assert not is_hacked(after((-0.2, 0.5), (-0.4, 0.0), (-0.5, 0.5)), SETTINGS)
    assert not is_hacked(after((-0.2, 0.5), (0.4, 0.9)), SETTINGS), "worse by both is no hacking"


@pytest.mark.slow
def test_a_judge_that_can_be_hacked_is_found_out(make_task: Callable[..., Task], tmp_path: Path) -> None:
    """The judge rewards brightness alone; the guard asks for the base editor's picture. The run stops early."""
    task = make_task(
        rounds=16, learning_rate=2e-3, conditions_per_round=8, trajectories_per_condition=8, batch_size=64,
        train_timesteps=4, lora_rank=8, evaluate_every=4, sample_grid_every=16,
    )  # fmt: skip
    first: list[Tensor] = []

    def likeness(conditions: Conditions, edits: Tensor) -> Scores:
        first.append(edits)
        change = (edits - first[0]).abs().flatten(2).mean(-1)
        return Scores(change, torch.zeros_like(change))

    run = RunFolder.open(tmp_path / "run", OmegaConf.create({}))
    summary = train(replace(task, guard=likeness), run)
    evaluated = [line for line in run.metrics() if "guard_total" in line]
    assert summary["stopped"] is not None, evaluated
    assert summary["rounds"] < 16
    assert summary["kept_round"] == 0, "every round that the judge liked moved the picture"
    assert evaluated[-1]["held_out_total"] < 0 < evaluated[-1]["guard_total"]
