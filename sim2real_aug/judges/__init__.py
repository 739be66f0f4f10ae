"""Perception models that score edits: depth, segmentation, perceptual embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim2real_aug.judges.base import Judge

SHIPPED_JUDGE = Path(__file__).resolve().parent.parent / "weights" / "compact" / "judge"


def load_judge(path: str | Path | None = None) -> Judge:
    """The compact judge of a folder, or the one that ships with the package."""
    from sim2real_aug.judges.compact import load_compact_judge

    return load_compact_judge(path or SHIPPED_JUDGE)
