"""Scores worked by hand with a judge whose answers are known, and their defined edge cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sim2real_aug.d3po.scores import (
    Conditions,
    JudgedScores,
    SourceGeometry,
    outside_distance,
    region_distance,
    source_mask,
    structural_score,
)
from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.regions import REGIONS
from sim2real_aug.editor.composition import Seen


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


def given(
    source: Tensor, photos: Tensor, masks: Tensor = NO_MASK, geometry: SourceGeometry | None = None
) -> Conditions:
    """One condition; photos (n, 3, H, W), masks (n, H, W) of them."""
    return Conditions(source, photos[None], masks.expand(len(photos), -1, -1)[None], np.array([0]), geometry)


def test_structural_score_by_hand() -> None:
    source = torch.zeros(1, 2, 2)
    edits = torch.tensor([[[[0.0, 0.0], [0.0, 0.4]], [[1.0, 1.0], [1.0, -1.0]]]])
    compared = torch.ones(1, 2, 2, dtype=torch.bool)
    torch.testing.assert_close(structural_score(source, edits, compared), torch.tensor([[0.1, 1.0]]))
    compared[0, 0, 0] = False
    torch.testing.assert_close(structural_score(source, edits, compared), torch.tensor([[0.4 / 3, 1.0]]))


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
    distance = region_distance(ChannelJudge(), photo, edits, everywhere, everywhere, torch.tensor([[0]]))
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0, 1 - 0.5**0.5]]))


def test_region_distance_averages_over_regions_found_in_both() -> None:
    photo, edits = plain(1, 0, 0)[None], torch.stack([plain(0, 1, 0)])[None]
    photo[0, :, 1] = plain(0, 1, 0)[:, 1]  # top red, bottom green
    top = torch.tensor([[[True, True], [False, False]]])
    none = torch.zeros_like(top)
    judge = ChannelJudge()
    source_masks, photo_masks = torch.stack([top, ~top]), torch.stack([top, ~top])
    both = region_distance(judge, photo, edits, source_masks, photo_masks, torch.tensor([[0]]))
    assert both.item() == pytest.approx(0.5), "1 for the top, 0 for the bottom"
    only_top = region_distance(judge, photo, edits, source_masks, torch.stack([top, none]), torch.tensor([[0]]))
    assert only_top.item() == pytest.approx(1.0), "a region that the photo lacks does not count"


def test_without_a_common_region_whole_frames_are_compared() -> None:
    photo, edits = plain(1, 0, 0)[None], torch.stack([plain(1, 0, 0), plain(0, 0, 1)])[None]
    none = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    distance = region_distance(ChannelJudge(), photo, edits, none, none, torch.tensor([[0]]))
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0]]))


def test_conditions_do_not_mix() -> None:
    photos = torch.stack([plain(1, 0, 0), plain(0, 1, 0)])
    edits = torch.stack([photos, photos])  # each condition: a red and a green edit
    everywhere = torch.ones(1, 2, 2, 2, dtype=torch.bool)
    distance = region_distance(ChannelJudge(), photos, edits, everywhere, everywhere, torch.tensor([[0], [1]]))
    torch.testing.assert_close(distance, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    crossed = region_distance(ChannelJudge(), photos, edits, everywhere, everywhere, torch.tensor([[1], [0]]))
    torch.testing.assert_close(crossed, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


def test_a_photo_of_several_conditions_is_read_once() -> None:
    class Counting(ChannelJudge):
        read = 0

        def segment(self, images: Tensor, phrase: str) -> Tensor:
            self.read += len(images)
            return super().segment(images, phrase)

    red, green = plain(1, 0, 0), plain(0, 1, 0)
    photos, source = torch.stack([red, green, red])[:, None], torch.stack([red, red, green])
    judge, regions = Counting(), ("green", "red")
    conditions = Conditions(source, photos, torch.zeros(3, 1, 2, 2, dtype=torch.bool), np.arange(3))
    JudgedScores(judge, regions)(conditions, source[:, None])
    assert judge.read == len(regions) * (len(source) + 2)


class Recording(ChannelJudge):
    """Counts the images that it reads."""

    def __init__(self) -> None:
        self.segmented = self.embedded = 0

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        self.segmented += len(images)
        return super().segment(images, phrase)

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        self.embedded += len(images)
        return super().embed(images, masks)


def test_a_photo_is_read_once_as_long_as_the_scorer_lives() -> None:
    """Minibatches of a round that share some of their photos; another region is found in the second one's source."""
    red, green, both = plain(1, 0, 0), plain(0, 1, 0), plain(1, 1, 0.5)
    judge, regions = Recording(), ("green", "red")
    scorer = JudgedScores(judge, regions)
    for sources, photos, new in (
        ([red, both], [both, green], 2),
        ([green, red], [green, both], 0),
        ([both, both], [red, both], 1),
    ):
        source, prompts = torch.stack(sources), torch.stack(photos)[:, None]
        masks = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
        conditions = Conditions(source, prompts, masks, np.arange(2))
        edits, judge.segmented, judge.embedded = source[:, None].flip(0), 0, 0
        scores = scorer(conditions, edits)
        assert judge.segmented == len(regions) * (len(source) + new)
        expected = JudgedScores(ChannelJudge(), regions)(conditions, edits)
        assert torch.equal(scores.semantic, expected.semantic)
        assert torch.equal(scores.structural, expected.structural)
    judge.embedded = 0
    scorer(conditions, edits)
    assert judge.embedded == len(regions) * len(edits) - 1, "of the edits alone: red has no green region"


