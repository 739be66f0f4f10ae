"""Photos that do not show the object are named before anything is made of them."""

import pytest
import torch
from torch import Tensor

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.photo_check import require_object

NAMES = ("a.jpg", "b.jpg", "c.jpg")


class RedJudge:
    """What is red is what it is asked for, but no table."""

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return (images[:, 0] > 0.5) & (phrase != "table")


def photos(*red_pixels: int) -> tuple[Tensor, Tensor]:
    """Photos of 10 x 10 with so many red pixels, and no masks."""
    images = torch.zeros(len(red_pixels), 3, 10, 10)
    for image, count in zip(images, red_pixels, strict=True):
        image[0].view(-1)[:count] = 1
    return images, torch.zeros(len(red_pixels), 10, 10, dtype=torch.bool)


def test_photos_without_the_object_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    require_object(RedJudge(), *photos(2, 0, 0), NAMES, ("table", "block"))
    assert "no 'block' in 2 of 3 photos: b.jpg, c.jpg; bring" in capsys.readouterr().err
    require_object(RedJudge(), *photos(2, 1, 1), NAMES, ("table", "block"))
    assert not capsys.readouterr().err


def test_none_with_the_object_is_refused_unless_its_owner_outlines_it() -> None:
    images, masks = photos(0, 0, 0)
    with pytest.raises(BadInput, match=r"no 'block' in any of the photos: a\.jpg, b\.jpg, c\.jpg; .*\.mask\.png"):
        require_object(RedJudge(), images, masks, NAMES, ("block",))
    masks[1, 0, 0] = True
    require_object(RedJudge(), images, masks, NAMES, ("block",))


def test_a_pusher_may_be_small_and_an_outline_is_none_of_it() -> None:
    one_pixel = torch.zeros(3, 3, 20, 20)
    one_pixel[:, 0, 5, 5] = 1.0
    masks = torch.ones(3, 20, 20, dtype=torch.bool)
    require_object(RedJudge(), one_pixel, ~masks, NAMES, ("pusher",))
    with pytest.raises(BadInput, match="no 'pusher' in any"):
        require_object(RedJudge(), 0 * one_pixel, masks, NAMES, ("pusher",))
    require_object(RedJudge(), 0 * one_pixel, masks, NAMES, ("table", "mug"))


def test_many_names_are_cut_short() -> None:
    images, masks = photos(*[0] * 20)
    with pytest.raises(BadInput, match=r"0, 1, 2, 3, 4 and 15 more; "):
        require_object(RedJudge(), images, masks, [str(n) for n in range(20)], ("block",))
