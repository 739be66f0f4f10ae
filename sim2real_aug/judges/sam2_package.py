"""Regions by a phrase as in `grounded_sam`, with SAM 2 by its authors' package `sam2` in place of transformers'.

It reads the authors' own .pt checkpoints, and models of the hub that have one. Legend: as in `grounded_sam`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GroundingDinoForObjectDetection

from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.judges.checkpoints import fetch, load_model, load_tokenizer
from sim2real_aug.judges.grounded_sam import GroundedSam
from sim2real_aug.judges.preprocessing import read_preprocessing
from sim2real_aug.pixels import to_frames


class GroundedSamOfPackage(GroundedSam):
    """A SegmentationJudge. The package's predictor resizes and normalises by itself, from images of 8 bits."""

    def __init__(self, predictor: Any, **parts: Any) -> None:
        super().__init__(segmenter=predictor.model, **parts)
        self.predictor = predictor  # it works where its model, which is a part of this module, is

    def outlines(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The union (B, H, W) bool of SAM 2's mask of each box (n, 4) of each image."""
        height, width = images.shape[-2:]
        masks = images.new_zeros((len(images), height, width), dtype=torch.bool)
        rows = [row for row, found in enumerate(boxes) if len(found)]
        if not rows:
            return masks
        sides = torch.tensor([width, height, width, height])
        self.predictor.set_image_batch(list(to_frames(images[rows])))
        found, _, _ = self.predictor.predict_batch(
            box_batch=[(boxes[row].cpu() * sides).numpy() for row in rows], multimask_output=False
        )
        for row, outlines in zip(rows, found, strict=True):  # (n, 1, H, W), or (1, H, W) of one box
            masks[row] = torch.from_numpy(outlines > 0).reshape(-1, height, width).any(0).to(masks.device)
        return masks


def load_grounded_sam_of_package(
    detector: str | Path,
    segmenter: str | Path,
    config: str | None = None,
    threshold: float = 0.35,
    batch_size: int = 8,
) -> GroundedSamOfPackage:
    """detector: hub name or folder. segmenter: hub name, or a .pt file of the authors', and then config: the package's
    name of its architecture, such as configs/sam2.1/sam2.1_hiera_t.yaml.

    Raises MissingExtra where the package, or the torchvision that it needs, is not installed, and BadInput, see
    `checkpoints`, and for a segmenter that does not load.
    """
    file = Path(segmenter).expanduser()
    if file.is_file() and config is None:
        raise BadInput(f"{file} does not say its architecture; give config, such as configs/sam2.1/sam2.1_hiera_t.yaml")
    try:
        package = importlib.import_module("sam2.sam2_image_predictor").SAM2ImagePredictor
        build = importlib.import_module("sam2.build_sam").build_sam2
    except ImportError as error:
        raise MissingExtra("SAM 2 by its own package", "judges") from error
    finder = fetch(detector)
    try:
        if file.is_file():
            predictor = package(build(config, str(file), device="cpu"))
        else:
            predictor = package.from_pretrained(str(segmenter), device="cpu")
    except Exception as error:  # of the network, of hydra, of torch
        raise BadInput(f"SAM 2 does not load from {segmenter}: {one_line(error)}") from error
    judge = GroundedSamOfPackage(
        predictor,
        detector=load_model(GroundingDinoForObjectDetection, finder, ("grounding-dino",)),
        tokenizer=load_tokenizer(finder),
        preprocess=(read_preprocessing(finder),),
        threshold=threshold,
        batch_size=batch_size,
    )
    return judge.requires_grad_(False).eval()
