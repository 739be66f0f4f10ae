"""Pretraining of the compact editor and judge on the `randomized` domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim2real_aug.pretrain.run import pretrain

__all__ = ["pretrain"]


def __getattr__(name: str) -> Any:
    if name == "pretrain":
        from sim2real_aug.pretrain.run import pretrain

        return pretrain
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
