"""Windows of consecutive frames inside episodes, as diffusion_policy's SequenceSampler draws them.

Legend: N windows, horizon frames a window. Instead of four offsets a window (diffusion_policy's
create_indices), each window is its `horizon` frame indices with the episode's first and last frame repeated
where it sticks out: one fancy index reads it, and the same numbers say which edited frames replace which.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.errors import BadInput
from sim2real_aug.seeding import numpy_generator


def evenly_spaced(total: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the indices 0 to total - 1, the first and the last among them where `most` is above 1."""
    return np.unique(np.linspace(0, total - 1, most).astype(np.int64))


class SequenceSampler:
    """All windows of `horizon` frames that stick out of their episode by at most pad_before and pad_after.

    episode_ends: (E,). episodes: indices of the episodes to use, all by default. Windows come in the order
    of episodes, then of time. An episode shorter than horizon - pad_before - pad_after has none.

    indices: (N, horizon) int64 frame indices. episode: (N,) int64, the episode of each window.
    """

    def __init__(
        self,
        episode_ends: ArrayLike,
        horizon: int,
        pad_before: int = 0,
        pad_after: int = 0,
        episodes: ArrayLike | None = None,
    ) -> None:
        if horizon < 1:
            raise BadInput(f"horizon must be at least 1; got {horizon}")
        ends = np.asarray(episode_ends, dtype=np.int64)
        starts = np.concatenate([[0], ends[:-1]])
        before, after = (min(max(pad, 0), horizon - 1) for pad in (pad_before, pad_after))
        chosen = np.arange(len(ends)) if episodes is None else np.asarray(episodes, dtype=np.int64)
        windows, owners = [np.empty((0, horizon), np.int64)], [np.empty(0, np.int64)]
        for index in chosen:
            start, end = starts[index], ends[index]
            first = np.arange(start - before, end - horizon + after + 1)
            windows.append(np.clip(first[:, None] + np.arange(horizon), start, end - 1))
            owners.append(np.full(len(first), index, np.int64))
        self.indices: NDArray[np.int64] = np.concatenate(windows)
        self.episode: NDArray[np.int64] = np.concatenate(owners)

    def __len__(self) -> int:
        return len(self.indices)


def split_episodes(
    n_episodes: int, val_fraction: float = 0.0, max_train: int | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of training and validation episodes, both sorted and disjoint.

    At least one episode each when 0 < val_fraction; `max_train` keeps that many of the training episodes.
    """
    if not 0 <= val_fraction < 1:
        raise BadInput(f"val_fraction must be in [0, 1); got {val_fraction}")
    if max_train is not None and max_train < 1:
        raise BadInput(f"max_train must be at least 1, or null for all; got {max_train}")
    order = numpy_generator(seed, "split").permutation(n_episodes)
    n_val = min(max(1, round(n_episodes * val_fraction)), n_episodes - 1) if val_fraction else 0
    return np.sort(order[n_val:][:max_train]), np.sort(order[:n_val])
