"""The classic look: beside the published frames, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput

UPRIGHT = [400.0, 100.0, 90.0, 320.0, 0.0]  # agent top right; block bottom left: bar y 320-350, stem to 440


def test_published_frames_are_redrawn(published_store: Path) -> None:
    store = ReplayBuffer.open(published_store)
    states = store.read("state")
    renderer = FlatRenderer()
    differences = []
    for start in np.linspace(0, store.n_frames - 10, 50).astype(int):  # 500 frames spread over the store
        for frame, published in enumerate(store.images(start, start + 10), start):
            differences.append(np.abs(renderer.image(states[frame]) - published.astype(float)).mean())
    assert len(differences) == 500
    assert np.mean(differences) < 0.2  # 1 is asked for; 0.14 measured
    assert max(differences) < 1.0


def test_colours_stand_where_they_should() -> None:
    image = FlatRenderer().image(UPRIGHT, 512)
    expected = {
        (450, 50): (255, 255, 255),  # table, x and y
        (256, 270): (144, 238, 144),  # goal
        (90, 335): (143, 163, 184),  # the bar's inside
        (90, 400): (143, 163, 184),  # the stem's
        (30, 335): (119, 136, 153),  # the bar's left edge
        (400, 100): (78, 126, 255),  # pusher
        (413, 100): (65, 105, 225),  # its rim
        (5, 200): (211, 211, 211),  # left wall
        (300, 506): (211, 211, 211),  # lower wall
    }
    for (x, y), color in expected.items():
        assert tuple(image[y, x]) == color, (x, y)


def test_labels_and_depth() -> None:
    rendering = FlatRenderer().render(UPRIGHT, 256)
    masks = rendering.masks
    assert sum(mask.astype(int) for mask in masks.values()).tolist() == np.ones((256, 256)).tolist()
    # A pixel is 2 x 2 window units. Outlines are drawn two units over the edge, which the areas allow for.
    assert masks["block"].sum() * 4 == pytest.approx(6300 + 480 * 2, rel=0.05)
    assert masks["pusher"].sum() * 4 == pytest.approx(math.pi * 15**2, rel=0.05)
    assert masks["goal"].sum() * 4 == pytest.approx(6300, rel=0.05)
    for name, depth in {"table": 512, "goal": 512, "block": 482, "pusher": 452}.items():
        assert (rendering.depth[masks[name]] == depth).all()


def test_a_hidden_goal_is_not_labelled() -> None:
    masks = FlatRenderer().render([50, 50, 256, 256, math.pi / 4]).masks
    assert masks["goal"].sum() == 0
    assert masks["block"].sum() > 200


@pytest.mark.parametrize("size", [96, 64, 100, 97, 33, 512, 680])
def test_redrawing_what_changed_equals_drawing_afresh(size: int) -> None:
    """Including block and pusher over the walls and partly out of the window."""
    rng = np.random.default_rng(size)
    used = FlatRenderer()
    for _ in range(40):
        state = [*rng.uniform(-40, 550, 4), rng.uniform(-7, 7)]
        np.testing.assert_array_equal(used.image(state, size), _afresh(state, size))


def test_every_size_is_the_same_picture() -> None:
    small, large = (FlatRenderer().render(UPRIGHT, size).labels for size in (96, 480))
    assert (large[2::5, 2::5] == small).mean() > 0.99


def test_size_must_be_positive() -> None:
    with pytest.raises(BadInput, match="at least 1"):
        FlatRenderer().image(UPRIGHT, 0)


def test_make_renderer_knows_flat() -> None:
    assert isinstance(make_renderer("flat"), FlatRenderer)
    with pytest.raises(BadInput, match="unknown domain"):
        make_renderer("flat/3")


def _afresh(state: list[float], size: int) -> np.ndarray:
    import cv2

    from sim2real_aug.envs import flat

    canvas = flat._background(flat.COLORS).copy()
    flat._paint(canvas, np.array(state), flat.COLORS)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR)
