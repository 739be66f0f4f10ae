"""What a region looks like to DINOv2 (Oquab et al. 2023): the mean of the patch tokens under the mask.

The network sees the masked image, the paper's m * I, so that tokens know nothing of what is around the region; those
outside it are left out of the mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Model

from sim2real_aug.judges.checkpoints import fetch, in_batches, load_model
from sim2real_aug.judges.preprocessing import Preprocessing, masked, read_preprocessing, unit


class Dinov2(nn.Module):
    """An EmbeddingJudge. config: all but the weights that its answers depend on."""

    def __init__(self, model: Any, preprocess: Preprocessing, batch_size: int) -> None:
        super().__init__()
        self.model, self.preprocess, self.batch_size = model, preprocess, batch_size
        self.config = {"preprocess": preprocess}

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images (B, 3, H, W) and masks (B, H, W) to (B, D) of unit length, zero where a mask is empty."""
        return in_batches(self._embed, self.batch_size, images, masks)

    def _embed(self, images: Tensor, masks: Tensor) -> Tensor:
        pixels = self.preprocess(masked(images, masks))
        patches = self.model(pixels).last_hidden_state[:, 1:]  # the first token is the image's
        side = self.model.config.patch_size
        grid = pixels.shape[-2] // side, pixels.shape[-1] // side
        share = F.adaptive_avg_pool2d(masks[:, None].to(pixels.dtype), grid).flatten(
            2
        )  # of each patch, (B, 1, P)
        return unit((share @ patches)[:, 0], masks)


def load_dinov2(name: str | Path, batch_size: int = 32) -> Dinov2:
    """A checkpoint by its hub name or folder. Raises BadInput, see `checkpoints`."""
    folder = fetch(name)
    return Dinov2(load_model(Dinov2Model, folder, ("dinov2",)), read_preprocessing(folder), batch_size)
