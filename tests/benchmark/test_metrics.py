"""The metrics on cases worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from sim2real_aug.benchmark.metrics import depth_all, depth_out, l2_out, style_in

LEFT = torch.tensor([[[True, False], [True, False]]])


class MeanColour:
    """An encoder whose embedding is the mean colour in the mask."""

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        weight = masks[:, None].float()
        mean = (images * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1)
        return torch.nn.functional.normalize(mean, dim=1)


def painted(left: tuple[float, float, float], right: tuple[float, float, float]) -> Tensor:
    """One 2 x 2 image, a colour a column."""
    image = torch.tensor([left, right], dtype=torch.float32).T[None, :, None, :].expand(1, 3, 2, 2)
    return image.contiguous()


def test_nothing_is_lost_by_an_edit_that_changes_nothing():
    image, depth = painted((0.2, 0.4, 0.6), (1, 0, 0)), torch.tensor([[[0.1, 0.5], [0.7, 1.0]]])
    assert depth_all(depth, depth) == depth_out(depth, depth, LEFT) == l2_out(image, image, LEFT) == 0


def test_depth_that_moves_by_a_tenth_on_one_side():
    source = torch.full((1, 2, 2), 0.5)
    edit = torch.tensor([[[0.5, 0.6], [0.5, 0.6]]])  # the right column, outside the mask
    torch.testing.assert_close(depth_all(source, edit), torch.tensor([12.75]))  # 255 x 0.1 / 2
    torch.testing.assert_close(depth_out(source, edit, LEFT), torch.tensor([25.5]))
    assert depth_out(source, edit, ~LEFT) == 0


def test_colour_that_moves_by_3_4_0_tenths_outside():
    source, edit = painted((0, 0, 0), (0.5, 0.5, 0.5)), painted((1, 1, 1), (0.8, 0.9, 0.5))
    torch.testing.assert_close(l2_out(source, edit, LEFT), torch.tensor([0.5]))


def test_outside_of_everything_there_is_no_figure():
    image, everything = painted((0, 0, 0), (1, 1, 1)), torch.ones(1, 2, 2, dtype=torch.bool)
    assert l2_out(image, image, everything).isnan().all()
    assert depth_out(image[:, 0], image[:, 0], everything).isnan().all()


def test_style_is_the_cosine_inside_the_masks_and_the_mean_over_encoders():
    edit, photo = painted((1, 0, 0), (0, 0, 1)), painted((1, 1, 0), (0, 0, 1))
    found = style_in([MeanColour(), MeanColour()], edit, LEFT, photo, LEFT)
    torch.testing.assert_close(found, torch.tensor([math.sqrt(0.5)]))


@pytest.mark.parametrize("missing", ["edit", "photo"])
def test_style_of_a_region_that_is_not_there_is_no_figure(missing: str):
    image, nowhere = painted((1, 0, 0), (0, 0, 1)), torch.zeros(1, 2, 2, dtype=torch.bool)
    masks = (nowhere, LEFT) if missing == "edit" else (LEFT, nowhere)
    assert style_in([MeanColour()], image, masks[0], image, masks[1]).isnan().all()
