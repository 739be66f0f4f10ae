"""What a region looks like to DreamSim (Fu et al. 2023).

The package `dreamsim` (0.2.1) brings the networks; it fetches their weights from its own releases, and code by
torch.hub, the first time. The hub of Hugging Face does not have it.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sim2real_aug.devices import resolve_device
from sim2real_aug.errors import BadInput, MissingExtra, unknown_name
from sim2real_aug.judges.masked_embedding import MaskedEmbedding
from sim2real_aug.pixels import resized

KINDS = ("ensemble", "dino_vitb16", "clip_vitb32", "open_clip_vitb32", "dinov2_vitb14", "synclr_vitb16")
SIDE = 224  # pixels, dreamsim.config


class DreamSim(MaskedEmbedding):
    """The package's embedding of the masked image; the package says nothing of its settings but their name."""

    def __init__(self, model: Any, name: str, batch_size: int) -> None:
        super().__init__(model, partial(resized, size=(SIDE, SIDE), mode="bicubic"), batch_size)
        self.config = {"name": name}

    def features(self, pixels: Tensor, masks: Tensor) -> Tensor:
        embeddings: Tensor = self.model.embed(pixels)
        return embeddings


def load_dreamsim(
    name: str = "ensemble", batch_size: int = 32, cache: str | Path | None = None, device: str = "auto"
) -> DreamSim:
    """DreamSim by the name of its kind, in KINDS.

    cache: folder of its weights; None is one beside torch.hub's. device: the package remembers where it was made,
    so that a later `.to` is not enough. Raises MissingExtra where it, or the torchvision that it needs, is not
    installed, BadInput for an unknown name and where weights cannot be fetched.
    """
    if name not in KINDS:
        raise unknown_name("DreamSim", name, KINDS)
    try:
        package = importlib.import_module("dreamsim")
    except ImportError as error:
        raise MissingExtra("the DreamSim judge", "judges") from error
    folder = Path(torch.hub.get_dir()) / "dreamsim" if cache is None else Path(cache)
    folder.parent.mkdir(parents=True, exist_ok=True)
    hub = torch.hub.get_dir()
    options = {"device": str(resolve_device(device)), "cache_dir": str(folder), "dreamsim_type": name}
    try:
        with redirect_stdout(sys.stderr):  # it prints, and stdout carries only results
            model, _ = package.dreamsim(pretrained=True, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"DreamSim '{name}' does not load from {folder}: {reason}") from error
    finally:
        torch.hub.set_dir(hub)  # the package leaves its own folder there
    return DreamSim(model.requires_grad_(False).eval(), name, batch_size)
