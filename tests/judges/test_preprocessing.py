"""Sizes and pixels of our preprocessing against transformers' PIL processors, and settings as the hub has them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.preprocessing import Preprocessing, read_preprocessing

from .tiny import MEAN, STD, as_arrays, frames

SHAPES = [(96, 96), (128, 128), (40, 60), (60, 40), (30, 90), (111, 47)]
DPT = {"size": {"height": 56, "width": 56}, "ensure_multiple_of": 14}
PROCESSORS: list[Any] = [
    DPTImageProcessorPil(**DPT, keep_aspect_ratio=True),
    DPTImageProcessorPil(**DPT),
    GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 107}),
    GroundingDinoImageProcessorPil(size={"height": 48, "width": 64}),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", range(len(PROCESSORS)))
def test_sizes_and_pixels_are_those_of_transformers(
    number: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    processor = PROCESSORS[number]
    processor.save_pretrained(tmp_path)
    images = (
        64 + 0.5 * 255 * frames(2, *shape)
    ).round() / 255  # PIL cuts off overshoot after either pass, we once
    expected = processor(images=as_arrays(images), return_tensors="pt")["pixel_values"]
    pixels = read_preprocessing(tmp_path)(images)
    assert pixels.shape == expected.shape
    unit = 1 / 255 / min(processor.image_std)  # PIL rounds to 8 bits after each of two passes
    torch.testing.assert_close(pixels, expected, atol=2 * unit, rtol=0)


@pytest.mark.parametrize("shape", [(100, 1000), (480, 640), (333, 500), (801, 1333)])
def test_the_longer_side_is_bounded_as_in_transformers(shape: tuple[int, int]) -> None:
    """At Grounding DINO's own 800 and 1333 pixels, sizes only."""
    size = {"shortest_edge": 800, "longest_edge": 1333}
    ours = Preprocessing((0, 0, 0), (1, 1, 1), size, bilinear=True).target_size(*shape)
    processor = GroundingDinoImageProcessorPil(size=size, do_normalize=False)
    image = np.zeros((*shape, 3), np.uint8)
    assert ours == tuple(processor(images=[image], return_tensors="pt")["pixel_values"].shape[-2:])


def write(folder: Path, name: str = "preprocessor_config.json", **settings: object) -> Path:
    (folder / name).write_text(json.dumps(settings))
    return folder


def test_sizes_in_the_older_spelling(tmp_path: Path) -> None:
    """As openai/clip-vit-large-patch14 has them."""
    spelt = {"image_mean": MEAN, "image_std": STD, "resample": 3, "size": 224}
    folder = write(tmp_path, **spelt, do_center_crop=True, crop_size=224)
    preprocess = read_preprocessing(folder)
    assert preprocess.target_size(96, 128) == (224, 224)
    assert not preprocess.bilinear


def test_settings_inside_those_of_a_processor(tmp_path: Path) -> None:
    inner = {"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 50}}
    folder = write(tmp_path, "processor_config.json", image_processor=inner)
    assert read_preprocessing(folder).target_size(96, 192) == (50, 100)


def test_normalised_by_hand(tmp_path: Path) -> None:
    folder = write(
        tmp_path, image_mean=[0.5, 0.25, 0], image_std=[0.5, 0.25, 1], size={"height": 2, "width": 2}
    )
    pixels = read_preprocessing(folder)(torch.ones(1, 3, 2, 2))
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 3.0, 1.0]))


def test_settings_that_lack_something_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no preprocessor_config\.json or processor_config\.json"):
        read_preprocessing(tmp_path)
    with pytest.raises(BadInput, match="do not give 'image_std'"):
        read_preprocessing(write(tmp_path, image_mean=MEAN, size=224))
    with pytest.raises(BadInput, match="do not give 'size'"):
        read_preprocessing(write(tmp_path, image_mean=MEAN, image_std=STD, size={"width": 3}))
