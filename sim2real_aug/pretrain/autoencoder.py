"""Pretraining of the compact editor's autoencoder: AutoencoderKL, four times smaller latents, on crops.

Without attention it is fully convolutional, so it learns on 48-pixel crops at four times the rate and serves
96-pixel frames. Crops are drawn around block, goal and pusher, and their pixels weigh more: they are a twentieth
of a frame and carry the pose. Latents have 8 channels where Stable Diffusion's have 4: at 96 pixels the pusher is
a latent and a half wide, and with 4 its colour was lost.

Group normalisation sees other statistics in a whole frame than in a crop, so the decoder is then trained on with
whole frames, the encoder (and so every latent) held fixed.

Loss: weighted L1 + gradient L1 (edges carry the pose) + a small KL, as latent diffusion's autoencoder has; no
perceptual or adversarial term. It is trained in the principal axes of the pixels' colours, scaled to equal spread: in
RGB the axis from green to magenta has a fortieth of the brightness' variance and was learned last or never. The axes
are then folded into the first and the last convolution, so that what ships takes and gives RGB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.pixels import to_images
from sim2real_aug.pretrain.frames import FrameGroups, of_all_frames
from sim2real_aug.pretrain.loop import Draw, Loss

CROP = 48
KL_WEIGHT = 1e-5
GRADIENT_WEIGHT = 1.0
OBJECT_WEIGHT = 5.0
AXIS_PIXELS = 20000
AXIS_SPREAD = 0.5  # about what the brightness of RGB in [-1, 1] has


def color_axes(images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """(3, 3): RGB in [-1, 1] → the principal axes of the colours of `images` (N, H, W, 3), a standard deviation of
    AXIS_SPREAD along each.
    """
    pick = tuple(rng.integers(n, size=AXIS_PIXELS) for n in images.shape[:3])
    variance, axes = np.linalg.eigh(np.cov(images[pick].astype(np.float64).T / 127.5))
    return torch.from_numpy(AXIS_SPREAD * (axes / np.sqrt(variance)).T).float()


def along(axes: Tensor, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in other colour axes (3, 3)."""
    return torch.einsum("ij,bjhw->bihw", axes.to(images), images)


@torch.no_grad()
def fold_color_axes(vae: AutoencoderKL, axes: Tensor) -> None:
    """Make of an autoencoder of `along(axes, x)` one of x, exactly: axes go into its first and last convolution."""
    first, last = vae.encoder.conv_in, vae.decoder.conv_out
    to_axes = axes.to(first.weight)
    to_rgb = torch.linalg.inv(to_axes)
    first.weight.copy_(torch.einsum("ojhw,ji->oihw", first.weight, to_axes))
    last.weight.copy_(torch.einsum("ij,jchw->ichw", to_rgb, last.weight))
    last.bias.copy_(to_rgb @ last.bias)


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
    images, labels = [], []
    for chosen in zip(*(rng.integers(n, size=count) for n in frames.images.shape[:3]), strict=True):
        objects = np.flatnonzero(frames.labels[chosen])
        middle = np.divmod(objects[rng.integers(len(objects))] if len(objects) else size * size // 2, size)
        y, x = (int(np.clip(m - rng.integers(CROP), 0, size - CROP)) for m in middle)
        images.append(frames.images[chosen][y : y + CROP, x : x + CROP])
        labels.append(frames.labels[chosen][y : y + CROP, x : x + CROP])
    return to_images(np.stack(images)) * 2 - 1, object_weight(np.stack(labels))


def autoencoder_loss(
    vae: AutoencoderKL, frames: FrameGroups, batch_size: int, axes: Tensor, device: torch.device
) -> Loss:
    """The loss of one random batch of crops in the colour axes (3, 3)."""

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        crops, weight = (tensor.to(device) for tensor in draw_crops(draw.numpy, frames, batch_size))
        target = along(axes, crops)
        posterior = vae.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=draw.torch).to(device)
        output = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        figures = {"mse": F.mse_loss(output, target), "kl": kl}
        return reconstruction_loss(output, target, weight) + KL_WEIGHT * kl, figures

    return loss


def object_weight(labels: NDArray[np.uint8]) -> Tensor:
    """Pixel weights (B, 1, H, W) from labels (B, H, W): more for whatever is not table."""
    return 1 + (OBJECT_WEIGHT - 1) * torch.from_numpy(labels != 0)[:, None].float()


def decoder_loss(
    vae: AutoencoderKL, frames: FrameGroups, latents: Tensor, batch_size: int, axes: Tensor
) -> Loss:
    """The loss, in the colour axes (3, 3), of decoding the latents (G, V, K, C, h, w) of a batch of whole frames."""

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        pick = tuple(draw.numpy.integers(n, size=batch_size) for n in frames.images.shape[:3])
        target = to_images(frames.images[pick], vae.device) * 2 - 1
        output = vae.decode(latents[pick].to(vae.device).float()).sample
        weight = object_weight(frames.labels[pick]).to(vae.device)
        value = reconstruction_loss(along(axes, output), along(axes, target), weight)
        return value, {"mse": F.mse_loss(output, target)}

    return loss


def encode_frames(vae: AutoencoderKL, frames: FrameGroups, path: Path) -> Tensor:
    """Latents of all frames, (G, V, K, C, h, w) float16, unscaled; kept at `path` for a resumed training."""

    def encode(images: NDArray[np.uint8]) -> Tensor:
        mode: Tensor = vae.encode(to_images(images, vae.device) * 2 - 1).latent_dist.mode()
        return mode.half()

    return of_all_frames(frames, path, "encoding frames", encode)


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL, images: Tensor) -> None:
    """Choose `scaling_factor` so that scaled latents of `images` (B, 3, H, W) in [-1, 1] have unit variance."""
    latents = vae.encode(images).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
