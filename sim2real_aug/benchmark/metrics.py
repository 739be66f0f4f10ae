"""What an edit is measured by (the paper's Tables 1 to 3).

Depth_all = 255 mean |depth(I_og) - depth(I_gen)|
Depth_out = the same over the pixels outside m_og
L2_out    = mean over the pixels outside m_og of ||I_og - I_gen||_2
STY_in    = mean over the encoders of cos(embed(m_og * I_gen), embed(m_sty * I_sty))

Lower is better of the first three, which say what an edit kept; higher of STY_in and of all that compares with a text.
A figure that is not defined, such as one outside a mask that covers the image, is NaN, and left out of means.

Legend: B edits; images (B, 3, H, W) float in [0, 1]; masks (B, H, W) bool; depth (B, H, W) in [0, 1]; figures (B,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.judges.base import EmbeddingJudge

DEPTH_UNITS = 255.0  # the paper gives depth in levels of an 8-bit map


def depth_all(source_depth: Tensor, edit_depth: Tensor) -> Tensor:
    """In 1/255 of the range that the judge scales a map to."""
    return DEPTH_UNITS * (source_depth - edit_depth).abs().flatten(1).mean(1)


def depth_out(source_depth: Tensor, edit_depth: Tensor, inside: Tensor) -> Tensor:
    """As `depth_all`, outside the mask."""
    return DEPTH_UNITS * mean_outside((source_depth - edit_depth).abs(), inside)


def l2_out(source: Tensor, edits: Tensor, inside: Tensor) -> Tensor:
    """The norm runs over the three colour channels."""
    return mean_outside(torch.linalg.vector_norm(source - edits, dim=1), inside)


def mean_outside(values: Tensor, inside: Tensor) -> Tensor:
    """Mean of values (B, H, W) where `inside` is False, NaN where that is nowhere."""
    outside = ~inside
    return (values * outside).flatten(1).sum(1) / outside.flatten(1).sum(1)


def style_in(
    encoders: Sequence[EmbeddingJudge], edits: Tensor, inside: Tensor, photos: Tensor, photo_inside: Tensor
) -> Tensor:
    """Photos may have another size than the edits. NaN where one of the two masks is empty."""
    similarities = [
        F.cosine_similarity(encoder.embed(edits, inside), encoder.embed(photos, photo_inside), dim=1)
        for encoder in encoders
    ]
    found = inside.flatten(1).any(1) & photo_inside.flatten(1).any(1)
    return torch.stack(similarities).mean(0).where(found, torch.nan)
