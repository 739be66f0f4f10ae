"""Edits without learning: what an editor has to beat, and arms of their own in policy training.

Colour transfers take the colours of all photos together and know nothing of what is where; geometry is untouched
exactly. `ComposedPrompts` are what an editor that composes starts from.

Legend: B frames (B, H, W, 3), P photos (P, h, w, 3), uint8 RGB; L long, medium and short wave response of the eye.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.editor.composition import take_apart
from sim2real_aug.editor.editor import EditSettings
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.judges.compact import SIDE
from sim2real_aug.pixels import to_frames, to_images

Frames = NDArray[np.uint8]
Floats = NDArray[np.float64]

LEVELS = 256
DARKEST = 1.0  # of 255: black has no logarithm
# Reinhard et al. 2001, "Color Transfer between Images": equation 4 (RGB to LMS) and 6 (log LMS to l-alpha-beta).
# Inverses are computed: the paper's printed ones are rounded, and would move a frame that is its own target.
LMS_OF_RGB = np.array([(0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444)])
LAB_OF_LMS = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array([(1.0, 1, 1), (1, 1, -2), (1, -1, 0)])


def to_lab(images: Frames) -> Floats:
    """RGB (..., 3) uint8 to Reinhard's decorrelated l-alpha-beta, (..., 3)."""
    rgb = np.maximum(images.astype(np.float64), DARKEST) / 255
    return np.asarray(np.log10(rgb @ LMS_OF_RGB.T) @ LAB_OF_LMS.T)


def from_lab(lab: Floats) -> Frames:
    """The RGB (..., 3) uint8 of l-alpha-beta (..., 3), rounded, clipped where it is out of range."""
    rgb = 10 ** (lab @ np.linalg.inv(LAB_OF_LMS).T) @ np.linalg.inv(LMS_OF_RGB).T
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Transfer:
    """A colour transfer. read: what it takes from photos (P, h, w, 3), their look; apply: frames with that look."""

    read: Callable[[Frames], Any]
    apply: Callable[[Frames, Any], Frames]

    def __call__(self, frames: Frames, photos: Frames) -> Frames:
        """The frames (B, H, W, 3), each on its own. Raises BadInput for other shapes or types."""
        for name, images in (("frames", frames), ("photos", photos)):
            if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or images.size == 0:
                raise BadInput(
                    f"{name} must be (count, height, width, 3) uint8; got {images.shape} {images.dtype}"
                )
        return self.apply(frames, self.read(photos))


def lab_moments(photos: Frames) -> tuple[Floats, Floats]:
    """Mean and standard deviation (3,) of each channel of l-alpha-beta over all photos."""
    lab = to_lab(photos).reshape(-1, 3)
    return lab.mean(0), lab.std(0)


def with_lab_moments(frames: Frames, moments: tuple[Floats, Floats]) -> Frames:
    """Reinhard et al. 2001, equations 10 and 11, each frame by its own moments.

    A channel of l-alpha-beta that is the same all over a frame has no spread to scale: it takes the photos' mean.
    """
    lab, (target_mean, target_spread) = to_lab(frames), moments
    mean, spread = lab.mean((1, 2), keepdims=True), lab.std((1, 2), keepdims=True)
    gain = np.divide(target_spread, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    return from_lab((lab - mean) * gain + target_mean)


def colour_shares(photos: Frames) -> list[tuple[NDArray[np.uint8], Floats]]:
    """Of each channel the levels that occur in the photos, and the share of pixels up to each."""
    counted = (np.unique(photos[..., channel], return_counts=True) for channel in range(3))
    return [(levels, np.cumsum(counts) / counts.sum()) for levels, counts in counted]


def with_colour_shares(frames: Frames, shares: list[tuple[NDArray[np.uint8], Floats]]) -> Frames:
    """Histogram matching: each colour channel with the photos' distribution, order kept, each frame by its own.

    A level becomes the photos' level of the same cumulative share (Gonzalez and Woods), interpolated between the
    levels that occur there.
    """
    matched = np.empty_like(frames)
    for channel, (levels, target) in enumerate(shares):
        for frame, out in zip(frames[..., channel], matched[..., channel], strict=True):
            share = np.cumsum(np.bincount(frame.ravel(), minlength=LEVELS)) / frame.size
            out[:] = np.rint(np.interp(share, target, levels)).astype(np.uint8)[frame]
    return matched


CLASSICAL = {
    "reinhard": Transfer(lab_moments, with_lab_moments),
    "histogram": Transfer(colour_shares, with_colour_shares),
}


def no_noise(batch: int, generator: torch.Generator) -> Tensor:
    """Zeros (B, 1, 1, 1), the `initial_latents` of what edits without noise."""
    return torch.zeros(batch, 1, 1, 1)


class TransferEditor:
    """A colour transfer in the place of an `Editor`: `augment` takes it, and each edit takes after all photos.

    name: a key of CLASSICAL, BadInput for another. device: of images that go in and come out; the transfer itself is
    the CPU's. Frames of any size are edited as they are; image_size is that of photos, whose colours count alone, and
    of what the judge sees.
    """

    image_size = SIDE
    edits_any_size = True
    initial_latents = staticmethod(no_noise)

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        if name not in CLASSICAL:
            raise unknown_name("colour transfer", name, CLASSICAL)
        self.device = torch.device(device)
        self.name_or_path, self.components = name, {name: CLASSICAL[name]}
        # no instruction, no guidance
        self.edit_settings = EditSettings("", 1, 1.0, 1.0, 1.0, photos_per_edit=0)
        self._kept: tuple[Tensor, Any] | None = None

    def edit(self, source: Tensor, photos: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], each with the colours of its photos (B, P, 3, h, w)."""
        apply = CLASSICAL[self.name_or_path].apply
        frames = zip(to_frames(source), photos, strict=True)
        edits = np.concatenate([apply(frame[None], self._look(own)) for frame, own in frames])
        return to_images(edits, source.device)

    def _look(self, photos: Tensor) -> Any:
        """What the transfer takes from photos (P, 3, h, w), which frame after frame has in common."""
        if self._kept is None or not torch.equal(self._kept[0], photos):
            self._kept = photos.clone(), CLASSICAL[self.name_or_path].read(to_frames(photos))
        return self._kept[1]


class ComposedPrompts:
    """The visual prompts themselves in the place of an `Editor` that composes them (`editor/composition.py`).

    Frames larger than `image_size` have prompts of their own size.
    """

    composes = True
    name_or_path = "composed"
    image_size = SIDE
    initial_latents = staticmethod(no_noise)

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.components = {"take_apart": take_apart}
        self.edit_settings = EditSettings("", 1, 1.0, 1.0, 1.0)

    def edit(self, source: Tensor, prompts: Tensor, noise: Tensor | None = None) -> Tensor:
        """The mean (B, 3, H, W) of each edit's prompts (B, n, 3, H, W)."""
        return prompts.mean(1)


UNTRAINED = (*CLASSICAL, ComposedPrompts.name_or_path)


def untrained_editor(name: str, device: torch.device | str = "cpu") -> TransferEditor | ComposedPrompts:
    """One of UNTRAINED; it has no photos of its own."""
    return ComposedPrompts(device) if name == ComposedPrompts.name_or_path else TransferEditor(name, device)
