"""A tiny random editor (the real class), a judge that is plain arithmetic, and a small store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sim2real_aug.data import ReplayBufferWriter
from sim2real_aug.editor.editor import Editor

from ..tiny_editor import SIZE, build_editor

CHUNK = 8
LENGTHS = (5, 1, 9, 6)  # 21 frames: three chunks of 8, the last one short


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def editor_with_photos(seed: int = 0) -> Editor:
    """Two steps, three random photos."""
    editor = build_editor(seed, num_inference_steps=2)
    editor.photos = np.random.default_rng(seed).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    return editor


class BrightnessJudge:
    """Depth is brightness, the block is what is bright, an embedding is the mean colour."""

    def depth(self, images: Tensor) -> Tensor:
        return images.mean(1)

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return images.mean(1) > 0.5

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.nn.functional.normalize((images * masks[:, None]).flatten(2).mean(-1) + 1e-6, dim=-1)


@pytest.fixture(scope="session")
def editor() -> Editor:
    return editor_with_photos()


def write_store(
    path: Path,
    size: int | tuple[int, int] = SIZE,
    zarr_format: int = 2,
    lengths: tuple[int, ...] = LENGTHS,
    chunk_frames: int = CHUNK,
) -> Path:
    """A store of random frames with an all-zero array and one that no one expects."""
    rng = np.random.default_rng(0)
    height, width = (size, size) if isinstance(size, int) else size
    with ReplayBufferWriter.create(
        path, zarr_format, chunk_frames=chunk_frames, attrs={"made": "by a test"}
    ) as writer:
        for n in lengths:
            writer.append_episode(
                {
                    "img": rng.integers(0, 256, (n, height, width, 3)).astype(np.uint8),
                    "state": rng.normal(size=(n, 5)).astype(np.float32),
                    "action": rng.normal(size=(n, 2)).astype(np.float32),
                    "n_contacts": np.zeros((n, 1), np.float32),
                    "tactile": rng.integers(0, 9, (n, 3, 2)).astype(np.int16),
                }
            )
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "source.zarr")
