"""What a region looks like to CLIP (Radford et al. 2021)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from sim2real_aug.judges.checkpoints import fetch, load_model
from sim2real_aug.judges.masked_embedding import MaskedEmbedding
from sim2real_aug.judges.preprocessing import read_preprocessing


class Clip(MaskedEmbedding):
    """The projected embedding of the masked image."""

    def features(self, pixels: Tensor, masks: Tensor) -> Tensor:
        embeddings: Tensor = self.model(pixels).image_embeds
        return embeddings


def load_clip(name: str | Path, batch_size: int = 32) -> Clip:
    """A checkpoint of CLIP, or of its image tower alone, by its hub name or folder. Raises BadInput, see
    `checkpoints`."""
    folder = fetch(name)
    model = load_model(CLIPVisionModelWithProjection, folder, ("clip", "clip_vision_model"))
    return Clip(model, read_preprocessing(folder), batch_size)
