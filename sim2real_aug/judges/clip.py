"""What a region looks like to CLIP (Radford et al. 2021): the embedding of the masked image, the paper's m * I."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from sim2real_aug.judges.checkpoints import fetch, in_batches, load_model
from sim2real_aug.judges.preprocessing import Preprocessing, masked, read_preprocessing, unit


class Clip(nn.Module):
    """An EmbeddingJudge. config: all but the weights that its answers depend on."""

    def __init__(self, model: Any, preprocess: Preprocessing, batch_size: int) -> None:
        super().__init__()
        self.model, self.preprocess, self.batch_size = model, preprocess, batch_size
        self.config = {"preprocess": preprocess}

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images (B, 3, H, W) and masks (B, H, W) to (B, D) of unit length, zero where a mask is empty."""
        return in_batches(self._embed, self.batch_size, images, masks)

    def _embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return unit(self.model(self.preprocess(masked(images, masks))).image_embeds, masks)


def load_clip(name: str | Path, batch_size: int = 32) -> Clip:
    """A checkpoint of CLIP, or of its image tower alone, by its hub name or folder. Raises BadInput, see
    `checkpoints`."""
    folder = fetch(name)
    model = load_model(CLIPVisionModelWithProjection, folder, ("clip", "clip_vision_model"))
    return Clip(model, read_preprocessing(folder), batch_size)
