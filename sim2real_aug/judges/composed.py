"""A judge that is three, one a role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sim2real_aug.judges.base import DepthJudge, EmbeddingJudge, SegmentationJudge


class ComposedJudge(nn.Module):
    """Implements every role of `sim2real_aug.judges.base` by the judge of that role.

    A module, so that it moves and hashes as a single network does: its state_dict holds the weights of every part
    that is one. config: what else the parts say that their answers depend on.
    """

    def __init__(self, depth: DepthJudge, segmentation: SegmentationJudge, embedding: EmbeddingJudge) -> None:
        super().__init__()
        self.depth_judge, self.segmentation_judge, self.embedding_judge = depth, segmentation, embedding
        self.config = {
            role: settings_of(part)
            for role, part in (("depth", depth), ("segmentation", segmentation), ("embedding", embedding))
        }

    def depth(self, images: Tensor) -> Tensor:
        return self.depth_judge.depth(images)

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return self.segmentation_judge.segment(images, phrase)

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return self.embedding_judge.embed(images, masks)


def settings_of(part: Any) -> dict[str, Any]:
    """Class and configuration of a judge."""
    config = getattr(part, "config", None)
    return {"class": type(part).__name__, **(config if isinstance(config, Mapping) else {})}
