"""The block's shadow: read off photos in which it was drawn, and drawn again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sim2real_aug.editor.masks import blurred, grown
from sim2real_aug.editor.shadows import FARTHEST, Shadows, fit_shadows

SIDE = 48
REACH = round(FARTHEST * SIDE)
CORNERS = ((8, 8), (30, 10), (12, 28), (30, 30))


def blocks_at(*corners: tuple[int, int]) -> Tensor:
    """(B, S, S): an L of 10 x 10, whose mirror images are others."""
    blocks = torch.zeros(len(corners), SIDE, SIDE, dtype=torch.bool)
    for block, (row, column) in zip(blocks, corners, strict=True):
        block[row : row + 10, column : column + 4] = True
        block[row + 6 : row + 10, column : column + 10] = True
    return blocks


def shadow(down: int, right: int, softness: int, depth: float, count: int = 1) -> Shadows:
    each = torch.ones(count, dtype=torch.long)
    return Shadows(torch.tensor([[down, right]]).repeat(count, 1), softness * each, depth * each.float())


def fitted(photos: Tensor, bench: Tensor, blocks: Tensor, pushers: Tensor | None = None) -> Shadows:
    pushers = torch.zeros_like(blocks) if pushers is None else pushers
    return fit_shadows(photos, bench, blocks, pushers, grown(blocks | pushers, 1))


def shown(down: int, right: int, softness: int, depth: float) -> tuple[Tensor, Tensor, Tensor]:
    """Photos (1, P, 3, S, S) of a textured bench with a dark block and its shadow, the bench alone, the blocks."""
    blocks = blocks_at(*CORNERS)
    grain = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    bench = (0.6 + 0.3 * grain).expand(len(blocks), 3, SIDE, SIDE)
    photos = bench * shadow(down, right, softness, depth, len(blocks)).cast(blocks)
    return photos.masked_fill(blocks[:, None], 0.1)[None], bench[None], blocks[None]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(-REACH, REACH), st.integers(-REACH, REACH), st.integers(0, 2), st.floats(0.2, 0.8)
)  # fmt: skip
def test_a_shadow_is_read_as_it_was_drawn(down: int, right: int, softness: int, depth: float) -> None:
    if max(abs(down), abs(right)) < 3:
        return  # under the block
    photos, bench, blocks = shown(down, right, softness, depth)
    found = fitted(photos, bench, blocks)
    assert found.offset.tolist() == [[down, right]]
    assert found.softness.tolist() == [softness]
    torch.testing.assert_close(found.depth, torch.tensor([depth]), atol=1e-3, rtol=0)


def test_a_shadow_covers_the_share_of_the_light_that_it_takes() -> None:
    """A hard outline far inside: 3 down, 2 left; by hand."""
    kept = shadow(3, -2, 0, 0.4).cast(blocks_at((20, 20)))[0, 0]
    assert abs(kept[31, 20] - 0.6) < 0.01, "in the middle of the foot, (28, 22) before"
    assert kept[20, 30] == 1


def test_a_shadow_that_leaves_the_picture_does_not_come_back_on_the_other_side() -> None:
    kept = shadow(REACH, REACH, 0, 0.5).cast(blocks_at((SIDE - 10, SIDE - 10)))[0, 0]
    assert kept.min() < 0.6
    assert (kept[: SIDE // 2] == 1).all()
    assert (kept[:, : SIDE // 2] == 1).all()


@pytest.mark.parametrize("side", [-1, -2])
def test_pictures_need_not_be_square(side: int) -> None:
    photos, bench, blocks = (part.narrow(side, 0, SIDE - 8) for part in shown(2, -5, 1, 0.5))
    found = fitted(photos, bench, blocks)
    assert found.offset.tolist() == [[2, -5]]
    kept = found[torch.zeros(4, dtype=torch.long)].cast(blocks[0])
    free = ~blocks[0, :, None].expand(-1, 3, -1, -1)
    assert (bench[0] * kept - photos[0])[free].abs().mean() < 1e-3, "but for a block that was cut off"


@pytest.mark.parametrize("blur", [0.8, 1.5])
def test_the_rim_of_a_dark_block_is_no_shadow(blur: float) -> None:
    """What a lens mixes of block and bench is covered, whatever the noise of the photos."""
    photos, bench, blocks = shown(0, 0, 0, 0.0)
    soft = blurred(blocks[0, :, None].float(), blur)
    photos = (bench[0] * (1 - soft) + 0.05 * soft)[None]
    photos = photos + 0.02 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(1))
    found = fit_shadows(photos, bench, blocks, torch.zeros_like(blocks), grown(blocks, round(3 * blur)))
    assert found.depth.tolist() == [0.0]


def test_a_shadow_is_read_through_noise_and_a_soft_lens() -> None:
    photos, bench, blocks = shown(3, -4, 1, 0.5)
    photos = blurred(photos[0].flatten(0, 1)[:, None], 0.8).unflatten(0, photos.shape[1:3])[:, :, 0][None]
    photos = photos + 0.02 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(1))
    found = fit_shadows(photos, bench, blocks, torch.zeros_like(blocks), grown(blocks, 2))
    assert (found.offset[0] - torch.tensor([3, -4])).abs().max() <= 1
    torch.testing.assert_close(found.depth, torch.tensor([0.5]), atol=0.08, rtol=0)


def test_of_one_photo_no_shadow_is_read() -> None:
    photos, bench, blocks = (part[:, :1] for part in shown(3, -4, 1, 0.5))
    assert fitted(photos, bench, blocks).depth.tolist() == [0.0]


def test_what_darkens_the_bench_elsewhere_in_each_photo_is_no_shadow() -> None:
    photos, bench, blocks = shown(0, 0, 0, 0.0)
    for number, photo in enumerate(photos[0]):
        photo[:, 12 * number : 12 * number + 6] *= 0.3
    photos = torch.where(blocks[:, :, None], 0.1, photos)
    assert fitted(photos, bench, blocks).depth.tolist() == [0.0]


def test_an_arm_and_its_shadow_beside_a_pusher_do_not_count() -> None:
    photos, bench, blocks = shown(0, 6, 1, 0.5)
    pushers = torch.zeros_like(blocks)
    pushers[0, 0, :, 24:27] = True  # between the first photo's block and the right
    photos[0, 0, :, :, 21:30] = 0.05
    found = fitted(photos, bench, blocks, pushers)
    assert found.offset.tolist() == [[0, 6]]
    torch.testing.assert_close(found.depth, torch.tensor([0.5]), atol=1e-3, rtol=0)


def test_each_bench_has_a_shadow_of_its_own() -> None:
    pairs = [shown(4, 0, 0, 0.5), shown(0, -5, 1, 0.3)]
    photos, bench, blocks = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    found = fitted(photos, bench, blocks)
    assert found.offset.tolist() == [[4, 0], [0, -5]]
    chosen = found[torch.tensor([1, 1, 0])]
    assert chosen.softness.tolist() == [1, 1, 0]
