"""Grounding DINO and SAM 2 through our adapter against transformers' own processing."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor, Sam2Model

from sim2real_aug.judges.grounded_sam import GroundedSam, load_grounded_sam, prompt

from .tiny import MEAN, STD, as_arrays, frames


@pytest.fixture
def judge(checkpoints: Path) -> GroundedSam:
    return load_grounded_sam(checkpoints / "grounding_dino", checkpoints / "sam2", batch_size=2)


@pytest.fixture
def images() -> Tensor:
    return frames(4, 96, 96)


def confidences(judge: GroundedSam, images: Tensor) -> Tensor:
    """Of each box of each image, (B, 5), when asked for a block."""
    words = judge.tokenizer("block.", return_tensors="pt")
    words = {key: value.expand(len(images), -1) for key, value in words.items()}
    with torch.no_grad():
        found = judge.detector(pixel_values=judge.detector_input(images), **words)
    return found.logits.sigmoid().amax(-1)


def split_threshold(judge: GroundedSam, images: Tensor) -> float:
    """One that some boxes pass and others do not, and at least one image has no box."""
    best = confidences(judge, images).amax(1).sort().values
    return float((best[0] + best[1]) / 2)


@pytest.mark.parametrize("phrase", ["Block", "the block.", "table"])
def test_boxes_equal_transformers(judge: GroundedSam, images: Tensor, phrase: str, checkpoints: Path) -> None:
    judge.threshold = float(confidences(judge, images).median())
    folder = checkpoints / "grounding_dino"
    processor = GroundingDinoProcessor.from_pretrained(folder, backend="pil")
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    text = [phrase.lower().rstrip(".") + "."] * len(images)
    with torch.no_grad():
        out = model(**processor(images=as_arrays(images), text=text, return_tensors="pt"))
        expected = processor.post_process_grounded_object_detection(out, threshold=judge.threshold)
        boxes = judge.boxes(images, phrase)
    assert sum(len(found) for found in boxes) > 0
    for mine, theirs in zip(boxes, expected, strict=True):
        torch.testing.assert_close(mine, theirs["boxes"], atol=1e-4, rtol=0)


def masks_one_by_one(folder: Path, images: Tensor, boxes: list[Tensor]) -> Tensor:
    """What Sam2Processor does around Sam2Model, a box at a time; the class itself needs torchvision."""
    model = Sam2Model.from_pretrained(folder).eval()
    mean, std = (torch.tensor(part)[:, None, None] for part in (MEAN, STD))
    union = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
    for row, (image, found) in enumerate(zip(images, boxes, strict=True)):
        for box in found:
            pixels = ((image - mean) / std)[None]
            out = model(pixel_values=pixels, input_boxes=96 * box[None, None], multimask_output=False)
            logits = F.interpolate(out.pred_masks[0], images.shape[-2:], mode="bilinear", align_corners=False)
            union[row] |= logits[0, 0] > 0
    return union


@torch.no_grad()
def test_masks_are_the_union_of_all_boxes(judge: GroundedSam, images: Tensor, checkpoints: Path) -> None:
    boxes = [
        torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.8], [0.0, 0.5, 0.2, 1.0]]),
        torch.zeros(0, 4),
        torch.tensor([[0.2, 0.2, 0.9, 0.9]]),
        torch.tensor([[0.6, 0.1, 0.7, 0.3], [0.1, 0.0, 0.4, 0.2]]),
    ]
    expected = masks_one_by_one(checkpoints / "sam2", images, boxes)
    assert 0 < expected.float().mean() < 1
    differing = judge.outlines(images, boxes) != expected
    assert differing.float().mean() < 1e-3  # logits at 0 but for rounding


@torch.no_grad()
def test_segment_is_boxes_then_outlines(judge: GroundedSam, images: Tensor, checkpoints: Path) -> None:
    judge.threshold = split_threshold(judge, images)
    boxes = judge.boxes(images, "block")
    expected = masks_one_by_one(checkpoints / "sam2", images, boxes)
    masks = judge.segment(images, "block")
    assert masks.shape == (4, 96, 96)
    assert masks.dtype == torch.bool
    assert (masks != expected).float().mean() < 1e-3
    without = torch.tensor([len(found) == 0 for found in boxes])
    assert without.any()
    assert not without.all()
    assert not masks[without].any()


def test_nothing_found_is_an_empty_mask(judge: GroundedSam, images: Tensor) -> None:
    judge.threshold = 1.0
    assert not judge.segment(images, "block").any()


def test_other_sizes_are_resized_and_come_back_at_their_own(judge: GroundedSam) -> None:
    judge.threshold = 0.0
    images = frames(1, 40, 60)
    assert judge.detector_input(images).shape[-2:] == (96, 144)
    assert judge.segmenter_input(images).shape[-2:] == (96, 96)
    assert judge.segment(images, "table").shape == (1, 40, 60)


def test_phrases_are_written_as_the_detector_reads_them() -> None:
    assert prompt("The T-shaped block") == "the t-shaped block."
    assert prompt(" table. ") == "table."