def test_a_scorer_serves_two_folders_of_photos() -> None:
    source, scorer = plain(1, 0, 0)[None], JudgedScores(ChannelJudge(), ("red",))
    for photo in (plain(1, 0, 0), plain(1, 0, 0.9)):
        masks = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
        conditions = Conditions(source, photo[None, None], masks, np.arange(1))
        scored, alone = (each(conditions, source[:, None]) for each in (scorer, JudgedScores(ChannelJudge(), ("red",))))
        assert torch.equal(scored.semantic, alone.semantic)
    assert scored.semantic.item() > 0.01, "the second photo is not the first"


def test_judged_scores_put_the_parts_together() -> None:
    source, photo = plain(0, 1, 0)[None], plain(0, 1, 1)[None]
    source[0, :, 0, 0] = 0.0  # one pixel outside the region "green"
    edits = source[:, None].clone()
    edits[0, 0, 0] += 0.2  # depth changes by 0.2 everywhere; outside, the colour by 0.2
    scores = JudgedScores(ChannelJudge(), ["green"], lambda_outside=0.05)(given(source, photo), edits)
    # cosine of the edit's (0.6, 3, 0) over the region with the photo's (0, 3, 3)
    cosine = 9 / ((0.6**2 + 9) ** 0.5 * 18**0.5)
    assert scores.structural.item() == pytest.approx(0.2)
    assert scores.semantic.item() == pytest.approx(1 - cosine + 0.05 * 0.2, abs=1e-6)


