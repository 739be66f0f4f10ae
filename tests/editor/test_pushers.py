"""The pusher of the nearest photo, moved to a source's: arms, sticks and their shadows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sim2real_aug.editor.pushers import Pushers, outlines_of, read_pushers

SIDE = 32
GREY, GREEN, RED = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.1, 0.8, 0.2]), torch.tensor([0.9, 0.2, 0.1])
NOTHING = torch.zeros(SIDE, SIDE, dtype=torch.bool)


def box(rows: range, columns: range) -> Tensor:
    mask = NOTHING.clone()
    mask[rows.start : rows.stop, columns.start : columns.stop] = True
    return mask


def bar(end: int, column: int, width: int = 5) -> Tensor:
    """(S, S) bool: an arm from the top down to row `end`, around a column."""
    return box(range(end + 1), range(column - width // 2, column + width // 2 + 1))


def photo(mask: Tensor, color: Tensor = GREY) -> Tensor:
    """(3, S, S): something of one colour, green in its last three rows, over white."""
    image = torch.where(mask, color[:, None, None], torch.ones(3, SIDE, SIDE))
    last = int(mask.any(1).nonzero().max()) if mask.any() else 0
    return torch.where(mask & (torch.arange(SIDE)[:, None] > last - 3), GREEN[:, None, None], image)


def read(photos: Tensor, masks: Tensor) -> Pushers:
    """Of photos (G, P, 3, S, S) over white; masks (G, P, S, S): each one's pusher, arm or not."""
    exposure = torch.zeros(*photos.shape[:3], 1, 1)
    return read_pushers(photos, torch.ones_like(photos), exposure, masks, masks, torch.zeros_like(masks))


def pushers(*masks: Tensor, colors: tuple[Tensor, ...] = ()) -> Pushers:
    colors = colors or (GREY,) * len(masks)
    photos = torch.stack([photo(mask, color) for mask, color in zip(masks, colors, strict=True)])
    return read(photos[None], torch.stack(masks)[None])


def source(row: int, column: int) -> Tensor:
    """(1, S, S) bool: a pusher of 3 x 3 around a place, so that an arm ends 3 / sqrt(pi) beyond it."""
    return box(range(row - 1, row + 2), range(column - 1, column + 2))[None]


def drawn(read: Pushers, wanted: Tensor, chosen: int = 0) -> tuple[Tensor, Tensor]:
    """The pusher over white (3, S, S), and where it covers a pixel (S, S)."""
    moved = read.moved_to(wanted, torch.tensor([chosen]))
    image = torch.lerp(torch.ones(3, SIDE, SIDE) * moved.light[0], moved.colors[0], moved.share[0])
    return image, moved.share[0, 0] > 0.5


def test_an_outline_ends_far_from_where_it_comes_in() -> None:
    found = outlines_of(torch.stack([bar(20, 10, width=1), bar(2, 10), NOTHING]))
    assert found.ends[0].tolist() == [20, 10]
    assert found.axes[0].tolist() == [-1, 0]
    assert found.width[0].item() == pytest.approx(21 / 20)
    assert found.long.tolist() == [True, False, False], "of 32 pixels at least 3.84"


def test_an_arm_is_moved_to_the_sources_pusher() -> None:
    image, covered = drawn(pushers(bar(20, 10, width=1)), source(11, 18))
    assert covered[:14, 18].all()
    assert covered.sum() == 14, "its end, row 20, comes to 11 + 3 / sqrt(pi) = 12.7: row 13 shows what was at 20.3"
    torch.testing.assert_close(image[:, 5, 18], GREY, atol=0.05, rtol=0)
    torch.testing.assert_close(image[:, 11, 18], GREEN, atol=0.05, rtol=0)


def test_what_the_photos_edge_cut_off_goes_on_along_the_arm() -> None:
    image, covered = drawn(pushers(bar(8, 10)), source(25, 18))
    assert covered[:26, 17:20].all()
    torch.testing.assert_close(image[:, 0, 18], GREY, atol=0.05, rtol=0)


def test_the_photo_whose_pusher_is_nearest_gives_the_arm() -> None:
    two = pushers(bar(8, 10), bar(24, 10), colors=(GREY, RED))
    assert drawn(two, source(9, 20))[0][0, 3, 20] == pytest.approx(0.5, abs=0.05)
    assert drawn(two, source(22, 20))[0][0, 3, 20] == pytest.approx(0.9, abs=0.05)


def test_a_pusher_of_another_bench_is_not_taken() -> None:
    far, near = bar(8, 10), bar(24, 10)
    two = read(torch.stack([photo(far), photo(near, RED)])[:, None], torch.stack([far, near])[:, None])
    assert drawn(two, source(22, 20), chosen=0)[0][0, 3, 20] == pytest.approx(0.5, abs=0.05)
    assert drawn(two, source(22, 20), chosen=1)[0][0, 3, 20] == pytest.approx(0.9, abs=0.05)


