"""The gate where an arm hides what it asks for."""

import numpy as np
import torch
from torch import Tensor

from sim2real_aug.augment.gate import judge_edits
from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.d3po.scores import Conditions, JudgedScores
from sim2real_aug.editor.composition import Seen

SIDE = 20


class BlackBlocks:
    def depth(self, images: Tensor) -> Tensor:
        return images.mean(1)

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return images.mean(1) < 0.1

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.ones(len(images), 2)


def passes(hidden_rows: int, edit: Tensor, last_row: int = 8, region: str = "block") -> bool:
    """Whether an edit (3, S, S) passes of a block from row 4 on whose first rows an arm hides, all across."""
    source = block(range(4, last_row))
    covered = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    covered[:, 4 : 4 + hidden_rows] = True
    conditions = Conditions(
        source=source[None],
        photos=source[None, None],
        photo_masks=torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool),
        numbers=np.array([0]),
        prompts=Seen(source[None, None], covered),
    )
    scorer = JudgedScores(BlackBlocks(), [region])
    verdict = judge_edits(conditions, edit[None], scorer, AugmentSettings(region=region))
    return bool(verdict.ok[0])


def block(rows: range) -> Tensor:
    image = torch.ones(3, SIDE, SIDE)
    image[:, rows.start : rows.stop, 4:8] = 0
    return image


def test_a_block_is_asked_for_where_no_arm_hides_it() -> None:
    assert passes(0, block(range(4, 8)))
    assert not passes(0, block(range(4, 8)).roll(3, dims=2)), "moved"
    assert passes(2, block(range(6, 8))), "its lower half is all that is to be seen"
    assert not passes(2, block(range(4, 6))), "what is under the arm does not count"


def test_nothing_is_asked_of_a_block_that_an_arm_hides() -> None:
    assert passes(4, torch.ones(3, SIDE, SIDE))
    assert not passes(0, torch.ones(3, SIDE, SIDE))


def test_a_block_that_is_small_is_asked_for() -> None:
    """One row of four pixels, a hundredth of the frame, passes for shown; under an arm, less than that is hidden."""
    assert not passes(0, torch.ones(3, SIDE, SIDE), last_row=5)
    assert passes(1, torch.ones(3, SIDE, SIDE), last_row=5)


def test_a_pusher_is_asked_for_where_the_prompts_own_does_not_cover_it() -> None:
    assert passes(2, block(range(4, 8)), region="pusher")
    assert not passes(2, block(range(4, 6)), region="pusher")
