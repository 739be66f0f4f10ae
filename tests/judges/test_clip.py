"""CLIP through our adapter against transformers' own processing."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sim2real_aug.judges.clip import Clip, load_clip

from .tiny import frames, normalized, resized_by_pil


@pytest.fixture(scope="module")
def judge(checkpoints: Path) -> Clip:
    return load_clip(checkpoints / "clip", batch_size=2)


def half(size: int) -> Tensor:
    mask = torch.zeros(3, size, size, dtype=torch.bool)
    mask[:, : size // 2] = True
    return mask


def reference(folder: Path, images: Tensor, masks: Tensor) -> Tensor:
    """By transformers' network, with both towers, and PIL."""
    processor, model = CLIPImageProcessorPil.from_pretrained(folder), CLIPModel.from_pretrained(folder).eval()
    sides = processor.size["shortest_edge"], processor.size["shortest_edge"]
    pixels = normalized(processor, resized_by_pil(images * masks[:, None], sides, processor.resample))
    with torch.no_grad():
        features = model.get_image_features(pixels)
    return F.normalize(getattr(features, "pooler_output", features), dim=1)


@pytest.mark.parametrize("size", [32, 96])  # without and with resizing
def test_equals_transformers(judge: Clip, checkpoints: Path, size: int) -> None:
    images, masks = frames(3, size, size), half(size)
    expected = reference(checkpoints / "clip", images, masks)
    torch.testing.assert_close(judge.embed(images, masks), expected, atol=1e-4, rtol=0)
    assert (expected[0] @ expected[1]) < 0.999


def test_the_image_tower_alone_is_a_checkpoint_too(judge: Clip, checkpoints: Path, tmp_path: Path) -> None:
    CLIPVisionModelWithProjection.from_pretrained(checkpoints / "clip").save_pretrained(tmp_path)
    CLIPImageProcessorPil.from_pretrained(checkpoints / "clip").save_pretrained(tmp_path)
    images, masks = frames(3, 32, 32), half(32)
    torch.testing.assert_close(load_clip(tmp_path).embed(images, masks), judge.embed(images, masks))


def test_only_the_masked_region_counts(judge: Clip) -> None:
    images, masks = frames(3, 32, 32), half(32)
    changed = torch.where(masks[:, None], images, 1 - images)
    torch.testing.assert_close(judge.embed(images, masks), judge.embed(changed, masks))


def test_unit_length_and_zero_where_nothing_is_masked(judge: Clip) -> None:
    masks = half(32)
    masks[1] = False
    lengths = judge.embed(frames(3, 32, 32), masks).norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 0.0, 1.0]))