def test_what_its_photo_cuts_off_is_not_taken() -> None:
    narrow = box(range(21), range(2))
    assert pushers(bar(24, 10), bar(10, 10), narrow).usable.tolist() == [True, True, False]
    small, beside = box(range(9, 11), range(9, 11)), box(range(3), range(9, 13))
    assert pushers(source(9, 9)[0], source(20, 20)[0], small, beside).usable.tolist() == [True, True, False, False]


def test_a_source_with_an_arm_of_its_own_or_no_pusher_and_a_bench_without_one_get_none() -> None:
    for wanted in (bar(18, 20)[None], NOTHING[None]):
        assert not drawn(pushers(bar(20, 10)), wanted)[1].any()
    none = pushers(NOTHING, NOTHING)
    assert not none.moved_to(source(15, 15), torch.tensor([0])).shown.any()
    assert not drawn(none, source(15, 15))[1].any()


def test_a_stick_that_leans_stands_on_the_sources_pusher() -> None:
    """Two columns wide in the picture's middle, it reaches from row 20 to 27: variances 63/12 along and 3/12 across, so
    l = sqrt(60) and the foot is at 23.5 - l / 2 = 19.6."""
    sticks = [box(range(20, 28), range(15, 17)), box(range(4, 12), range(15, 17))]
    found = pushers(*sticks)
    foot = 23.5 - math.sqrt(60) / 2
    torch.testing.assert_close(found.places, torch.tensor([[foot, 15.5], [31 - foot, 15.5]]))
    image, covered = drawn(found, source(18, 8))
    shift = 18 - foot
    rows = covered[:, 8].nonzero()[:, 0]
    assert abs(rows.min() - (20 + shift)) <= 1, "from just beyond the foot"
    assert abs(rows.max() - (27 + shift)) <= 1, "outward"
    torch.testing.assert_close(image[:, 21, 8], GREY, atol=0.1, rtol=0)


def test_something_else_at_the_edge_is_not_the_arms_end() -> None:
    found = outlines_of((bar(20, 10) | box(range(30, 32), range(28, 30)))[None])
    assert found.ends[0].tolist() == [20, 10]


def test_a_pusher_comes_in_the_light_of_the_photo_that_is_taken_after() -> None:
    masks, exposure = torch.stack([bar(8, 10), bar(24, 10)]), torch.tensor([0.1, -0.1])[None, :, None, None, None]
    photos = torch.stack([photo(mask) for mask in masks])[None] + exposure
    found = read_pushers(photos, photos, exposure.expand(1, 2, 3, 1, 1), masks[None], masks[None], masks[None] & False)
    for chosen, grey in ((0, 0.6), (1, 0.4)):
        color = drawn(found, source(22, 20), chosen)[0][:, 3, 20]
        torch.testing.assert_close(color, torch.full((3,), grey), atol=0.02, rtol=0)


def test_a_round_stick_stands_where_it_is() -> None:
    found = pushers(source(9, 9)[0], source(20, 24)[0])
    torch.testing.assert_close(found.places, torch.tensor([[9.0, 9.0], [20.0, 24.0]]))


def test_one_arm_among_sticks_is_none() -> None:
    found = pushers(bar(20, 10), source(9, 9)[0], source(20, 20)[0])
    assert found.usable.tolist() == [False, True, True]
    assert (found.axes == 0).all()


def test_the_sticks_shadow_moves_with_it_and_darkens_what_it_falls_on() -> None:
    stick, shadow = source(9, 9)[0], box(range(8, 11), range(12, 18))
    other = box(range(20, 23), range(4, 8))  # dark, but nothing of the stick's
    image = torch.where(shadow | other, 0.5, photo(stick))
    parts = (image, torch.ones(3, SIDE, SIDE), torch.zeros(3, 1, 1), stick, stick, NOTHING)
    found = read_pushers(*(part[None, None] for part in parts))
    light = found.moved_to(source(19, 13), torch.tensor([0])).light[0, 0]
    assert light[19, 17:20].tolist() == pytest.approx([0.5] * 3, abs=0.03)
    assert light[19, 26:].min() == pytest.approx(1)
    assert light[24:].min() == pytest.approx(1)
    assert light[:, :8].min() == pytest.approx(1)


def test_a_pusher_is_in_the_same_place_within_autocast() -> None:
    exact, covered = drawn(pushers(bar(20, 10)), source(11, 18))
    with torch.autocast("cpu", torch.bfloat16):
        image, found = drawn(pushers(bar(20, 10)), source(11, 18))
    assert torch.equal(found, covered)
    torch.testing.assert_close(image, exact, atol=4e-3, rtol=0)


def test_pictures_need_not_be_square() -> None:
    wide = torch.zeros(1, 1, SIDE, 2 * SIDE, dtype=torch.bool)
    wide[..., :21, 40:45] = True
    wanted = torch.zeros(1, SIDE, 2 * SIDE, dtype=torch.bool)
    wanted[0, 20:23, 50:53] = True
    photos = torch.ones(1, 1, 3, SIDE, 2 * SIDE)
    share = read(photos, wide).moved_to(wanted, torch.tensor([0])).share
    assert (share[0, 0, :20, 49:54] > 0.5).all()
    assert share[0, 0, :, :45].max() < 0.5
