"""Image diffusion policies: network, training, closed-loop evaluation. Names are loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "DiffusionPolicy": "diffusion",
    "EvaluateSettings": "evaluation",
    "Observation": "diffusion",
    "PolicySettings": "diffusion",
    "TrainSettings": "trainer",
    "evaluate": "evaluation",
    "load_policy": "diffusion",
    "train_policy": "trainer",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
