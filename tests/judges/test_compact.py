"""The compact judge's interface: what its masks, depth and embeddings mean."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.data.regions import region_of
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import load_judge
from sim2real_aug.judges.compact import CompactJudge, color_code
from sim2real_aug.pixels import resized, to_images


@pytest.fixture
def judge() -> CompactJudge:
    torch.manual_seed(0)
    return CompactJudge().eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_shapes_and_ranges(judge: CompactJudge, images: torch.Tensor) -> None:
    depth = judge.depth(images)
    assert depth.shape == (3, 32, 32)
    assert 0 <= depth.min() <= depth.max() <= 1
    regions = torch.stack([judge.segment(images, phrase) for phrase in ("table", "block", "goal", "pusher")])
    assert (regions.sum(0) == 1).all()


def test_embedding_sees_the_masked_region_only(judge: CompactJudge, images: torch.Tensor) -> None:
    mask = torch.zeros(3, 32, 32, dtype=torch.bool)
    mask[:, 8:20, 4:28] = True
    changed = torch.where(mask[:, None], images, 1 - images)
    embedded = judge.embed(images, mask)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embedded, judge.embed(changed, mask))
    assert not torch.allclose(embedded, judge.embed(images, ~mask))


def test_colours_are_told_apart_by_hand() -> None:
    """Of -1..1: a shift of 0.1 in every channel turns by pi/20 and pi/5, of 2 by pi and 4 pi."""
    black, dark, white = color_code(torch.tensor([[-1.0] * 3, [-0.9] * 3, [1.0] * 3]))
    assert black @ black == pytest.approx(1.0)
    assert black @ dark == pytest.approx((math.cos(math.pi / 20) + math.cos(math.pi / 5)) / 2, abs=1e-5)
    assert black @ white == pytest.approx((-1 + 1) / 2, abs=1e-5)


def test_an_embedding_sees_a_shift_of_colour(judge: CompactJudge, images: torch.Tensor) -> None:
    whole = torch.ones(3, 32, 32, dtype=torch.bool)
    near, far = (
        (judge.embed(images, whole) * judge.embed(0.8 * images + shift, whole)).sum(1) for shift in (0.1, 0.2)
    )
    assert (near > far).all()


def test_nothing_masked_is_a_zero_embedding(judge: CompactJudge, images: torch.Tensor) -> None:
    assert judge.embed(images, torch.zeros(3, 32, 32, dtype=torch.bool)).norm() == 0


def test_phrases() -> None:
    assert region_of("The T-shaped block.") == "block"
    assert region_of("robot") == "pusher"
    with pytest.raises(BadInput, match="unknown phrase for a region 'car'"):
        region_of("car")


def test_inference_mode(judge: CompactJudge, images: torch.Tensor) -> None:
    with torch.inference_mode():
        torch.testing.assert_close(judge.depth(images.clone()), judge.depth(images))


def test_saved_and_loaded_alike(judge: CompactJudge, images: torch.Tensor, tmp_path: Path) -> None:
    judge.save_pretrained(tmp_path / "judge")
    torch.testing.assert_close(load_judge(tmp_path / "judge").depth(images), judge.depth(images))
    with pytest.raises(BadInput, match=r"no config\.json"):
        load_judge(tmp_path)
    with pytest.raises(BadInput, match="nowhere does not exist"):
        load_judge(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [(192, 192), (250, 330), (64, 64)])
def test_what_it_finds_does_not_hang_on_the_size_of_the_picture(size: tuple[int, int]) -> None:
    """The judge that ships was trained at 96 x 96."""
    judge = load_judge()
    drawn = [FlatRenderer().render(np.array([100, 80, *place, 0.7]), 384) for place in ((256, 256), (300, 190))]
    whole = torch.from_numpy(np.stack([part.masks["block"] for part in drawn]))[:, None].float()
    pictures = to_images(np.stack([part.image for part in drawn]))
    small, large = resized(pictures, 96), resized(pictures, size)
    block = resized(whole, size)[:, 0] > 0.5
    found = judge.segment(large, "block")
    assert found.shape == (2, *size)
    assert ((found & block).sum() / (found | block).sum()) > 0.9
    alike = (judge.embed(small, resized(whole, 96)[:, 0] > 0.5) * judge.embed(large, block)).sum(1)
    assert (alike > 0.99).all()
    assert (judge.depth(large) - resized(judge.depth(small)[:, None], size)[:, 0]).abs().mean() < 0.05


@torch.no_grad()
def test_what_it_remembers_is_never_stale(judge: CompactJudge, images: torch.Tensor) -> None:
    before = judge.depth(images)
    torch.testing.assert_close(judge.depth(images), before)
    images.mul_(0.5)
    torch.testing.assert_close(judge.depth(images), judge.read(images)[1])
    assert not torch.allclose(judge.depth(images), before)
    torch.testing.assert_close(judge.depth(images[:2]), judge.read(images[:2])[1])
    frames = images.numpy()
    frames[:] = 0.25  # which torch does not notice
    torch.testing.assert_close(judge.depth(images), judge.read(images)[1])
    changed = copy.deepcopy(judge)
    changed.depth(images)
    changed.head.bias.add_(1)
    torch.testing.assert_close(changed.depth(images), changed.read(images)[1])
    with torch.enable_grad():
        assert changed.requires_grad_(True).depth(images).requires_grad
