"""Pretraining of the compact editor's autoencoder: AutoencoderKL, four times smaller latents, on crops.

Without attention it is fully convolutional, so it learns on 48-pixel crops at four times the rate and serves
96-pixel frames. Crops are drawn around block, goal and pusher, and their pixels weigh more: they are a twentieth
of a frame and carry the pose. Latents have 8 channels where Stable Diffusion's have 4: at 96 pixels the pusher is
a latent and a half wide, and with 4 its colour was lost.

Loss: weighted L1 + gradient L1 (edges carry the pose) + a small KL, as latent diffusion's autoencoder has; no
perceptual or adversarial term.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from sim2real_aug.pretrain.frames import FrameGroups
from sim2real_aug.pretrain.loop import Draw, Loss

CROP = 48
KL_WEIGHT = 1e-5
GRADIENT_WEIGHT = 1.0
OBJECT_WEIGHT = 5.0


def build_autoencoder(
    block_out_channels: list[int], norm_num_groups: int, sample_size: int, latent_channels: int
) -> AutoencoderKL:
    """A new AutoencoderKL; it shrinks by 2 at every level but the last."""
    levels = len(block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(block_out_channels),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=norm_num_groups,
        sample_size=sample_size,
        mid_block_add_attention=False,
    )


def gradients(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels down and across."""
    return images[..., 1:, :] - images[..., :-1, :], images[..., 1:] - images[..., :-1]


def reconstruction_loss(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """L1 of the pixels (B, 3, H, W), each times its `weight` (B, 1, H, W), and of their gradients."""
    edges = sum(F.l1_loss(a, b) for a, b in zip(gradients(output), gradients(target), strict=True))
    return (weight * (output - target).abs()).mean() + GRADIENT_WEIGHT * edges


def draw_crops(rng: np.random.Generator, frames: FrameGroups, count: int) -> tuple[Tensor, Tensor]:
    """Random crops (B, 3, CROP, CROP) in [-1, 1], each around a random pixel that is not table, and their weights."""
    size = frames.images.shape[-2]
    images, weights = [], []
    for chosen in zip(*(rng.integers(n, size=count) for n in frames.images.shape[:3]), strict=True):
        labels = frames.labels[chosen]
        objects = np.flatnonzero(labels)
        middle = np.divmod(objects[rng.integers(len(objects))] if len(objects) else size * size // 2, size)
        y, x = (int(np.clip(m - rng.integers(CROP), 0, size - CROP)) for m in middle)
        images.append(torch.from_numpy(frames.images[chosen][y : y + CROP, x : x + CROP]))
        weights.append(torch.from_numpy(labels[y : y + CROP, x : x + CROP] != 0))
    weight = 1 + (OBJECT_WEIGHT - 1) * torch.stack(weights)[:, None].float()
    return torch.stack(images).permute(0, 3, 1, 2).float() / 127.5 - 1, weight


def autoencoder_loss(vae: nn.Module, frames: FrameGroups, batch_size: int, device: torch.device) -> Loss:
    """The loss of one random batch of crops."""

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        target, weight = (tensor.to(device) for tensor in draw_crops(draw.numpy, frames, batch_size))
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw.torch).to(device)
        output = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        figures = {"mse": F.mse_loss(output, target), "kl": kl}
        return reconstruction_loss(output, target, weight) + KL_WEIGHT * kl, figures

    return loss


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL, images: Tensor) -> None:
    """Choose `scaling_factor` so that scaled latents of `images` (B, 3, H, W) in [-1, 1] have unit variance."""
    latents = vae.encode(images).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
