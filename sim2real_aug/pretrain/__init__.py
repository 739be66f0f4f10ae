"""Pretraining of the compact editor and judge on the `randomized` domain."""

from sim2real_aug.lazy import exports

_HOMES = {"pretrain": ".run"}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
