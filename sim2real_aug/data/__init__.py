"""Episodes on disk, photos, and the dataset wrapper. Names are loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "AugmentedDataset": "augmented",
    "PhotoSet": "photos",
    "ReplayBuffer": "replay_buffer",
    "ReplayBufferWriter": "writer",
    "SequenceSampler": "sequences",
    "load_photos": "photos",
    "split_episodes": "sequences",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
