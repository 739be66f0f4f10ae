"""Whether photos show what the judge is to compare, asked before anything is written.

Legend: P photos (P, 3, S, S) float32 in [0, 1]; masks bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.data.photos import MASK_SUFFIX
from sim2real_aug.data.regions import is_block, object_phrase
from sim2real_aug.data.sequences import evenly_spaced
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.base import SegmentationJudge
from sim2real_aug.progress import say

# Of a photo, for a block. Measured with shipped judges: at least 0.016 in 20 photos of real benches and 0.023 in drawn
# frames, 0.001 to 0.013 where there is no block. A goal marker of the block's shape passes for one.
LEAST_SHARE = 0.01
BATCH, NAMED = 16, 5
FRAMES_LOOKED_AT = 16


def is_shown(found: Tensor, phrase: str) -> Tensor:
    """Whether photos show what a judge finds in (P, H, W), (P,): specks of a block are none."""
    return found.flatten(1).float().mean(1) >= LEAST_SHARE if is_block(phrase) else found.flatten(1).any(1)


def frames_to_look_at(frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """A few of the frame indices `frames` (N,), from the first to the last: what `require_in_frames` is to see."""
    return frames[evenly_spaced(len(frames), FRAMES_LOOKED_AT)]


@torch.no_grad()
def require_in_frames(judge: SegmentationJudge, frames: Tensor, phrases: Sequence[str], place: str | Path) -> None:
    """Raises BadInput where a judge sees the object in none of some frames (B, 3, S, S) of `place`.

    What it does not see it cannot keep in place.
    """
    thing = _thing(phrases)
    if not is_shown(judge.segment(frames, thing), thing).any():
        raise BadInput(
            f"the judge finds no '{thing}' in any of {len(frames)} frames of {place}: judge and editor that ship know "
            "Push-T seen from above; another task needs judge=grounded, its region and an editor of its own"
        )


@torch.no_grad()
def require_object(
    judge: SegmentationJudge,
    photos: Tensor,
    photo_masks: Tensor,
    names: Sequence[str],
    phrases: Sequence[str],
) -> None:
    """Name the photos in which neither the judge nor a mask (P, S, S) of the user shows the object.

    Such a photo has no region to take after: it is compared by its other regions only. Raises BadInput where no
    photo shows the object, and for a phrase that the judge cannot know.
    """
    for phrase in phrases:
        judge.segment(photos[:1], phrase)
    thing = _thing(phrases)
    shown = is_shown(torch.cat([judge.segment(batch, thing) for batch in photos.split(BATCH)]), thing)
    if object_phrase(phrases) is not None:
        shown |= photo_masks.flatten(1).any(1)
    lacking = [name for name, seen in zip(names, shown.tolist(), strict=True) if not seen]
    if not lacking:
        return
    named = ", ".join(lacking[:NAMED]) + (f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else "")
    remedy = (
        "bring the workspace nearer with four corners in photos.yaml, paint the object white on black in "
        f"NAME{MASK_SUFFIX} beside the photo, or remove the photo"
    )
    if len(lacking) == len(names):
        raise BadInput(f"the judge finds no '{thing}' in any of the photos: {named}; {remedy}")
    say(f"the judge finds no '{thing}' in {len(lacking)} of {len(names)} photos: {named}; {remedy}")


def _thing(phrases: Sequence[str]) -> str:
    """What must be there: the object, else what is named first."""
    return object_phrase(phrases) or phrases[0]
