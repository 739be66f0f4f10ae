"""SAM 2 by its own package, which needs torchvision and cannot be installed where these tests are made: what is tested
is the error without it, and what the adapter does around a stand-in that keeps the predictor's signatures and shapes.
That the real one outlines well, or at all, is NOT tested."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sim2real_aug.errors import MissingExtra
from sim2real_aug.judges.grounded_sam import load_grounded_sam
from sim2real_aug.judges.sam2_package import load_grounded_sam_of_package

from .test_checkpoints import refusal
from .tiny import frames


class Predictor:
    """Outlines the box itself."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @classmethod
    def from_pretrained(cls, name: str, device: str) -> "Predictor":
        if name == "facebook/nothing":
            raise RuntimeError("no such\nmodel")
        return cls(nn.Linear(2, 2))

    def set_image_batch(self, images: list[NDArray[np.uint8]]) -> None:
        assert all(image.dtype == np.uint8 and image.shape[-1] == 3 for image in images)
        self.sizes = [image.shape[:2] for image in images]

    def predict_batch(self, box_batch: list[NDArray[np.float32]], multimask_output: bool) -> tuple[Any, None, None]:
        assert not multimask_output
        found = []
        for boxes, size in zip(box_batch, self.sizes, strict=True):
            masks = np.zeros((len(boxes), 1, *size), np.float32)
            for mask, (left, top, right, bottom) in zip(masks, boxes.round().astype(int), strict=True):
                mask[0, top:bottom, left:right] = 1
            found.append(masks[0] if len(boxes) == 1 else masks)
        return found, None, None


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the package built of files."""
    calls: list[tuple[str, str]] = []

    def build_sam2(config: str, file: str, device: str) -> nn.Module:
        calls.append((config, file))
        return nn.Linear(2, 2)

    parts: dict[str, dict[str, Any]] = {
        "sam2": {},
        "sam2.sam2_image_predictor": {"SAM2ImagePredictor": Predictor},
        "sam2.build_sam": {"build_sam2": build_sam2},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


@pytest.mark.usefixtures("built")
def test_the_union_of_the_outlines_of_all_boxes(checkpoints: Path) -> None:
    judge = load_grounded_sam_of_package(checkpoints / "grounding_dino", "facebook/sam2")
    boxes = [
        torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]),
        torch.zeros(0, 4),
        torch.tensor([[0.25, 0.5, 0.75, 1.0]]),
    ]
    masks = judge.outlines(frames(3, 8, 16), boxes)
    expected = torch.zeros(3, 8, 16, dtype=torch.bool)
    expected[0, :4, :8] = expected[0, 4:, 8:] = expected[2, 4:, 4:12] = True
    assert torch.equal(masks, expected)


@pytest.mark.usefixtures("built")
def test_boxes_are_those_of_grounding_dino_and_the_judge_moves_as_one(checkpoints: Path) -> None:
    finder = checkpoints / "grounding_dino"
    judge = load_grounded_sam_of_package(finder, "facebook/sam2", threshold=0.0)
    other = load_grounded_sam(finder, checkpoints / "sam2", threshold=0.0)
    images = frames(2, 96, 96)
    with torch.no_grad():
        for mine, theirs in zip(judge.boxes(images, "block"), other.boxes(images, "block"), strict=True):
            assert torch.equal(mine, theirs)
    assert judge.segment(images, "block").shape == (2, 96, 96)
    assert next(judge.to("meta").predictor.model.parameters()).is_meta


def test_a_file_with_its_architecture(built: list[tuple[str, str]], checkpoints: Path, tmp_path: Path) -> None:
    file = tmp_path / "sam2.pt"
    file.touch()
    with refusal("does not say its architecture; give config"):
        load_grounded_sam_of_package(checkpoints / "grounding_dino", file)
    load_grounded_sam_of_package(checkpoints / "grounding_dino", file, config="tiny.yaml")
    assert built == [("tiny.yaml", str(file))]


@pytest.mark.usefixtures("built")
def test_a_model_that_does_not_load(checkpoints: Path) -> None:
    with refusal("SAM 2 does not load from facebook/nothing: no such model"):
        load_grounded_sam_of_package(checkpoints / "grounding_dino", "facebook/nothing")


def test_without_the_extra(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sam2", None)
    with pytest.raises(MissingExtra, match=r"needs an extra: pip install 'sim2real-aug\[judges\]'"):
        load_grounded_sam_of_package(checkpoints / "grounding_dino", "facebook/sam2")
