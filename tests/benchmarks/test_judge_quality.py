"""The figures of a judge's quality on readings whose figures are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from judge_quality import draw_worst, gamma, measure, most_spearman, retrieved, spearman, summarise
from paired_frames import Drawn, domains_of, held_out_states
from torch import Tensor

from sim2real_aug.data.regions import REGIONS
from sim2real_aug.envs.recordings import load_recordings
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.envs.twin import scene_names


def test_gamma_counts_pairs_of_different_truth() -> None:
    """Truth 1 1 2 3 has five such pairs; the reading has one of them (2, 3) the wrong way round: (4 - 1) / 5."""
    truth = np.array([1.0, 1.0, 2.0, 3.0])
    assert gamma(truth, np.array([0.1, 0.2, 0.9, 0.8]), same=0.5) == pytest.approx(0.6)
    assert gamma(truth, np.array([0.2, 0.1, 0.3, 0.4]), same=0.5) == 1
    assert gamma(truth, -truth, same=0.5) == -1
    assert gamma(truth, np.zeros(4), same=0.5) == 0
    assert gamma(truth, truth, same=1.5) == 1, "only 1 and 3 differ by more"


def test_spearman_shares_the_ranks_of_ties() -> None:
    """Ranks 1.5 1.5 3 against 1 2 3: covariance 1.5, variances 1.5 and 2: 1.5 / sqrt(3)."""
    truth = np.array([5.0, 5.0, 7.0])
    assert spearman(truth, np.array([0.0, 1.0, 2.0])) == pytest.approx(1.5 / 3**0.5)
    assert most_spearman(truth) == pytest.approx(1.5 / 3**0.5)
    assert spearman(truth, truth) == pytest.approx(1)


def test_retrieval_never_shows_a_frame_itself() -> None:
    """A scene whose two frames are at right angles, and one between them: each frame is nearer to that one."""
    east, north = [1.0, 0.0], [0.0, 1.0]
    seen = torch.tensor([[east, north], [[0.6, 0.8], [0.8, 0.6]]])
    assert retrieved(seen, 0, seed=0).tolist() == [1, 1], "to itself it would be nearest"
    told_apart = torch.tensor([[east, east], [north, north]])
    for scene in (0, 1):
        assert retrieved(told_apart, scene, seed=0).tolist() == [scene, scene]


class Oracle:
    """A judge that reads a frame whose red channel holds labels, green depth; blue is the scene."""

    def depth(self, images: Tensor) -> Tensor:
        return images[:, 1]

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return (images[:, 0] * 255).round() == REGIONS.index(phrase)

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.stack([images[:, 2].mean((1, 2)).cos(), images[:, 2].mean((1, 2)).sin()], 1)


def test_an_oracle_is_perfect_and_its_worst_frames_are_drawn(tmp_path: Path) -> None:
    flat, states = make_renderer("flat"), held_out_states(3, seed=0)
    drawn = [flat.render(state, 16) for state in states]
    labels, depth = np.stack([d.labels for d in drawn]), np.stack([d.depth for d in drawn])
    frames = {}
    for scene, blue in (("a", 0), ("b", 255)):
        image = np.stack([labels, np.round(depth / depth.max() * 255), np.full_like(labels, blue)], -1)
        frames[scene] = Drawn(image.astype(np.uint8), labels, depth)
    by_scene = measure(Oracle(), frames, ["a"], seed=0)
    assert by_scene["a"]["block_iou"] == by_scene["a"]["depth_gamma"] == by_scene["a"]["retrieval"] == 1
    assert all(figure["ok"] for figure in summarise(by_scene).values())
    draw_worst(Oracle(), frames, ["a"], tmp_path / "worst.png")
    assert (tmp_path / "worst.png").is_file()


def test_states_are_those_that_training_stores_do_not_hold() -> None:
    states = held_out_states(50, seed=1)
    recordings = load_recordings()
    first = recordings.state[: recordings.episode_ends[299]]
    assert not (states[:, None] == first[None]).all(-1).any()
    np.testing.assert_array_equal(states, held_out_states(50, seed=1))
    scenes = domains_of("development") + domains_of("claims")
    assert sorted(scenes) == [f"pathtraced/{name}" for name in scene_names()]
    assert len(domains_of("development")) == 4
