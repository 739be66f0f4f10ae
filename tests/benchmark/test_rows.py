"""Rows of the benchmark: what an editor of ours is asked for."""

import numpy as np

from sim2real_aug.benchmark.rows import Request, Specialist
from sim2real_aug.benchmark.samples import Edit
from sim2real_aug.envs.rendering import make_renderer


def test_an_edit_with_composed_prompts_depends_on_its_own_image_and_on_all_photos() -> None:
    renderer = make_renderer("flat")
    states = np.random.default_rng(0).uniform(100, 400, (5, 5))
    states[2, 2:] = (256, 256, np.pi / 4)  # in the first photo the block hides the goal
    frames = np.stack([renderer.render(state, 96).image for state in states])
    images, photos, row = frames[:2], frames[2:], Specialist()

    def edit(images: np.ndarray, photos: np.ndarray) -> np.ndarray:
        return row(Request(images, Edit("make it look like a real photo", "", ""), photos))

    together = edit(images, photos)
    np.testing.assert_array_equal(together, np.concatenate([edit(images[:1], photos), edit(images[1:], photos)]))
    assert (together != edit(images, photos[:1])).any(), "the plate is made of all photos"
