"""What a judge is: one role a Protocol, so that a large model and the compact one are interchangeable.

Legend: B images (B, 3, H, W) float in [0, 1]; masks (B, H, W) bool; embeddings (B, D) of unit length.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class DepthJudge(Protocol):
    def depth(self, images: Tensor) -> Tensor:
        """Relative depth, (B, H, W) in [0, 1]; larger is farther.

        On the scale of `data.regions.relative_depth`, so that it can be compared with a frame's exact depth.
        """


class SegmentationJudge(Protocol):
    def segment(self, images: Tensor, phrase: str) -> Tensor:
        """Where `phrase` is seen, (B, H, W) bool; nothing found is an empty mask."""


class EmbeddingJudge(Protocol):
    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        """What the masked regions look like, (B, D) of unit length; an empty mask has a zero embedding."""


class TextScorer(Protocol):
    def score(self, images: Tensor, texts: list[str]) -> Tensor:
        """How well each image answers its own text, (B,); higher is better, on a scale of the scorer's own."""


class Judge(DepthJudge, SegmentationJudge, EmbeddingJudge, Protocol):
    """All three roles, by one network or by three."""
