"""The judges of a benchmark, each giving some of the table's columns. `configs/benchmark.yaml` names them.

Legend: B edits; images (B, 3, H, W) float in [0, 1]; masks (B, H, W) bool; photos (B, 3, S, S).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.benchmark.cache import key_of
from sim2real_aug.benchmark.metrics import depth_all, depth_out, l2_out, style_in
from sim2real_aug.judges.base import DepthJudge, EmbeddingJudge, TextScorer

LOWER_IS_BETTER = ("Depth_out", "Depth_all", "L2_out")


@dataclass(frozen=True)
class Seen:
    """B edits, and what they are judged by. inside: m_og. photos, photo_inside: visual prompts and m_sty. texts: the
    target captions."""

    source: Tensor
    edits: Tensor
    inside: Tensor
    photos: Tensor
    photo_inside: Tensor
    texts: list[str]

    def to(self, device: torch.device | str) -> Seen:
        tensors = {name: value.to(device) for name, value in vars(self).items() if name != "texts"}
        return Seen(**tensors, texts=self.texts)


class Measure(Protocol):
    """identity: of the judges' weights and settings, so that figures are kept by it. needs_masks: whether a figure
    depends on where the regions are; else `Seen`'s masks are all True."""

    identity: str
    needs_masks: bool

    def __call__(self, seen: Seen) -> dict[str, Tensor]:
        """A figure (B,) of each edit by the column's name; NaN where it is not defined."""


class Preservation:
    """What an edit kept: Depth_out, Depth_all and L2_out."""

    needs_masks = True

    def __init__(self, depth: DepthJudge, device: str = "cpu") -> None:
        self.judge, self.identity = _placed(depth, device), identity_of(depth)

    def __call__(self, seen: Seen) -> dict[str, Tensor]:
        source, edits = self.judge.depth(seen.source), self.judge.depth(seen.edits)
        return {
            "Depth_out": depth_out(source, edits, seen.inside),
            "Depth_all": depth_all(source, edits),
            "L2_out": l2_out(seen.source, seen.edits, seen.inside),
        }


class Style:
    """STY_in, the mean over `encoders`. name: the column."""

    needs_masks = True

    def __init__(self, encoders: Mapping[str, EmbeddingJudge], name: str = "STY_in", device: str = "cpu") -> None:
        self.encoders = [_placed(encoder, device) for _, encoder in sorted(encoders.items())]
        self.name, self.identity = name, key_of(name, [identity_of(encoder) for encoder in self.encoders])

    def __call__(self, seen: Seen) -> dict[str, Tensor]:
        style = style_in(self.encoders, seen.edits, seen.inside, seen.photos, seen.photo_inside)
        return {self.name: style}


class TextAnswer:
    """How well an edit fits its target caption, by one scorer; higher is better. name: the column."""

    needs_masks = False

    def __init__(self, name: str, scorer: TextScorer, device: str = "cpu") -> None:
        self.name, self.scorer, self.identity = name, _placed(scorer, device), key_of(name, identity_of(scorer))

    def __call__(self, seen: Seen) -> dict[str, Tensor]:
        return {self.name: self.scorer.score(seen.edits, seen.texts)}


def identity_of(judge: Any) -> str:
    """Hex, of the judge's class, weights and configuration."""
    return key_of(type(judge).__name__, weights_hash({"judge": judge}))


def _placed(judge: Any, device: str) -> Any:
    return judge.to(device) if isinstance(judge, nn.Module) else judge
