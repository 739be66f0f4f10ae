"""What a checkpoint wants its images to be, read from its own preprocessor settings, by torch alone.

transformers' image processors go through PIL or torchvision, one image at a time; these are whole batches on their
device, and differ from PIL by its rounding to 8 bits after resizing.

Legend: images (B, 3, H, W) float in [0, 1]; masks (B, H, W) bool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.checkpoints import read_json
from sim2real_aug.pixels import resized

BILINEAR = 2  # PIL's number; its only other one in published settings is 3, bicubic


@dataclass(frozen=True)
class Preprocessing:
    """mean, std: (3,) of the normalisation. size: as `target_size` reads it. bilinear: else bicubic.

    multiple: sides are rounded to multiples of it. keep_aspect: of a size that gives both sides, the nearer counts.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: dict[str, int]
    bilinear: bool
    multiple: int = 1
    keep_aspect: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w), resized and normalised."""
        height, width = images.shape[-2:]
        mode = "bilinear" if self.bilinear else "bicubic"
        pixels = resized(images.float(), self.target_size(height, width), mode)
        mean, std = (
            torch.tensor(part, device=pixels.device)[:, None, None] for part in (self.mean, self.std)
        )
        return (pixels - mean) / std

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that the network sees of an image of `height` x `width`."""
        size = self.size
        if "height" not in size:
            return fit_edges(height, width, size["shortest_edge"], size.get("longest_edge"))
        down, across = size["height"] / height, size["width"] / width
        if self.keep_aspect:
            down = across = min(down, across, key=lambda scale: abs(1 - scale))
        return self._rounded(down * height), self._rounded(across * width)

    def _rounded(self, side: float) -> int:
        return round(side / self.multiple) * self.multiple


def read_preprocessing(folder: Path) -> Preprocessing:
    """The settings of the checkpoint in `folder`. Raises BadInput where it has none.

    A checkpoint that crops the centre gets the whole picture at the size of its crop: a region at the border would
    be cut off.
    """
    values = read_json(folder, "preprocessor_config.json", "processor_config.json")
    values = values.get("image_processor", values)  # where a processor was saved as one file
    cropped = values.get("do_center_crop") and values.get("crop_size")
    try:
        return Preprocessing(
            mean=tuple(values["image_mean"]),
            std=tuple(values["image_std"]),
            size=_sides(values["crop_size"], square=True) if cropped else _sides(values["size"]),
            bilinear=values.get("resample", BILINEAR) == BILINEAR,
            multiple=values.get("ensure_multiple_of") or 1,
            keep_aspect=bool(values.get("keep_aspect_ratio")),
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"the preprocessor settings of {folder} do not give {error}") from error


def _sides(size: Any, square: bool = False) -> dict[str, int]:
    """A size as older and newer settings give it: pixels, or pixels by name."""
    if isinstance(size, int):
        return {"height": size, "width": size} if square else {"shortest_edge": size}
    sides = {key: value for key, value in size.items() if value is not None}
    if not {"height", "width"} <= set(sides) and "shortest_edge" not in sides:
        raise KeyError("size")
    return sides


def fit_edges(height: int, width: int, shortest: int, longest: int | None) -> tuple[int, int]:
    """Sides whose shorter one is `shortest`, or less where the longer one would exceed `longest`.

    As DETR and its descendants round (transformers' `get_size_with_aspect_ratio`): down, on the longer side.
    """
    low, high = min(height, width), max(height, width)
    exact = float(shortest)
    if longest is not None and high / low * exact > longest:
        exact = longest * low / high
    short = round(exact)
    if short == low:
        return height, width
    long = math.floor(exact * high / low)
    return (short, long) if height <= width else (long, short)


def masked(images: Tensor, masks: Tensor) -> Tensor:
    """The paper's m * I: what is outside the mask is black."""
    return images * masks[:, None]


def unit(embeddings: Tensor, masks: Tensor) -> Tensor:
    """Embeddings (B, D) of unit length, zero where the mask is empty."""
    return F.normalize(embeddings, dim=1) * masks.flatten(1).any(1)[:, None]