def test_a_given_photo_mask_is_the_object_to_take_after() -> None:
    source, photo = plain(0, 1, 0)[None], plain(0, 1, 0)[None]
    photo[0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    corner = NO_MASK.clone()
    corner[0, 0, 0] = True
    judged = JudgedScores(ChannelJudge(), ["green"])
    edits = source[:, None]
    assert judged(given(source, photo), edits).semantic.item() == pytest.approx(0.0, abs=1e-6)
    assert judged(given(source, photo, corner), edits).semantic.item() == pytest.approx(1.0)


class NamedJudge(ChannelJudge):
    """The table is what is green, the block what is red."""

    CHANNELS = ("block", "table")


def test_a_given_mask_takes_its_place_from_the_other_regions() -> None:
    """The judge takes the blue block for a part of the table; its owner outlined it."""
    source, photo = plain(0, 1, 0)[None], plain(0, 1, 0)[None]
    source[0, :, 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]  # block above, table below
    photo[0, :, 0] = torch.tensor([0.0, 1.0, 1.0])[:, None]
    outline = NO_MASK.clone()
    outline[0, 0] = True
    edits = photo[:, None]  # exactly the photo: table like table, block like block
    scorer = JudgedScores(NamedJudge(), ["table", "block"])
    assert scorer(given(source, photo, outline), edits).semantic.item() == pytest.approx(0.0, abs=1e-6)
    # without the outline the photo has no block, and its table is the mean (0, 1, 0.5) of both halves
    assert scorer(given(source, photo), edits).semantic.item() == pytest.approx(1 - 1 / 1.25**0.5, abs=1e-6)


@pytest.mark.parametrize(("specks", "distance"), [(1, 0.0), (4, 0.5)])
def test_specks_of_the_object_in_a_photo_are_not_compared(specks: int, distance: float) -> None:
    """A photo of a green table, 20 x 20, with so many magenta pixels that the judge takes for a block; 1 % is 4."""
    source = plain(0, 1, 0).repeat(1, 10, 10)[None]
    photo = source.clone()
    source[0, :, 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]
    photo[0, :, 0, :specks] = torch.tensor([1.0, 0.0, 1.0])[:, None]
    outline = torch.zeros(1, 20, 20, dtype=torch.bool)
    edits = source[:, None].clone()
    edits[0, 0, :, 0] = torch.tensor([0.0, 1.0, 0.0])[:, None]  # the block has gone green: 1 from magenta
    scorer = JudgedScores(NamedJudge(), ["table", "block"])
    assert scorer(given(source, photo, outline), edits).semantic.item() == pytest.approx(distance, abs=1e-6)
    outline[0, 0, :specks] = True
    outlined = scorer(given(source, photo, outline), edits).semantic.item()
    assert outlined == pytest.approx(0.5, abs=1e-6), "what its owner outlines counts, however small"


def test_several_photos_count_alike() -> None:
    source, photos = plain(0, 1, 0)[None], torch.stack([plain(0, 1, 0), plain(0, 1, 1)])
    scores = JudgedScores(ChannelJudge(), ["green"])(given(source, photos), source[:, None])
    assert scores.semantic.item() == pytest.approx((0 + 1 - 0.5**0.5) / 2, abs=1e-6)


def test_exact_geometry_takes_the_place_of_the_judges_estimate() -> None:
    """A block 40 high and a pusher 60 high on a table 1000 below the camera; the judge sees red 0.75 everywhere."""
    depth = np.array([[[1000.0, 1000.0], [960.0, 940.0]]], np.float32)
    labels = np.array([[[0, 2], [1, 3]]], np.uint8)
    exact = SourceGeometry.on(torch.device("cpu"), FrameGeometry.measured(labels, depth))
    source, photo = plain(0.75, 1, 0)[None], plain(0, 1, 0)[None]
    edits = source[:, None].clone()
    scores = JudgedScores(NamedJudge(), ["table"])(given(source, photo, geometry=exact), edits)
    # relative depth 1, 1, 0.5, 0.25 against 0.75: the unedited frame's score is what the judge gets wrong of it
    assert scores.structural.item() == pytest.approx((0.25 + 0.25 + 0.25 + 0.5) / 4)
    edits[0, 0, :, 1, 0] += torch.tensor([0.0, -0.3, 0.4])  # distance 0.5 on the block: outside of the table,
    moved = JudgedScores(NamedJudge(), ["table"])(given(source, photo, geometry=exact), edits)
    # of whose two other pixels, goal and pusher, nothing changed; the judge would have found table everywhere
    assert (moved.semantic - scores.semantic).item() == pytest.approx(0.05 * 0.5 / 3, abs=1e-6)


def test_a_perfect_judge_gives_an_unedited_frame_a_structural_score_of_zero() -> None:
    depth = np.array([[[1.0, 1.0], [0.96, 0.96]]], np.float32)
    geometry = FrameGeometry.measured(np.array([[[0, 0], [1, 1]]], np.uint8), depth)
    source, photo = plain(0, 1, 0)[None], plain(0, 1, 0)[None]
    source[0, 0] = torch.tensor([[1.0, 1.0], [0.5, 0.5]])
    exact = SourceGeometry.on(torch.device("cpu"), geometry)
    scores = JudgedScores(NamedJudge(), ["table"])(given(source, photo, geometry=exact), source[:, None])
    assert scores.structural.item() == pytest.approx(0.0, abs=1e-6)


def test_what_an_arm_covers_is_the_pushers_and_compared_as_nothing_else() -> None:
    """An arm over the upper left of a red frame: what edits show there changes no score of the red region."""
    red, covered = plain(1, 0, 0), torch.zeros(1, 2, 2, dtype=torch.bool)
    covered[0, 0, 0] = True
    seen = replace(given(red[None], red[None]), prompts=Seen(red[None, None], covered))
    with_arm = red.clone()
    with_arm[:, 0, 0] = torch.tensor([0.0, 1.0, 0.0])
    edits = torch.stack([red, with_arm])[None]
    scores = JudgedScores(ChannelJudge(), ["red"])(seen, edits)
    torch.testing.assert_close(scores.structural, torch.zeros(1, 2))
    torch.testing.assert_close(scores.semantic, torch.zeros(1, 2))
    assert torch.equal(source_mask(ChannelJudge(), seen, "red"), ~covered)
    labels = SourceGeometry(torch.full((1, 2, 2), REGIONS.index("table"), dtype=torch.uint8), torch.ones(1, 2, 2))
    exact = replace(seen, geometry=labels)
    assert torch.equal(source_mask(ChannelJudge(), exact, "table"), ~covered)
    assert torch.equal(source_mask(ChannelJudge(), exact, "robot"), covered)


def test_of_a_block_that_a_pusher_hides_but_for_a_sliver_nothing_is_compared() -> None:
    labels = torch.full((1, 20, 20), REGIONS.index("table"), dtype=torch.uint8)
    labels[0, 4:8, 4:8] = REGIONS.index("block")
    source, covered = torch.zeros(1, 3, 20, 20), torch.zeros(1, 20, 20, dtype=torch.bool)
    exact = SourceGeometry(labels, torch.ones(1, 20, 20))
    for rows, left in ((2, 8), (3, 4), (4, 0)):  # four pixels are a hundredth of the frame
        covered[0, 4 : 4 + rows] = True
        seen = replace(given(source, source, NO_MASK, exact), prompts=Seen(source[:, None], covered.clone()))
        assert source_mask(ChannelJudge(), seen, "block").sum() == left
    covered[0, 7, 4:7] = False
    seen = replace(seen, prompts=Seen(source[:, None], covered))
    assert source_mask(ChannelJudge(), seen, "block").sum() == 0, "three pixels are less"
