"""Advantages, totals and ranking: lower is better, and nothing crosses from one condition to another."""

import pytest
import torch

from sim2real_aug.d3po.preferences import advantages, rank_pairs, total_score


def test_advantages_by_hand() -> None:
    # mean 2, population variance 2/3, sqrt 0.8164966
    expected = torch.tensor([-1.2247449, 0.0, 1.2247449])
    torch.testing.assert_close(advantages(torch.tensor([1.0, 2.0, 3.0])), expected)


def test_advantages_of_equal_scores_are_zero() -> None:
    assert advantages(torch.full((2, 3), 0.7)).abs().max() < 1e-2
    assert torch.isfinite(advantages(torch.zeros(2, 3))).all()


def test_advantages_have_mean_zero_and_spread_one_over_the_batch_not_the_group() -> None:
    scores = torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) + torch.arange(4.0)[:, None]
    result = advantages(scores)
    assert result.shape == scores.shape
    assert result.mean().abs() < 1e-6
    assert result.std(unbiased=False).item() == pytest.approx(1, abs=1e-5)
    assert result[0].mean() < 0 < result[3].mean()


def test_lower_total_wins() -> None:
    pairs = rank_pairs(torch.tensor([[0.3, 0.1], [0.2, 0.9]]))
    assert pairs.winner.tolist() == [1, 2]
    assert pairs.loser.tolist() == [0, 3]


def test_brighter_wins_when_the_distance_is_darkness() -> None:
    """End to end on the sign: the score is a distance, so the edit with the smaller one is preferred."""
    darkness = torch.tensor([[0.9, 0.4, 0.1]])
    pairs = rank_pairs(total_score(darkness, torch.zeros(1, 3), alpha=1.0))
    assert set(zip(pairs.winner.tolist(), pairs.loser.tolist(), strict=True)) == {(1, 0), (2, 0), (2, 1)}


def test_every_pair_of_a_group_and_none_across_groups() -> None:
    total = torch.randperm(12, generator=torch.Generator().manual_seed(1)).float().reshape(3, 4)
    pairs = rank_pairs(total)
    assert len(pairs) == 3 * 6
    assert (pairs.winner // 4 == pairs.loser // 4).all()
    assert (total.flatten()[pairs.winner] < total.flatten()[pairs.loser]).all()


def test_ties_make_no_pair() -> None:
    pairs = rank_pairs(torch.tensor([[1.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    assert sorted(zip(pairs.winner.tolist(), pairs.loser.tolist(), strict=True)) == [(0, 2), (1, 2)]


def test_alpha_weighs_the_semantic_score() -> None:
    structural, semantic = torch.tensor([[0.0, 1.0]]), torch.tensor([[10.0, 0.0]])
    assert rank_pairs(total_score(structural, semantic, alpha=0.5)).winner.tolist() == [0]
    assert rank_pairs(total_score(structural, semantic, alpha=2.0)).winner.tolist() == [1]
