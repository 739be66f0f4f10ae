"""Rows of the benchmark: what an editor of ours is asked for."""

from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.benchmark.rows import InstructPix2Pix, Request, Specialist
from sim2real_aug.benchmark.samples import Edit, Task
from sim2real_aug.data.photos import PhotoSet, as_photo_set
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput

EDIT = Edit("make it look like a real photo", "", "")


def frames(n: int) -> np.ndarray:
    """(n, 96, 96, 3); in the third the block hides the goal."""
    renderer = make_renderer("flat")
    states = np.random.default_rng(0).uniform(100, 400, (5, 5))
    states[2, 2:] = (256, 256, np.pi / 4)
    return np.stack([renderer.render(state, 96).image for state in states[:n]])


def test_an_edit_with_composed_prompts_depends_on_its_own_image_and_on_all_photos() -> None:
    drawn, row = frames(5), Specialist()
    images, photos = drawn[:2], drawn[2:]

    def edit(images: np.ndarray, photos: np.ndarray) -> np.ndarray:
        return row(Request(images, EDIT, as_photo_set(photos)))

    together = edit(images, photos)
    np.testing.assert_array_equal(together, np.concatenate([edit(images[:1], photos), edit(images[1:], photos)]))
    assert (together != edit(images, photos[:1])).any(), "the plate is made of all photos"


def test_an_edit_with_composed_prompts_goes_by_the_masks_of_the_photos() -> None:
    drawn, row = frames(3), Specialist()
    corner = np.zeros((96, 96), bool)
    corner[:20, :20] = True  # where no block is
    masked = PhotoSet(drawn[1:], ("a.png", "b.png"), {"b.png": corner})
    turned = Task("realistic", EDIT, masked).turned(1)
    assert turned.names == ("b.png", "a.png")
    np.testing.assert_array_equal(turned.mask_of_each[0], corner)
    edits = [row(Request(drawn[:1], EDIT, photos)) for photos in (turned, as_photo_set(turned.images))]
    assert (edits[0] != edits[1]).any()


def test_scales_at_which_diffusers_does_not_guide_are_refused(checkpoints: Path) -> None:
    path = str(checkpoints / "instruct-pix2pix")
    with pytest.raises(BadInput, match=r"guidance off; got 1 and 1\.5"):
        InstructPix2Pix(path, guidance_scale=1.0)
    with pytest.raises(BadInput, match=r"guidance off; got 7\.5 and 0\.8"):
        InstructPix2Pix(path, image_guidance_scale=0.8)
    row = InstructPix2Pix(path, num_inference_steps=1, image_guidance_scale=1.0)
    photos = as_photo_set(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(BadInput, match=r"guidance off; got 7\.5 and 0\.9"):
        row(Request(np.zeros((1, 32, 32, 3), np.uint8), EDIT, photos, image_guidance_scale=0.9))
    assert row(Request(np.zeros((1, 32, 32, 3), np.uint8), EDIT, photos)).shape == (1, 32, 32, 3)
