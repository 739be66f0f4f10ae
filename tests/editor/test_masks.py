"""Masks made larger and softer."""

from __future__ import annotations

import math

import torch

from sim2real_aug.editor.masks import blurred, grown


def test_masks_grow_by_squares() -> None:
    mask = torch.zeros(2, 3, 12, 9, dtype=torch.bool)
    mask[0, 1, 5, 4] = mask[1, 2, 0, 8] = True
    large = grown(mask, 2)
    assert large[0, 1].nonzero().tolist() == [[row, column] for row in range(3, 8) for column in range(2, 7)]
    assert large[1, 2].sum() == 9, "at the corner of the picture"
    assert large.sum() == 25 + 9
    assert torch.equal(grown(mask, 0), mask)


def test_a_blurred_point_is_a_gaussian() -> None:
    point = torch.zeros(1, 1, 21, 21)
    point[..., 10, 10] = 1
    soft = blurred(point, 2.0)[0, 0]
    assert abs(soft.sum() - 1) < 1e-5
    assert abs(soft[10, 12] / soft[10, 10] - math.exp(-0.5)) < 1e-5
    assert abs(soft[12, 12] / soft[10, 10] - math.exp(-1)) < 1e-5


def test_blurring_adds_no_edge_at_the_border() -> None:
    torch.testing.assert_close(blurred(torch.ones(1, 1, 8, 8), 1.0), torch.ones(1, 1, 8, 8))
