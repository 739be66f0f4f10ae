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


def passes(hidden_rows: int, edit: Tensor) -> bool:
    """Whether an edit (3, S, S) passes of a block in rows 4 to 8 whose first rows an arm hides, all across."""
    source = block(range(4, 8))
    covered = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    covered[:, 4 : 4 + hidden_rows] = True
    conditions = Conditions(
        source=source[None],
        photos=source[None, None],
        photo_masks=torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool),
        numbers=np.array([0]),
        prompts=Seen(source[None, None], covered),
    )
    verdict = judge_edits(conditions, edit[None], JudgedScores(BlackBlocks(), ["block"]), AugmentSettings())
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
