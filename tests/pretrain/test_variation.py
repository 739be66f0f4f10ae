"""What the judge's frames are varied by keeps labels and depth true to the picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.pretrain.frames import sample_states
from sim2real_aug.pretrain.variation import clutter, draw_views, recolor, reframe, relight, resharpen, vary

COLORS = torch.tensor([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1], [0.2, 0.8, 0.2], [0.9, 0.4, 0.1]])
DEPTHS = torch.tensor([1.0, 0.5, 0.8, 0.1])


def painted(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames whose colour and depth say which region a pixel is of."""
    states = sample_states(np.random.default_rng(1), count)
    labels = np.stack([make_renderer("flat").render(state, 96).labels for state in states])
    regions = torch.from_numpy(labels).long()
    return COLORS[regions].permute(0, 3, 1, 2).contiguous(), regions, DEPTHS[regions]


def test_recolouring_keeps_shapes_and_changes_colours() -> None:
    """A frame of two colours has two colours still, others."""
    frame = torch.full((1, 3, 4, 4), 0.2)
    frame[:, :, 1:3, 1:3] = torch.tensor([0.9, 0.5, 0.4])[:, None, None]
    recolored = recolor(frame.repeat(6, 1, 1, 1), np.random.default_rng(0))
    assert 0 <= recolored.min() <= recolored.max() <= 1
    for image in recolored:
        assert len(torch.unique(image.flatten(1), dim=1).T) == 2
    assert (recolored[1:] - recolored[:1]).flatten(1).abs().amax(1).min() > 0.05


def test_a_frame_from_elsewhere_has_its_labels_and_depth_from_there() -> None:
    """Colour, label and depth of a pixel still belong together, but where a region ends."""
    images, labels, depth = reframe(*painted(8), np.random.default_rng(0))
    assert images.shape == (8, 3, 96, 96)
    assert labels.shape == depth.shape == (8, 96, 96)
    nearest = (images[:, None] - COLORS[None, :, :, None, None]).square().sum(2).argmin(1)
    inner = F.max_pool2d(labels[:, None].float(), 3, 1, 1) == -F.max_pool2d(-labels[:, None].float(), 3, 1, 1)
    inner = inner[:, 0]
    assert (nearest == labels)[inner].float().mean() > 0.995
    assert (depth == DEPTHS[labels])[inner].float().mean() > 0.99
    assert (labels != painted(8)[1]).float().mean() > 0.02


def test_views_are_nearer_or_farther_turned_moved_and_tilted() -> None:
    views = draw_views(500, np.random.default_rng(0))
    zoom = 1 / np.sqrt(np.linalg.det(views[:, :2, :2]))
    assert 0.75 < zoom.min() < 0.8
    assert 1.7 < zoom.max() < 1.8
    corners = np.array([(x, y, 1) for x in (-1, 1) for y in (-1, 1)])
    assert (np.einsum("bij,nj->bni", views, corners)[..., 2] > 0.45).all()  # nothing is behind the camera
    np.testing.assert_allclose(views[:, :2, 2].mean(0), 0, atol=0.03)


def test_clutter_lies_on_the_bare_table_alone() -> None:
    images, labels, _ = painted(40)
    bare = labels == 0
    strewn = clutter(images, bare, np.random.default_rng(0))
    assert 0 <= strewn.min() <= strewn.max() <= 1
    changed = (strewn - images).abs().amax(1) > 0.02
    assert not changed[~bare].any()
    shares = changed.flatten(1).float().mean(1)
    assert (shares > 0).float().mean() > 0.6
    assert 0.005 < shares.mean() < 0.1
    assert shares.max() < 0.3


def test_light_is_uneven_and_dims_the_bench_round_an_arm() -> None:
    pushers = torch.zeros(200, 96, 96, dtype=torch.bool)
    pushers[:, 40:56, 40:56] = True
    lit = relight(torch.full((200, 3, 96, 96), 0.5), pushers, np.random.default_rng(0)).mean(1)
    assert (lit.flatten(1).std(1) > 0.01).float().mean() > 0.9
    beside, far, inside = lit[:, 44:52, 37:40].mean(), lit[:, :8, :8].mean(), lit[:, 42:54, 42:54].mean()
    assert beside < 0.95 * far
    torch.testing.assert_close(inside, far, atol=0.03, rtol=0)


def test_sharpness_changes_edges_alone() -> None:
    images = torch.full((20, 3, 16, 16), 0.3)
    images[..., 8:] = 0.7
    changed = resharpen(images, np.random.default_rng(0))
    torch.testing.assert_close(changed[..., :7], images[..., :7])
    assert (changed[..., 7] < 0.28).any()
    assert (changed[..., 7] > 0.32).any()


def test_two_of_three_frames_are_seen_from_where_they_are() -> None:
    images, labels, depth = painted(64)
    varied, moved, _ = vary(images, labels, depth, np.random.default_rng(0))
    assert 0 <= varied.min() <= varied.max() <= 1
    assert 32 < (moved == labels).flatten(1).all(1).sum() < 54
