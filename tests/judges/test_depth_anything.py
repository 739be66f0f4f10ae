"""Depth Anything through our adapter against transformers' own processing, and the scale that we fix."""

from pathlib import Path

import pytest
import torch
from transformers import DepthAnythingForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from sim2real_aug.judges.depth_anything import DepthAnything, load_depth_anything, stretched

from .tiny import as_arrays, frames


@pytest.fixture(scope="module")
def judge(checkpoints: Path) -> DepthAnything:
    return load_depth_anything(checkpoints / "depth_anything", batch_size=2)


def reference(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Relative disparity (B, H, W) by transformers alone."""
    processor = DPTImageProcessorPil.from_pretrained(folder)
    model = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(**processor(images=as_arrays(images), return_tensors="pt"))
    sizes = [tuple(images.shape[-2:])] * len(images)
    maps = processor.post_process_depth_estimation(out, target_sizes=sizes)
    return torch.stack([each["predicted_depth"] for each in maps])


def test_equals_transformers_where_nothing_is_resized(judge: DepthAnything, checkpoints: Path) -> None:
    images = frames(3, 56, 56)
    expected = reference(checkpoints / "depth_anything", images)
    assert expected.std() > 0.01
    torch.testing.assert_close(-judge.farness(images), expected, atol=1e-4, rtol=1e-4)


def test_other_sizes_are_resized_and_come_back_at_their_own(judge: DepthAnything, checkpoints: Path) -> None:
    images = frames(2, 96, 96)
    assert judge.preprocess(images).shape[-2:] == (56, 56)
    expected = reference(checkpoints / "depth_anything", images)
    torch.testing.assert_close(-judge.farness(images), expected, atol=0.05, rtol=0.05)


def test_the_nearest_is_0_and_the_farthest_1(judge: DepthAnything) -> None:
    images = frames(3, 56, 56)
    depth = judge.depth(images)
    assert depth.shape == (3, 56, 56)
    torch.testing.assert_close(depth.amax((1, 2)), torch.ones(3))
    torch.testing.assert_close(depth.amin((1, 2)), torch.zeros(3))
    assert (depth.flatten(1).argmin(1) == judge.farness(images).flatten(1).argmin(1)).all()


def test_a_frame_with_block_and_pusher_by_hand() -> None:
    """Seen from 512 above: table at depth 512, the block's top at 482, the pusher's at 452; disparity a/z + b."""
    disparity = 7000 / torch.tensor([[[512.0, 482.0, 452.0]]]) + 3
    torch.testing.assert_close(
        stretched(-disparity)[0, 0], torch.tensor([1.0, 0.531, 0.0]), atol=1e-3, rtol=0
    )


def test_the_unknown_scale_and_shift_of_disparity_do_not_matter() -> None:
    farness = -torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stretched(farness), stretched(3 * farness - 5), atol=1e-5, rtol=0)


def test_a_flat_map_is_a_table() -> None:
    assert (stretched(torch.full((1, 4, 4), -0.7)) == 1).all()


def test_an_image_has_the_same_depth_in_every_batch(judge: DepthAnything) -> None:
    images = frames(3, 56, 56)
    alone = torch.cat([judge.depth(image[None]) for image in images])
    torch.testing.assert_close(judge.depth(images), alone, atol=1e-5, rtol=0)


def test_a_metric_checkpoint_gives_depth_itself(
    judge: DepthAnything, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = frames(1, 56, 56)
    relative = judge.farness(images)
    monkeypatch.setattr(judge.model.config, "depth_estimation_type", "metric")
    torch.testing.assert_close(judge.farness(images), -relative)
