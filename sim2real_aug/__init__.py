"""Relabel simulated robot episodes so that they look like your lab, with every action label still valid.

    editor = sim2real_aug.load_editor()                       # or a run of `sim2real-aug train-editor`
    real_looking = editor(frames, photos)                     # (B, H, W, 3) uint8, twice
    dataset = sim2real_aug.AugmentedDataset(dataset, "edited.zarr", probability=0.5, image_keys=["image"])

Importing the package loads neither torch nor diffusers: the names below are looked up when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim2real_aug.data import AugmentedDataset
    from sim2real_aug.editor import load_editor

__all__ = ["AugmentedDataset", "__version__", "load_editor"]

_HOMES = {"AugmentedDataset": "sim2real_aug.data", "load_editor": "sim2real_aug.editor"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("sim2real-aug")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
