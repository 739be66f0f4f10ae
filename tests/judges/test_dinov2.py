"""DINOv2 through our adapter against transformers' own processing."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from sim2real_aug.judges.dinov2 import Dinov2, load_dinov2

from .tiny import as_arrays, frames


@pytest.fixture(scope="module")
def judge(checkpoints: Path) -> Dinov2:
    return load_dinov2(checkpoints / "dinov2", batch_size=2)


@pytest.fixture
def images() -> Tensor:
    return frames(3, 56, 56)


def left_patches() -> Tensor:
    """The first of the 4 columns of patches, and half of the second."""
    mask = torch.zeros(3, 56, 56, dtype=torch.bool)
    mask[:, :, :21] = True
    return mask


def test_is_the_mean_of_transformers_tokens_under_the_mask(
    judge: Dinov2, images: Tensor, checkpoints: Path
) -> None:
    mask = left_patches()
    processor = BitImageProcessorPil.from_pretrained(checkpoints / "dinov2")
    model = Dinov2Model.from_pretrained(checkpoints / "dinov2").eval()
    arrays = as_arrays(images * mask[:, None])
    with torch.no_grad():
        inputs = processor(images=arrays, do_resize=False, return_tensors="pt")
        tokens = model(**inputs).last_hidden_state[:, 1:].unflatten(1, (4, 4))
    mean = (tokens[:, :, 0].sum(1) + 0.5 * tokens[:, :, 1].sum(1)) / 6
    torch.testing.assert_close(judge.embed(images, mask), F.normalize(mean, dim=1), atol=1e-4, rtol=0)


def test_only_the_masked_region_counts(judge: Dinov2, images: Tensor) -> None:
    mask = left_patches()
    changed = torch.where(mask[:, None], images, 1 - images)
    torch.testing.assert_close(judge.embed(images, mask), judge.embed(changed, mask))
    assert not torch.allclose(judge.embed(images, mask), judge.embed(images, ~mask), atol=1e-3)


def test_unit_length_and_zero_where_nothing_is_masked(judge: Dinov2, images: Tensor) -> None:
    mask = left_patches()
    mask[1] = False
    torch.testing.assert_close(judge.embed(images, mask).norm(dim=1), torch.tensor([1.0, 0.0, 1.0]))


def test_the_whole_of_another_size_is_resized_not_cropped(judge: Dinov2) -> None:
    images = frames(1, 96, 96)
    border = torch.ones(1, 96, 96, dtype=torch.bool)
    border[:, 8:-8, 8:-8] = False
    assert judge.preprocess(images).shape[-2:] == (56, 56)
    assert judge.embed(images, border).norm() == pytest.approx(1.0)
