"""Which photos an edit takes after, and that several of them count as the mean of their latents."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.editor.editor import Editor, EditSettings
from sim2real_aug.editor.prompts import draw_photos, photos_in_turn, photos_of_edit
from sim2real_aug.errors import BadInput
from sim2real_aug.pixels import to_images

from ..tiny_editor import SIZE, build_editor

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(("asked", "count"), [(1, 1), (4, 4), (5, 5), (9, 5), (0, 5)])
def test_how_many(asked: int, count: int) -> None:
    assert photos_of_edit(5, asked) == count


def test_draws_hold_no_photo_twice_and_every_photo_as_often() -> None:
    drawn = draw_photos(np.random.default_rng(0), 5, 4000, 2)
    assert drawn.shape == (4000, 2)
    assert (drawn[:, 0] < drawn[:, 1]).all()
    np.testing.assert_allclose(np.bincount(drawn.flatten()) / 8000, 0.2, atol=0.02)
    np.testing.assert_array_equal(draw_photos(np.random.default_rng(1), 3, 2, 0), [[0, 1, 2]] * 2)


def test_in_turn_by_hand() -> None:
    np.testing.assert_array_equal(photos_in_turn(3, 4, 1), [[0], [1], [2], [0]])
    np.testing.assert_array_equal(photos_in_turn(3, 4, 2), [[0, 1], [1, 2], [0, 2], [0, 1]])


def test_several_visual_prompts_are_the_mean_of_their_latents() -> None:
    editor = build_editor()
    photos, source = to_images(PHOTOS), to_images(PHOTOS[:1])
    style = editor.condition(source, photos[None], "a").style
    torch.testing.assert_close(style[0], editor.encode_images(photos).mean(0))
    one, same = (editor.condition(source, prompts, "a").style for prompts in (photos[:1], photos[None, :1]))
    torch.testing.assert_close(one, same, rtol=0, atol=0)


def test_the_editors_own_setting_is_used_and_kept(tmp_path: Path) -> None:
    editor = build_editor()
    editor.edit_settings = replace(editor.edit_settings, photos_per_edit=0)
    editor.save_pretrained(tmp_path)
    editor = Editor.from_pretrained(tmp_path)
    frames = PHOTOS[:2]
    together = editor(frames, PHOTOS)
    np.testing.assert_array_equal(together, editor(frames, PHOTOS[[2, 0, 1]]))
    editor.edit_settings = replace(editor.edit_settings, photos_per_edit=1)
    assert (together != editor(frames, PHOTOS)).any()
    with pytest.raises(BadInput, match="photos_per_edit must be at least 1, or 0 for all photos; got -1"):
        EditSettings(photos_per_edit=-1)


def test_saving_anew_keeps_no_photo_of_before(tmp_path: Path) -> None:
    editor = build_editor()
    for photos in (PHOTOS, PHOTOS[:1], None):
        editor.photos = photos
        editor.save_pretrained(tmp_path)
        found = Editor.from_pretrained(tmp_path).photos
        np.testing.assert_array_equal(found, photos)
