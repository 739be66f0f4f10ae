"""Random numbers that depend on names and counters only, never on what ran before.

Every draw names its place, `numpy_generator(seed, "noise", episode)`, so that work can be split,
interrupted and resumed in any order and still give the same numbers.
"""

from __future__ import annotations

import hashlib
from operator import index
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from `parts`; ("1", 2) and (1, "2") differ, 1 and numpy's 1 do not."""
    plain = (part if isinstance(part, str) else index(part) for part in parts)
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in plain)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(*parts))


def torch_generator(*parts: int | str) -> torch.Generator:
    """A CPU generator, so that draws are the same whatever the device they are moved to."""
    import torch

    return torch.Generator("cpu").manual_seed(derive_seed(*parts))
