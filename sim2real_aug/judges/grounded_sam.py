"""Regions by a phrase: Grounding DINO (Liu et al. 2023) finds boxes, SAM 2 (Ravi et al. 2024) their outlines.

Legend: B images (B, 3, H, W) float in [0, 1]; n boxes of an image (n, 4) as x0, y0, x1, y1 in shares of its sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GroundingDinoForObjectDetection, Sam2Model

from sim2real_aug.judges.checkpoints import fetch, in_batches, load_model, load_tokenizer
from sim2real_aug.judges.preprocessing import Preprocessing, read_preprocessing


class GroundedSam(nn.Module):
    """A SegmentationJudge. config: all but the weights that its answers depend on.

    preprocess: of detector and segmenter, one where they share it or the segmenter has
    its own. threshold: least confidence of a box.
    """

    def __init__(
        self,
        detector: Any,
        tokenizer: Any,
        segmenter: Any,
        preprocess: tuple[Preprocessing, ...],
        threshold: float,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.detector, self.tokenizer, self.segmenter = detector, tokenizer, segmenter
        self.detector_input, self.segmenter_input = preprocess[0], preprocess[-1]
        self.threshold, self.batch_size = threshold, batch_size
        self.config = {"threshold": threshold, "preprocess": preprocess}

    @torch.no_grad()
    def segment(self, images: Tensor, phrase: str) -> Tensor:
        """The union of what is outlined in all boxes, (B, H, W) bool; nothing where no box is found."""
        return in_batches(lambda part: self.outlines(part, self.boxes(part, phrase)), self.batch_size, images)

    def boxes(self, images: Tensor, phrase: str) -> list[Tensor]:
        """The boxes (n, 4) of each image in which `phrase` is seen.

        As transformers' `post_process_grounded_object_detection`, whose second threshold only chooses labels: a
        single phrase is asked for, so that every box is its.
        """
        pixels = self.detector_input(images)
        words = self.tokenizer(prompt(phrase), return_tensors="pt", return_token_type_ids=True)
        words = {key: value.expand(len(pixels), -1).to(pixels.device) for key, value in words.items()}
        found = self.detector(pixel_values=pixels, **words)
        centre, side = found.pred_boxes.split(2, dim=-1)
        corners = torch.cat([centre - side / 2, centre + side / 2], dim=-1)
        sure = found.logits.sigmoid().amax(-1) > self.threshold
        return [each[keep] for each, keep in zip(corners, sure, strict=True)]

    def outlines(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """The union (B, H, W) bool of SAM 2's mask of each box (n, 4) of each image.

        An image with fewer boxes than another has its last one again, which adds nothing to the union.
        """
        masks = images.new_zeros((len(images), *images.shape[-2:]), dtype=torch.bool)
        rows = [row for row, found in enumerate(boxes) if len(found)]
        if not rows:
            return masks
        most = max(len(boxes[row]) for row in rows)
        padded = torch.stack([boxes[row][torch.arange(most).clamp(max=len(boxes[row]) - 1)] for row in rows])
        pixels = self.segmenter_input(images[rows])
        sides = padded.new_tensor(pixels.shape[-2:]).flip(0).repeat(2)  # width, height, width, height
        logits = self.segmenter(
            pixel_values=pixels, input_boxes=padded * sides, multimask_output=False
        ).pred_masks
        logits = F.interpolate(logits[:, :, 0], images.shape[-2:], mode="bilinear", align_corners=False)
        masks[rows] = (logits > 0).any(1)
        return masks


def prompt(phrase: str) -> str:
    """A phrase as Grounding DINO was trained to read it: "The T-shaped block" is "the t-shaped block."."""
    return phrase.lower().strip(" .") + "."


def load_grounded_sam(
    detector: str | Path, segmenter: str | Path, threshold: float = 0.35, batch_size: int = 8
) -> GroundedSam:
    """Checkpoints by their hub names or folders. Raises BadInput, see `checkpoints`.

    The hub's SAM 2 checkpoints are of its video model, which holds the weights of the one for images.
    """
    finder, outliner = fetch(detector), fetch(segmenter)
    return GroundedSam(
        load_model(GroundingDinoForObjectDetection, finder, ("grounding-dino",)),
        load_tokenizer(finder),
        load_model(Sam2Model, outliner, ("sam2", "sam2_video")),
        (read_preprocessing(finder), read_preprocessing(outliner)),
        threshold,
        batch_size,
    )
