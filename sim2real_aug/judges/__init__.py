"""Perception models that score edits: depth, segmentation, perceptual embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from sim2real_aug.judges.base import Judge

SHIPPED_JUDGE = Path(__file__).resolve().parent.parent / "weights" / "compact" / "judge"


def load_judge(path: str | Path | None = None) -> Judge:
    """The compact judge of a folder, or the one that ships with the package."""
    from sim2real_aug.judges.compact import load_compact_judge

    return load_compact_judge(path or SHIPPED_JUDGE)


def open_judge(node: DictConfig, device: torch.device) -> Judge:
    """The judge that a hydra node makes, on `device`."""
    from torch import nn

    from sim2real_aug.config import make

    judge: Judge = make(node)
    if isinstance(judge, nn.Module):
        judge.to(device)
    return judge
