"""Scores worked by hand with a judge whose answers are known, and their defined edge cases."""

import pytest
import torch
from torch import Tensor

from sim2real_aug.d3po.scores import (
    JudgedScores,
    outside_distance,
    region_distance,
    structural_score,
)


class ChannelJudge:
    """Depth is the red channel; a region is where its channel is bright; an embedding is the mean colour."""

    CHANNELS = ("red", "green", "blue")

    def depth(self, images: Tensor) -> Tensor:
        return images[:, 0]

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return images[:, self.CHANNELS.index(phrase)] > 0.9

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        assert masks.flatten(1).any(1).all(), "an empty region is nothing to embed"
        total = (images * masks[:, None]).flatten(2).sum(-1)
        return total / total.norm(dim=1, keepdim=True)


def plain(*colour: float) -> Tensor:
    return torch.tensor(colour, dtype=torch.float32).reshape(3, 1, 1).expand(3, 2, 2).clone()


NO_MASK = torch.zeros(1, 2, 2, dtype=torch.bool)


def test_structural_score_by_hand() -> None:
    source = torch.zeros(1, 2, 2)
    edits = torch.tensor([[[[0.0, 0.0], [0.0, 0.4]], [[1.0, 1.0], [1.0, -1.0]]]])
    torch.testing.assert_close(structural_score(source, edits), torch.tensor([[0.1, 1.0]]))


def test_outside_distance_by_hand() -> None:
    source = plain(0, 0, 0)[None]
    edits = source[:, None].repeat(1, 1, 1, 1, 1)
    edits[0, 0, :, 0, 0] = torch.tensor([0.3, 0.4, 0.0])  # norm 0.5, outside
    edits[0, 0, :, 1, 1] = 1.0  # inside: does not count
    inside = torch.tensor([[[False, False], [False, True]]])
    assert outside_distance(source, edits, inside).item() == pytest.approx(0.5 / 3)


def test_nothing_outside_is_no_distance() -> None:
    source, edits = plain(0, 0, 0)[None], plain(1, 1, 1)[None, None]
    assert outside_distance(source, edits, torch.ones(1, 2, 2, dtype=torch.bool)).item() == 0


def test_region_distance_reads_the_edit_not_the_source() -> None:
    """The paper's formula prints I_og in D; a score that did so could not tell these edits apart."""
    photo = plain(1, 0, 0)[None]
    edits = torch.stack([plain(1, 0, 0), plain(0, 1, 0), plain(1, 1, 0)])[None]
    everywhere = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    distance = region_distance(ChannelJudge(), photo, edits, everywhere, everywhere)
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0, 1 - 0.5**0.5]]))


def test_region_distance_averages_over_regions_found_in_both() -> None:
    photo, edits = plain(1, 0, 0)[None], torch.stack([plain(0, 1, 0)])[None]
    photo[0, :, 1] = plain(0, 1, 0)[:, 1]  # top red, bottom green
    top = torch.tensor([[[True, True], [False, False]]])
    none = torch.zeros_like(top)
    judge = ChannelJudge()
    source_masks, photo_masks = torch.stack([top, ~top]), torch.stack([top, ~top])
    both = region_distance(judge, photo, edits, source_masks, photo_masks)
    assert both.item() == pytest.approx(0.5), "1 for the top, 0 for the bottom"
    only_top = region_distance(judge, photo, edits, source_masks, torch.stack([top, none]))
    assert only_top.item() == pytest.approx(1.0), "a region that the photo lacks does not count"


def test_without_a_common_region_whole_frames_are_compared() -> None:
    photo, edits = plain(1, 0, 0)[None], torch.stack([plain(1, 0, 0), plain(0, 0, 1)])[None]
    none = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    distance = region_distance(ChannelJudge(), photo, edits, none, none)
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0]]))


def test_conditions_do_not_mix() -> None:
    photos = torch.stack([plain(1, 0, 0), plain(0, 1, 0)])
    edits = torch.stack([photos, photos])  # each condition: a red and a green edit
    everywhere = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    distance = region_distance(ChannelJudge(), photos, edits, everywhere, everywhere)
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_judged_scores_put_the_parts_together() -> None:
    source, photo = plain(0, 1, 0)[None], plain(0, 1, 1)[None]
    source[0, :, 0, 0] = 0.0  # one pixel outside the region "green"
    edits = source[:, None].clone()
    edits[0, 0, 0] += 0.2  # depth changes by 0.2 everywhere; outside, the colour by 0.2
    scores = JudgedScores(ChannelJudge(), ["green"], lambda_outside=0.05)(source, photo, edits, NO_MASK)
    # cosine of the edit's (0.6, 3, 0) over the region with the photo's (0, 3, 3)
    cosine = 9 / ((0.6**2 + 9) ** 0.5 * 18**0.5)
    assert scores.structural.item() == pytest.approx(0.2)
    assert scores.semantic.item() == pytest.approx(1 - cosine + 0.05 * 0.2, abs=1e-6)


def test_a_given_photo_mask_is_the_region_to_take_after() -> None:
    source, photo = plain(0, 1, 0)[None], plain(0, 1, 0)[None]
    photo[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    corner = NO_MASK.clone()
    corner[0, 0, 0] = True
    judged = JudgedScores(ChannelJudge(), ["green"])
    edits = source[:, None]
    assert judged(source, photo, edits, NO_MASK).semantic.item() == pytest.approx(0.0, abs=1e-6)
    assert judged(source, photo, edits, corner).semantic.item() == pytest.approx(1.0)
