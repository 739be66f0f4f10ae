"""Contradictory settings are refused where they are made, all in one message."""

import math
from typing import Any

import pytest

from sim2real_aug.config import compose, settings
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.errors import BadInput


def test_a_pair_needs_two_trajectories() -> None:
    with pytest.raises(BadInput, match="trajectories_per_condition must be at least 2 to make a pair; got 1"):
        D3POSettings(trajectories_per_condition=1)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(BadInput) as error:
        D3POSettings(
            rounds=0, train_timesteps=9, num_inference_steps=4, clip_ratio=1.0, eta=0.0, keep="worst"
        )
    for name in ("rounds", "train_timesteps", "clip_ratio", "eta", "keep"):
        assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [{"adam_betas": (0.9, 1.5)}, {"weight_decay": -1}, {"alpha": -1}, {"lora_alpha": 0}, {"guidance_scale": math.nan}],
)
def test_what_would_train_nothing_or_the_wrong_way_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        D3POSettings(**wrong)


def test_minibatches_hold_whole_groups() -> None:
    assert D3POSettings(batch_size=16, trajectories_per_condition=4).groups_per_batch == 4
    assert D3POSettings(batch_size=2, trajectories_per_condition=4).groups_per_batch == 1


def test_the_defaults_are_the_compact_ones() -> None:
    assert settings(D3POSettings, compose("train_editor").d3po) == D3POSettings()


def test_the_papers_setting_is_d3pos_where_d3po_has_one() -> None:
    """The values of yk7333/d3po's config/base.py; the batch of 512 images and 20 steps are the paper's."""
    paper = settings(D3POSettings, compose("train_editor", ["d3po=paper"]).d3po)
    assert (paper.beta, paper.clip_ratio, paper.eta) == (0.1, 0.1, 1.0)
    assert (paper.learning_rate, paper.adam_betas, paper.adam_epsilon) == (3e-5, (0.9, 0.999), 1e-8)
    assert (paper.weight_decay, paper.max_grad_norm, paper.inner_epochs) == (1e-4, 1.0, 1)
    assert paper.num_inference_steps == paper.train_timesteps == 20
    assert paper.conditions_per_round * paper.trajectories_per_condition == 512
    assert paper.lambda_outside == 0.05
