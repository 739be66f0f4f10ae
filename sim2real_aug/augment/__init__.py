"""Relabelling the frames of a replay buffer. Names are loaded when first used."""

from sim2real_aug.lazy import exports

_HOMES = {
    "AugmentSettings": ".settings",
    "augment": ".engine",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
