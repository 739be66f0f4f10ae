"""The U-Net and the encoders against the published architecture."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from sim2real_aug.policies.encoders import ENCODERS, CompactEncoder, ResNet18Encoder, spatial_softmax
from sim2real_aug.policies.network import ConditionalUnet1D, FilmResidualBlock, StepEmbedding


def published_size(action: int, cond: int, step: int, dims: list[int], kernel: int) -> int:
    """Parameters of diffusion_policy's conditional_unet1d.py, counted from its source layer by layer."""

    def linear(i: int, o: int) -> int:
        return i * o + o

    def conv_norm(i: int, o: int) -> int:
        return linear(i * kernel, o) + 2 * o

    def block(i: int, o: int) -> int:
        film = linear(step + cond, 2 * o)
        return conv_norm(i, o) + conv_norm(o, o) + film + (linear(i, o) if i != o else 0)

    total = linear(step, 4 * step) + linear(4 * step, step) + 2 * block(dims[-1], dims[-1])
    for i, o in itertools.pairwise([action, *dims]):
        total += block(i, o) + block(o, o)
    for i, o in itertools.pairwise(dims):
        total += linear(3 * i, i) + block(2 * o, i) + block(i, i) + linear(4 * i, i)
    return total + conv_norm(dims[0], dims[0]) + linear(dims[0], action)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_unet_has_251_million_parameters() -> None:
    with torch.device("meta"):
        unet = ConditionalUnet1D(action_dim=2, cond_dim=2 * (64 + 2))
    assert count(unet) == published_size(2, 132, 128, [512, 1024, 2048], 5) == 251_511_938


def test_a_unet_without_downsampling_counts_too() -> None:
    assert count(ConditionalUnet1D(3, 5, 8, (16,))) == published_size(3, 5, 8, [16], 5)


@pytest.mark.parametrize("horizon", [4, 16])
def test_the_unet_keeps_the_shape_and_depends_on_step_and_observation(horizon: int) -> None:
    torch.manual_seed(0)
    unet = ConditionalUnet1D(2, 6, 8, (8, 16, 24))
    actions, steps, seen = torch.randn(3, horizon, 2), torch.tensor([1, 50, 99]), torch.randn(3, 6)
    out = unet(actions, steps, seen)
    assert out.shape == actions.shape
    assert not torch.allclose(out, unet(actions, steps + 1, seen))
    assert not torch.allclose(out, unet(actions, steps, seen + 1))


def test_rows_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(0)
    unet = ConditionalUnet1D(2, 6, 8, (8, 16))
    actions, steps, seen = torch.randn(3, 8, 2), torch.tensor([1, 50, 99]), torch.randn(3, 6)
    alone = torch.cat([unet(actions[i : i + 1], steps[i : i + 1], seen[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(unet(actions, steps, seen), alone, atol=1e-5, rtol=1e-5)


def test_film_scales_and_shifts_between_the_two_convolutions() -> None:
    block = FilmResidualBlock(8, 8, cond_dim=3, kernel_size=5, groups=8)
    x, condition = torch.randn(2, 8, 4), torch.randn(2, 3)
    linear = block.film[1]
    assert isinstance(linear, nn.Linear)
    nn.init.zeros_(linear.weight)
    with torch.no_grad():
        linear.bias[:8], linear.bias[8:] = 2.0, -1.0
    torch.testing.assert_close(block(x, condition), block.second(2 * block.first(x) - 1) + x)


def test_step_embedding_of_zero_and_one() -> None:
    embedding = StepEmbedding(4)(torch.tensor([0, 1]))
    # frequencies 1 and 1/10000
    expected = [[0, 0, 1, 1], [math.sin(1), math.sin(1e-4), math.cos(1), math.cos(1e-4)]]
    torch.testing.assert_close(embedding, torch.tensor(expected))


def test_spatial_softmax_of_a_peak_gives_its_place() -> None:
    maps = torch.full((1, 2, 5, 9), -1e4)
    maps[0, 0, 1, 6] = 0  # row 1 of 0..4 -> -0.5; column 6 of 0..8 -> 0.5
    maps[0, 1, 4, 0] = 0
    torch.testing.assert_close(spatial_softmax(maps), torch.tensor([[[0.5, -0.5], [-1.0, 1.0]]]))


def test_spatial_softmax_of_a_flat_map_is_the_centre_and_of_two_peaks_their_middle() -> None:
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 1] = -1e4
    maps[0, 1, 0, 0] = maps[0, 1, 0, 2] = 7.0
    torch.testing.assert_close(spatial_softmax(maps), torch.tensor([[[0.0, 0.0], [0.0, -1.0]]]))


def test_resnet18_has_the_published_size_and_group_norm_of_sixteen_channels() -> None:
    encoder = ResNet18Encoder(keypoints=32)
    # torchvision's resnet18 has 11,689,512 parameters, its classifier 513,000; then a 1x1 convolution
    assert count(encoder) == 11_689_512 - 513_000 + (512 * 32 + 32)
    norms = [m for m in encoder.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == 20
    assert all(m.num_channels // m.num_groups == 16 for m in norms)


@pytest.mark.parametrize("name", ["compact", "resnet18"])
def test_encoders_use_no_batch_norm_and_give_the_keypoints_asked_for(name: str) -> None:
    encoder = ENCODERS[name](keypoints=8).eval()
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())
    images = torch.rand(2, 3, 84, 84) * 2 - 1
    assert encoder(images).shape == (2, 8, 2)
    assert encoder(images).min() >= 0
    assert encoder(images).max() <= 83
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "cell", "pixel"), [("compact", 4, 33.5), ("resnet18", 3, 96.0)])
def test_a_cell_is_placed_where_it_looks(name: str, cell: int, pixel: float) -> None:
    """What a cell of the maps depends on is centred where the strides, worked by hand, place it."""
    torch.manual_seed(0)
    encoder = ENCODERS[name](keypoints=1)
    for module in [*encoder.modules()]:
        for child, layer in module.named_children():
            if isinstance(layer, nn.GroupNorm):  # depends on all pixels
                setattr(module, child, nn.Identity())
    images = torch.rand(8, 3, 212, 212, requires_grad=True)
    maps = encoder.maps(encoder.trunk(images))
    maps[:, 0, cell, cell].sum().backward()
    assert images.grad is not None
    share = images.grad.abs().sum((0, 1, 2))
    assert share @ torch.arange(212.0) / share.sum() == pytest.approx(pixel, abs=2)
    peak = torch.full_like(maps, -1e4)
    peak[..., cell, cell] = 0
    torch.testing.assert_close(encoder.cells.keypoints(peak)[0, 0], torch.full((2,), pixel))


def test_the_compact_encoder_is_small_and_its_maps_are_not_coarse() -> None:
    encoder = CompactEncoder()
    assert count(encoder) < 150_000
    assert encoder.trunk(torch.zeros(1, 3, 84, 84)).shape == (1, 64, 11, 11)


def test_sizes_of_feature_maps_follow_numpy_order() -> None:
    """x is the column, y the row: an image brighter on the right has a larger x."""
    ramp = torch.from_numpy(np.tile(np.linspace(0, 3, 8, dtype=np.float32), (4, 1)))
    x, y = spatial_softmax(ramp[None, None])[0, 0]
    assert x > 0.2
    assert abs(y) < 1e-6
