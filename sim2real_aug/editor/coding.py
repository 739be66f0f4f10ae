"""What every editor of Stable Diffusion's kind does with its text encoder and its autoencoder.

Legend: B images (B, 3, H, W) float in [0, 1]; latents (B, C, h, w); texts (B, L, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def encode_texts(tokenizer: Any, text_encoder: Any, texts: Sequence[str]) -> Tensor:
    """The text encoder's last hidden states, (B, L, D); what is longer than it reads is cut off."""
    length = tokenizer.model_max_length
    tokens = tokenizer(
        list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    states: Tensor = text_encoder(tokens.input_ids.to(text_encoder.device))[0]
    return states


def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Scaled latents (B, C, h, w) to images (B, 3, H, W) in [0, 1]."""
    images: Tensor = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample
    return (images.float() / 2 + 0.5).clamp(0, 1)


def latent_stride(vae: Any) -> int:
    """Pixels a side of one latent. An image's sides must be multiples of it; the UNet takes any number of latents."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def nearest_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """The nearest size, from half a multiple up the larger, whose sides are multiples, at least one each."""
    return (
        max(multiple, (height + multiple // 2) // multiple * multiple),
        max(multiple, (width + multiple // 2) // multiple * multiple),
    )
