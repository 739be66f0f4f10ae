"""Image diffusion policies: network, training, closed-loop evaluation. Names are loaded when first used."""

from sim2real_aug.lazy import exports

_HOMES = {
    "DiffusionPolicy": ".diffusion",
    "EvaluateSettings": ".evaluation",
    "Observation": ".diffusion",
    "PolicyRunner": ".runner",
    "PolicySettings": ".diffusion",
    "TrainSettings": ".trainer",
    "evaluate": ".evaluation",
    "load_policy": ".diffusion",
    "train_policy": ".trainer",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = exports(__name__, _HOMES)
