"""Relabelling the frames of a replay buffer. Names are loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {"AugmentSettings": "settings", "augment": "engine"}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
