"""Small stores for the tests of data/."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.data import ReplayBufferWriter

LENGTHS = (5, 1, 9, 6)  # frames an episode: 21 in all, three chunks of 8 with a short last one
CHUNK = 8


def make_arrays(n: int, offset: int = 0, size: int = 12) -> dict[str, np.ndarray]:
    """n frames whose numbers tell where they stand: pixel and state values count up from `offset`."""
    number = np.arange(offset, offset + n)
    noise = np.random.default_rng(offset).integers(0, 256, (n, size, size, 3))
    noise[:, 0, 0, 0] = number % 256
    return {
        "img": noise.astype(np.uint8),
        "state": (number[:, None] + np.linspace(0, 0.5, 5)).astype(np.float32),
        "action": (number[:, None] * np.array([1.0, -1.0])).astype(np.float32) + 1,
        "n_contacts": np.zeros((n, 1), np.float32),
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A zarr-2 folder store of four episodes."""
    path = tmp_path / "source.zarr"
    with ReplayBufferWriter.create(path, chunk_frames=CHUNK, attrs={"made": "by a test"}) as writer:
        for length in LENGTHS:
            writer.append_episode(make_arrays(length, writer.n_frames))
    return path
