"""The arm of the nearest photo, moved to a source's pusher."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sim2real_aug.editor.arms import Arms, outlines_of, read_arms

SIDE = 32
GREY, GREEN = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.1, 0.8, 0.2])


def bar(end: int, column: int, width: int = 5) -> Tensor:
    """(S, S) bool: an arm from the top down to row `end`, around a column."""
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[: end + 1, column - width // 2 : column + width // 2 + 1] = True
    return mask


def photo(mask: Tensor, color: Tensor = GREY) -> Tensor:
    """(3, S, S): an arm of one colour, green at its end, over white."""
    image = torch.where(mask, color[:, None, None], torch.ones(3, SIDE, SIDE))
    last = int(mask.any(1).nonzero().max())
    return torch.where(mask & (torch.arange(SIDE)[:, None] > last - 3), GREEN[:, None, None], image)


def arms(*masks: Tensor, colors: tuple[Tensor, ...] = ()) -> Arms:
    colors = colors or (GREY,) * len(masks)
    photos = torch.stack([photo(mask, color) for mask, color in zip(masks, colors, strict=True)])
    return read_arms(photos[None], torch.stack(masks)[None], softness=0.01)


def pusher(row: int, column: int) -> Tensor:
    """(1, S, S) bool: 3 x 3 around a place, so that an arm that comes from above ends in row + 3 / sqrt(pi)."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[0, row - 1 : row + 2, column - 1 : column + 2] = True
    return mask


def drawn(arms: Arms, pushers: Tensor, chosen: int = 0) -> tuple[Tensor, Tensor]:
    """The arm over white (3, S, S), and where it covers a pixel (S, S)."""
    color, share = arms.over(pushers, torch.tensor([chosen]))
    return torch.lerp(torch.ones(3, SIDE, SIDE), color[0], share[0]), share[0, 0] > 0.5


def test_an_outline_ends_far_from_where_it_comes_in() -> None:
    found = outlines_of(torch.stack([bar(20, 10, width=1), bar(2, 10), torch.zeros(SIDE, SIDE, dtype=torch.bool)]))
    assert found.ends[0].tolist() == [20, 10]
    assert found.axes[0].tolist() == [-1, 0]
    assert found.width[0].item() == pytest.approx(21 / 20)
    assert found.long.tolist() == [True, False, False], "of 32 pixels at least 3.84"


def test_an_arm_is_moved_to_the_sources_pusher() -> None:
    image, covered = drawn(arms(bar(20, 10, width=1)), pusher(11, 18))
    assert covered[:14, 18].all()
    assert covered.sum() == 14, "its end, row 20, comes to 11 + 3 / sqrt(pi) = 12.7: row 13 shows what was at 20.3"
    torch.testing.assert_close(image[:, 5, 18], GREY, atol=0.05, rtol=0)
    torch.testing.assert_close(image[:, 11, 18], GREEN, atol=0.05, rtol=0)


def test_what_the_photos_edge_cut_off_goes_on_along_the_arm() -> None:
    image, covered = drawn(arms(bar(8, 10)), pusher(25, 18))
    assert covered[:26, 17:20].all()
    torch.testing.assert_close(image[:, 0, 18], GREY, atol=0.05, rtol=0)


def test_the_photo_whose_pusher_is_nearest_gives_the_arm() -> None:
    two = arms(bar(8, 10), bar(24, 10), colors=(GREY, torch.tensor([0.9, 0.2, 0.1])))
    assert drawn(two, pusher(9, 20))[0][0, 3, 20] == pytest.approx(0.5, abs=0.05)
    assert drawn(two, pusher(22, 20))[0][0, 3, 20] == pytest.approx(0.9, abs=0.05)


def test_an_arm_of_another_bench_is_not_taken() -> None:
    far, near = bar(8, 10), bar(24, 10)
    photos = torch.stack([photo(far), photo(near, torch.tensor([0.9, 0.2, 0.1]))])
    two = read_arms(photos[:, None], torch.stack([far, near])[:, None], softness=0.01)
    assert drawn(two, pusher(22, 20), chosen=0)[0][0, 3, 20] == pytest.approx(0.5, abs=0.05)
    assert drawn(two, pusher(22, 20), chosen=1)[0][0, 3, 20] == pytest.approx(0.9, abs=0.05)


def test_an_arm_that_its_photo_cuts_off_along_a_side_is_not_taken() -> None:
    cut = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    cut[:21, :2] = True
    assert arms(bar(24, 10), bar(10, 10), cut).usable.tolist() == [True, True, False]


@pytest.mark.parametrize(
    "masks",
    [
        (bar(2, 10), bar(1, 12)),  # pushers beside the edge
        (bar(20, 10), pusher(9, 9)[0], pusher(20, 20)[0]),  # one arm in three
        (torch.zeros(SIDE, SIDE, dtype=torch.bool),),
    ],
    ids=["short", "few", "none"],
)
def test_no_arm_is_drawn_where_photos_show_none(masks: tuple[Tensor, ...]) -> None:
    photos = torch.ones(1, len(masks), 3, SIDE, SIDE)
    assert not drawn(read_arms(photos, torch.stack(masks)[None], softness=0.01), pusher(15, 15))[1].any()


def test_a_source_with_an_arm_of_its_own_or_no_pusher_gets_none() -> None:
    for source in (bar(18, 20)[None], torch.zeros(1, SIDE, SIDE, dtype=torch.bool)):
        assert not drawn(arms(bar(20, 10)), source)[1].any()


def test_an_arm_is_in_the_same_place_within_autocast() -> None:
    exact, covered = drawn(arms(bar(20, 10)), pusher(11, 18))
    with torch.autocast("cpu", torch.bfloat16):
        image, found = drawn(arms(bar(20, 10)), pusher(11, 18))
    assert torch.equal(found, covered)
    torch.testing.assert_close(image, exact, atol=4e-3, rtol=0)


def test_pictures_need_not_be_square() -> None:
    wide = torch.zeros(1, 1, SIDE, 2 * SIDE, dtype=torch.bool)
    wide[..., :21, 40:45] = True
    source = torch.zeros(1, SIDE, 2 * SIDE, dtype=torch.bool)
    source[0, 20:23, 50:53] = True
    _, share = read_arms(torch.ones(1, 1, 3, SIDE, 2 * SIDE), wide, softness=0.01).over(source, torch.tensor([0]))
    assert (share[0, 0, :20, 49:54] > 0.5).all()
    assert share[0, 0, :, :45].max() < 0.5
