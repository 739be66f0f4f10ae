"""Procedural textures: a (size, size) float32 field in about [-1, 1] for each material, from a seed.

Textures are computed on the unit square at a fixed number of features, so that a texture looks the same
at any resolution.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def value_noise(rng: np.random.Generator, size: int, cells_y: int, cells_x: int) -> Field:
    """Smooth noise with `cells_y` x `cells_x` features over the square."""
    grid = rng.uniform(-1.0, 1.0, (cells_y + 1, cells_x + 1)).astype(np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def _wood(rng: np.random.Generator, size: int) -> Field:
    planks = int(rng.integers(1, 6))
    coordinate = (np.arange(size, dtype=np.float32) + 0.5) / size
    warp = value_noise(rng, size, 3, 3) * rng.uniform(0.02, 0.1)
    across = coordinate[:, None] + warp
    rings = np.sin(2 * np.pi * rng.uniform(5, 14) * across)
    fibre = value_noise(rng, size, 60, 3)
    tone = rng.uniform(-0.8, 0.8, planks).astype(np.float32)
    plank = np.minimum((coordinate * planks).astype(int), planks - 1)
    field = 0.45 * rings + 0.35 * fibre + 0.5 * tone[plank][:, None]
    return field.T.copy() if rng.random() < 0.5 else field


def _cloth(rng: np.random.Generator, size: int) -> Field:
    phase = np.arange(size, dtype=np.float32)[:, None] / size * 2 * np.pi * rng.uniform(20, 44)
    weave = np.sin(phase) * np.sin(phase.T)
    return 0.5 * weave + 0.5 * value_noise(rng, size, 4, 4)


def _metal(rng: np.random.Generator, size: int) -> Field:
    brushed = value_noise(rng, size, 90, 2) if rng.random() < 0.5 else value_noise(rng, size, 2, 90)
    return 0.5 * brushed + 0.6 * value_noise(rng, size, 2, 2)


def _stone(rng: np.random.Generator, size: int) -> Field:
    octaves = [value_noise(rng, size, 2**k, 2**k) * 0.8**k for k in range(2, 7)]
    return np.asarray(sum(octaves) * np.float32(0.6))


def _mat(rng: np.random.Generator, size: int) -> Field:
    lines = int(rng.integers(4, 13))
    coordinate = (np.arange(size, dtype=np.float32) + 0.5) / size * lines
    line = (np.abs(coordinate - np.round(coordinate)) < 0.06).astype(np.float32)
    grid = np.maximum(line[:, None], line[None, :])
    return grid * float(rng.choice([-1.0, 1.0])) + 0.2 * value_noise(rng, size, 6, 6)


def _smudges(rng: np.random.Generator, size: int) -> Field:
    return 0.35 * value_noise(rng, size, 3, 3) + 0.15 * value_noise(rng, size, 12, 12)


_FIELDS = {"wood": _wood, "cloth": _cloth, "metal": _metal, "stone": _stone, "mat": _mat}


def texture(material: str, seed: int, size: int) -> Field:
    """The texture of `material`; board, plastic and foam, which have none of their own, get faint smudges."""
    field = _FIELDS.get(material, _smudges)(np.random.default_rng(seed), size)
    return np.ascontiguousarray(field, dtype=np.float32)
