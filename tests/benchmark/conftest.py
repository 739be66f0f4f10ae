"""Images, photos, and a tiny checkpoint of every kind of editor."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..judges.tiny_words import save_clip_with_words
from ..tiny_editor import build_editor
from ..tiny_pix2pix import instruct_pix2pix


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures of 32 x 48, one of them in a folder below."""
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "below").mkdir(parents=True)
    for name in ("a.png", "b.png", "below/c.png"):
        Image.fromarray(rng.integers(0, 256, (32, 48, 3), np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, each with an outline: the compact judge finds nothing in noise."""
    (tmp_path / "photos").mkdir()
    for name, level in (("dark", 40), ("light", 200)):
        Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(tmp_path / "photos" / f"{name}.jpg")
        Image.fromarray(np.full((32, 32), 255, np.uint8)).save(tmp_path / "photos" / f"{name}.mask.png")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder a kind of editor, in the layout it has on the hub."""
    folder = tmp_path_factory.mktemp("checkpoints")
    pipeline = instruct_pix2pix()
    pipeline.save_pretrained(folder / "instruct-pix2pix")
    shutil.copytree(folder / "instruct-pix2pix", folder / "magicbrush")
    index = folder / "magicbrush" / "model_index.json"
    index.write_text(
        index.read_text().replace("StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline")
    )
    plain = pipeline.unet.from_config({**pipeline.unet.config, "in_channels": 4})
    shutil.copytree(folder / "instruct-pix2pix", folder / "stable-diffusion")
    plain.save_pretrained(folder / "stable-diffusion" / "unet")
    build_editor().save_pretrained(folder / "ours")
    save_clip_with_words(folder / "clip")
    return folder
