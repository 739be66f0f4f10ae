"""The parts of a checkpoint in diffusers' layout, a folder each: whole, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from sim2real_aug.errors import BadInput
from sim2real_aug.loading import load_network, loaded

PARTS: dict[str, Any] = {
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "tokenizer": CLIPTokenizer,
    "unet": UNet2DConditionModel,
    "scheduler": DDIMScheduler,
}
NEEDED = ("model_index.json", "*/*.json", "*/*.txt", "*/*.safetensors")
IGNORED = ("safety_checker/*", "*.fp16.safetensors", "*.non_ema.safetensors")
VOCABULARY = ("tokenizer.json", "vocab.json")  # one of them; without any the tokenizer would know no word


def load_parts(
    folder: Path, kind: str, parts: dict[str, Any] = PARTS, dtype: torch.dtype | None = torch.float32
) -> dict[str, Any]:
    """The parts of the checkpoint in `folder` by name; networks in `dtype`.

    kind: what the folder is to be, for messages. Raises BadInput for a part that is missing or damaged.
    """
    return {name: _load(folder, kind, name, part, dtype) for name, part in parts.items()}


def _load(folder: Path, kind: str, name: str, part: Any, dtype: torch.dtype | None) -> Any:
    place = folder / name
    if not place.is_dir():
        raise BadInput(f"{folder} is not {kind}: it has no folder '{name}'")
    if issubclass(part, nn.Module):
        return load_network(part, place, dtype)
    if part is CLIPTokenizer and not any((place / file).is_file() for file in VOCABULARY):
        raise BadInput(f"{place} does not load: it has no {' or '.join(VOCABULARY)}")
    return loaded(place, lambda: part.from_pretrained(place))
