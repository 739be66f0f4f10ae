"""Colour jitter, the augmentation a user would try first: LeRobot's default image transforms, batched in torch.

huggingface/lerobot `ImageTransformsConfig`: of brightness, contrast, saturation, hue and sharpness three at a time,
drawn for each window, in this order. LeRobot turns the hue in HSV; here the colours are turned about the grey axis.

Legend: B windows, O frames of each, H W pixels; frames (B, O, H, W, 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from sim2real_aug.policies.observation import Observation
from sim2real_aug.seeding import torch_generator

MOST_AT_ONCE = 3
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as in torchvision


def jitter(frames: Tensor, generator: Generator) -> Tensor:
    """Frames uint8 with the colours of each window changed in its own way; uint8 of the same shape."""
    images = frames.float() / 255
    order = torch.rand(len(frames), len(TRANSFORMS), generator=generator).argsort(dim=1)
    for number, (transform, low, high) in enumerate(TRANSFORMS):
        factors = low + (high - low) * torch.rand(len(frames), generator=generator)
        chosen = (order[:, :MOST_AT_ONCE] == number).any(1).to(frames.device)
        if chosen.any():
            factor = factors.to(frames.device)[chosen, None, None, None, None]
            images[chosen] = transform(images[chosen], factor).clamp(0, 1)
    return (images * 255).round().to(torch.uint8)


def jittered(seen: Observation, seed: int, step: int) -> Observation:
    """What training step `step` sees: the draws follow from (seed, step) alone."""
    return Observation(jitter(seen.frames, torch_generator(seed, "jitter", step)), seen.states)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return factor * images


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards the mean grey of each frame."""
    return _blend(images, _grey(images).mean(dim=(2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards each pixel's grey."""
    return _blend(images, _grey(images), factor)


def hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turned about the grey axis by `factor` of a full circle (Rodrigues' formula)."""
    angle = 2 * math.pi * factor
    axis = images.new_full((3,), 3**-0.5)
    along = (images @ axis)[..., None] * axis
    across = torch.linalg.cross(axis.expand_as(images), images)
    return along + angle.cos() * (images - along) + angle.sin() * across


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards the frame smoothed by a 3x3 kernel; the frame's border stays."""
    kernel = images.new_ones(3, 3)
    kernel[1, 1] = 5
    planes = images.flatten(0, 1).permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    smooth = planes.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(planes, kernel[None, None] / kernel.sum())
    smooth = smooth[:, 0].unflatten(0, (-1, 3)).permute(0, 2, 3, 1).reshape(images.shape)
    return _blend(images, smooth, factor)


def _grey(images: Tensor) -> Tensor:
    return (images @ images.new_tensor(GREY))[..., None]


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return factor * images + (1 - factor) * other


# Each with the range that its factor is drawn from.
TRANSFORMS: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float, float], ...] = (
    (brightness, 0.8, 1.2),
    (contrast, 0.8, 1.2),
    (saturation, 0.5, 1.5),
    (hue, -0.05, 0.05),
    (sharpness, 0.5, 1.5),
)
