"""What a region looks like to DINOv2 (Oquab et al. 2023): the mean of the patch tokens under the mask.

The network sees the masked image, so that tokens know nothing of what is around the region; those outside it are left
out of the mean.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.nn import functional as F
from transformers import Dinov2Model

from sim2real_aug.judges.checkpoints import fetch, load_model
from sim2real_aug.judges.masked_embedding import MaskedEmbedding
from sim2real_aug.judges.preprocessing import read_preprocessing


class Dinov2(MaskedEmbedding):
    """The patch tokens' mean, each by the share of it that is under the mask."""

    def features(self, pixels: Tensor, masks: Tensor) -> Tensor:
        patches: Tensor = self.model(pixels).last_hidden_state[:, 1:]  # the first token is the image's
        side = self.model.config.patch_size
        grid = pixels.shape[-2] // side, pixels.shape[-1] // side
        shares = F.adaptive_avg_pool2d(masks[:, None].to(pixels.dtype), grid).flatten(2)  # (B, 1, P)
        return (shares @ patches)[:, 0]


def load_dinov2(name: str | Path, batch_size: int = 32) -> Dinov2:
    """A checkpoint by its hub name or folder. Raises BadInput, see `checkpoints`."""
    folder = fetch(name)
    return Dinov2(load_model(Dinov2Model, folder, ("dinov2",)), read_preprocessing(folder), batch_size)
