"""What the adapters of embedding networks share: the network sees the masked image, the paper's m * I.

Legend: images (B, 3, H, W) float in [0, 1]; masks (B, H, W) bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sim2real_aug.judges.checkpoints import in_batches
from sim2real_aug.judges.preprocessing import masked, unit


class MaskedEmbedding(nn.Module):
    """An EmbeddingJudge, but for `features`. config: all but the weights that its answers depend on."""

    def __init__(self, model: Any, preprocess: Callable[[Tensor], Tensor], batch_size: int) -> None:
        super().__init__()
        self.model, self.preprocess, self.batch_size = model, preprocess, batch_size
        self.config: dict[str, Any] = {"preprocess": preprocess}

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images (B, 3, H, W) and masks (B, H, W) to (B, D) of unit length, zero where a mask is empty."""
        return in_batches(self._embed, self.batch_size, images, masks)

    def _embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return unit(self.features(self.preprocess(masked(images, masks)), masks), masks)

    def features(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """What the network makes, (B, D) of any length, of preprocessed images (B, 3, h, w)."""
        raise NotImplementedError
