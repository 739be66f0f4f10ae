"""Frames of any size and ratio: edited at the nearest size that the networks take, returned at their own."""

from typing import Any

import numpy as np
import pytest
import torch

from sim2real_aug.config import compose
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.outline import outline
from sim2real_aug.errors import BadInput
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.seeding import torch_generator

from ..tiny_editor import SIZE, build_editor


def draw(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture
def editor() -> Editor:
    editor = build_editor()
    editor.photos = draw(2, SIZE, SIZE, seed=1)
    assert editor.size_multiple == 2
    return editor


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((16, 16), (16, 16)), ((17, 19), (18, 20)), ((18, 13), (18, 14)), ((1, 3), (2, 4)), ((64, 22), (64, 22))],
)
def test_the_nearest_size_by_hand(editor: Editor, size: tuple[int, int], nearest: tuple[int, int]) -> None:
    assert editor.nearest_size(*size) == nearest


@pytest.mark.parametrize(("height", "width"), [(17, 19), (13, 30), (3, 2)])
def test_odd_sizes_come_back_at_their_own(editor: Editor, height: int, width: int) -> None:
    frames = draw(2, height, width)
    edits = editor(frames)
    assert (edits.shape, edits.dtype) == (frames.shape, np.uint8)
    nearest = to_frames(resized(to_images(frames), editor.nearest_size(height, width)))
    assert np.abs(edits.astype(int) - to_frames(resized(to_images(editor(nearest)), (height, width)))).max() <= 1


@pytest.mark.parametrize("size", [16, 24, 18])  # 9 latents: the UNet halves them to 5
def test_frames_that_fit_are_edited_as_they_are_bit_for_bit(editor: Editor, size: int) -> None:
    frames, photos = draw(3, size, size), draw(2, size, size, seed=1)
    noise = editor.initial_latents(1, torch_generator(5, "noise"), size).expand(3, -1, -1, -1)
    expected = to_frames(editor.edit(to_images(frames), to_images(photos[[0, 1, 0]]), noise))
    np.testing.assert_array_equal(editor(frames, photos, seed=5), expected)


@pytest.mark.parametrize(
    ("frames", "photos", "message"),
    [
        (draw(1, 16, 16) / 255, None, r"frames must be \(N, H, W, 3\) uint8 .*; got \(1, 16, 16, 3\) float64"),
        (draw(1, 16, 16)[0], None, r"got \(16, 16, 3\) uint8"),
        (draw(1, 16, 16)[:0], None, "N at least 1"),
        ([draw(1, 16, 16)[0], draw(1, 8, 8)[0]], None, "all of one size"),
        (draw(1, 16, 16), draw(1, 16, 16) / 255, r"photos must be \(N, H, W, 3\) uint8"),
        (draw(1, 16, 16), "my-photos", r"load_photos\('my-photos'\)"),
    ],
)
def test_what_are_no_frames_is_refused(editor: Editor, frames: Any, photos: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        editor(frames, photos)


def test_a_list_of_frames_will_do(editor: Editor) -> None:
    frames = draw(2, 16, 16)
    np.testing.assert_array_equal(editor([*frames]), editor(frames))


def test_a_ratio_that_fits_needs_no_square(editor: Editor) -> None:
    frames = draw(1, 16, 24)
    assert editor.initial_latents(1, torch.Generator(), (16, 24)).shape == (1, 4, 8, 12)
    assert editor(frames, draw(1, 50, 40)).shape == frames.shape


def test_stable_diffusion_takes_multiples_of_eight() -> None:
    editor = outline(compose("train_editor", ["editor=sd15"]).editor)
    assert editor.nearest_size(480, 643) == (480, 640)
    assert editor.nearest_size(963, 1277) == (960, 1280)


def test_nothing_changes_where_the_size_is_the_same() -> None:
    images = torch.rand(1, 3, 5, 7)
    assert resized(images, (5, 7)) is images
