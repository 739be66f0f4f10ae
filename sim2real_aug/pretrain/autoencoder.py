"""Pretraining of the compact editor's autoencoder: AutoencoderKL, four times smaller latents, on crops.

Without attention it is fully convolutional, so it learns on 48-pixel crops at four times the rate and serves
96-pixel frames. Loss: L1 + gradient L1 (edges carry the pose) + a small KL, as latent diffusion's autoencoder
has; no perceptual or adversarial term.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from sim2real_aug.pretrain.frames import FrameGroups
from sim2real_aug.pretrain.loop import Draw, Loss

CROP = 48
KL_WEIGHT = 1e-4
GRADIENT_WEIGHT = 1.0


def build_autoencoder(block_out_channels: list[int], norm_num_groups: int, sample_size: int) -> AutoencoderKL:
    """A new AutoencoderKL with four latent channels; it shrinks by 2 at every level but the last."""
    levels = len(block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(block_out_channels),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=norm_num_groups,
        sample_size=sample_size,
        mid_block_add_attention=False,
    )


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels down and across."""
    return images[..., 1:, :] - images[..., :-1, :], images[..., 1:] - images[..., :-1]


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    edges = sum(F.l1_loss(a, b) for a, b in zip(gradients(output), gradients(target), strict=True))
    return F.l1_loss(output, target) + GRADIENT_WEIGHT * edges


def autoencoder_loss(vae: nn.Module, frames: FrameGroups, batch_size: int, device: torch.device) -> Loss:
    """The loss of one random batch of crops."""
    flat = frames.images.reshape(-1, *frames.images.shape[-3:])

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        chosen = draw.numpy.integers(len(flat), size=batch_size)
        corners = draw.numpy.integers(flat.shape[1] - CROP + 1, size=(batch_size, 2))
        crops = [flat[i, y : y + CROP, x : x + CROP] for i, (y, x) in zip(chosen, corners, strict=True)]
        target = torch.stack([torch.from_numpy(crop) for crop in crops]).permute(0, 3, 1, 2).to(device)
        target = target.float() / 127.5 - 1
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw.torch).to(device)
        output = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        mse = F.mse_loss(output, target)
        return reconstruction_loss(output, target) + KL_WEIGHT * kl, {"mse": mse, "kl": kl}

    return loss


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL, images: Tensor) -> None:
    """Choose `scaling_factor` so that scaled latents of `images` (B, 3, H, W) in [-1, 1] have unit variance."""
    latents = vae.encode(images).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
