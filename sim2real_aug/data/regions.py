"""The regions of the workspace: names, the phrases that mean them, and the depth scale that they fix.

Legend: N frames of H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.errors import unknown_name

REGIONS = ("table", "block", "goal", "pusher")
PHRASES = {
    "table": ("table", "board", "whiteboard", "desk", "background", "tabletop"),
    "block": ("block", "t", "tee", "t-block", "t-shape", "t-shaped block", "letter t", "object"),
    "goal": ("goal", "target", "marker", "goal marker"),
    "pusher": ("pusher", "agent", "robot", "stick", "tool", "gripper", "arm", "end effector"),
}


def region_of(phrase: str) -> str:
    """The region that a phrase names ("T-shaped block" is the block). Raises BadInput for words it cannot know."""
    for region, phrases in PHRASES.items():
        if _words(phrase) in phrases:
            return region
    raise unknown_name("phrase for a region", phrase, [p for group in PHRASES.values() for p in group])


def object_phrase(phrases: Sequence[str]) -> str | None:
    """The phrase that means the object, whose outline a user may give.

    The one that names the block, else the first that means none of the regions; None where all mean others.
    """
    free = (phrase for phrase in phrases if not is_region(phrase))
    return next((phrase for phrase in phrases if is_block(phrase)), next(free, None))


def is_region(phrase: str) -> bool:
    """Whether exact labels know what the phrase means; a judge may know more."""
    return any(_words(phrase) in phrases for phrases in PHRASES.values())


def is_block(phrase: str) -> bool:
    return _words(phrase) in PHRASES["block"]


def is_pusher(phrase: str) -> bool:
    return _words(phrase) in PHRASES["pusher"]


def _words(phrase: str) -> str:
    return phrase.lower().strip(" .").removeprefix("the ").removeprefix("a ")


def relative_depth(depth: NDArray[np.floating[Any]], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Depth (N, H, W), in any unit, scaled frame by frame: 1 on the table, 0.5 on the block's top, at least 0.

    The unit that every depth judge speaks. As with all relative depth the scale is a convention; this one is
    fixed by the frame itself and depends neither on the camera nor on the block. The table is the farthest that
    is seen; without a block in view whatever stands on the table is 0.
    """
    depth = depth.astype(np.float32)
    height = 1 - depth / depth.max(axis=(1, 2), keepdims=True)
    block = np.where(labels == REGIONS.index("block"), height, 0).max(axis=(1, 2), keepdims=True)
    return 1 - np.clip(height / np.maximum(2 * block, 1e-4), 0, 1)
