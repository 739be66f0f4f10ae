"""Windows against a loop that reads like diffusion_policy's rule, and hand-worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim2real_aug.data import SequenceSampler, split_episodes
from sim2real_aug.data.sequences import evenly_spaced
from sim2real_aug.errors import BadInput


def test_hand_worked_windows() -> None:
    # two episodes, frames 0 1 2 and 3 4; three frames a window, one may stick out on each side
    sampler = SequenceSampler([3, 5], horizon=3, pad_before=1, pad_after=1)
    assert sampler.indices.tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 4], [3, 4, 4]]
    assert sampler.episode.tolist() == [0, 0, 0, 1, 1]


def test_without_padding_short_episodes_have_no_window() -> None:
    assert SequenceSampler([2, 6], horizon=3).indices.tolist() == [[2, 3, 4], [3, 4, 5]]


def test_chosen_episodes_only() -> None:
    assert SequenceSampler([2, 4, 6], 2, episodes=[2, 0]).indices.tolist() == [[4, 5], [0, 1]]


@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    horizon=st.integers(1, 6),
    before=st.integers(0, 7),
    after=st.integers(0, 7),
)
def test_every_window_once(lengths: list[int], horizon: int, before: int, after: int) -> None:
    ends = np.cumsum(lengths)
    expected = []
    for start, end in zip(ends - lengths, ends, strict=True):
        episode = list(range(start, end))
        padded_by = min(before, horizon - 1), min(after, horizon - 1)
        row = [episode[0]] * padded_by[0] + episode + [episode[-1]] * padded_by[1]
        expected += [row[i : i + horizon] for i in range(len(row) - horizon + 1)]
    assert SequenceSampler(ends, horizon, before, after).indices.tolist() == expected


def test_split_is_disjoint_whole_and_repeatable() -> None:
    train, val = split_episodes(50, 0.1, seed=3)
    assert len(val) == 5
    assert sorted([*train, *val]) == list(range(50))
    again = split_episodes(50, 0.1, seed=3)
    np.testing.assert_array_equal(val, again[1])
    assert split_episodes(50, 0.1, seed=4)[1].tolist() != val.tolist()
    capped, same_val = split_episodes(50, 0.1, max_train=7, seed=3)
    assert len(capped) == 7
    assert set(capped) <= set(train)
    np.testing.assert_array_equal(val, same_val)


def test_split_keeps_one_of_each() -> None:
    train, val = split_episodes(2, 0.01)
    assert (len(train), len(val)) == (1, 1)
    assert len(split_episodes(3, 0.0)[1]) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_split_refuses(fraction: float) -> None:
    with pytest.raises(BadInput, match="val_fraction"):
        split_episodes(5, fraction)


@pytest.mark.parametrize(
    ("total", "most", "expected"),
    [(10, 4, [0, 3, 6, 9]), (3, 16, [0, 1, 2]), (1, 8, [0]), (100, 1, [0]), (8, 3, [0, 3, 7])],
)
def test_evenly_spaced_by_hand(total: int, most: int, expected: list[int]) -> None:
    assert evenly_spaced(total, most).tolist() == expected
