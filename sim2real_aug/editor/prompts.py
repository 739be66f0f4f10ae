"""Which photos an edit takes after: `photos_per_edit` of the P there are, 0 for all of them.

With several the editor sees the mean of their latents E(I_sty): what they have in common.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def photos_of_edit(n_photos: int, photos_per_edit: int) -> int:
    """How many photos an edit takes after; no more than there are."""
    return min(photos_per_edit, n_photos) or n_photos


def draw_photos(
    generator: np.random.Generator, n_photos: int, edits: int, photos_per_edit: int
) -> NDArray[np.int64]:
    """Numbers of the photos of each edit, (edits, n): drawn for each edit, none twice, in rising order."""
    shuffled = generator.permuted(np.tile(np.arange(n_photos), (edits, 1)), axis=1)
    return np.sort(shuffled[:, : photos_of_edit(n_photos, photos_per_edit)], axis=1)


def photos_in_turn(n_photos: int, edits: int, photos_per_edit: int) -> NDArray[np.int64]:
    """As `draw_photos`, but without chance: edit i has photos i, i + 1, ..., after the last the first."""
    n = photos_of_edit(n_photos, photos_per_edit)
    return np.sort((np.arange(edits)[:, None] + np.arange(n)) % n_photos, axis=1)
