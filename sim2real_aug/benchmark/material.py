"""What all rows and measures of a benchmark share: the images, what is asked of each, and where results are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from sim2real_aug.benchmark.cache import Images, key_of
from sim2real_aug.benchmark.samples import (
    Edit,
    Frame,
    Sources,
    Task,
    content_hash,
    open_sources,
    read_tasks,
)
from sim2real_aug.config import settings
from sim2real_aug.devices import resolve_device, resolve_precision
from sim2real_aug.progress import progress


@dataclass(frozen=True)
class Sample:
    """One edit of one source. size: (H, W). photo: number of the photo that it takes after. made_from: key of all
    that decides the edit beside the editor; judged_by: of all that decides its figures beside edit and judge."""

    task: Task
    source: int
    size: tuple[int, int]
    photo: int
    made_from: str
    judged_by: str

    @property
    def batches_with(self) -> tuple[str, int, int, int]:
        """What samples of a batch have in common."""
        return (self.task.name, *self.size, self.photo)


@dataclass(frozen=True)
class Material:
    """All that rows and measures share. precision: of the rows' networks, fp32 or bf16; the judges' are float32."""

    sources: Sources
    samples: Sequence[Sample]
    images: Images
    scores: Path
    seed: int
    device: str
    batch_size: int
    precision: str


def read_material(config: DictConfig, place: str | Path, photos: Path | None, cache: Path) -> Material:
    """Images, photos and edits of a configuration, all of them read once. Photos get the shape of the first image."""
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    sources = open_sources(place, config.images, config.image_size, config.bayer)
    edits = {str(name): settings(Edit, node, f"edits.{name}") for name, node in config.edits.items()}
    height, width = sources.load(0).shape[:2]
    tasks = read_tasks(edits, photos, config.image_size or min(height, width), width / height)
    samples = []
    with progress("read the images", len(sources), unit="images") as bar:
        for number in range(len(sources)):
            image = sources.load(number)
            samples += [_sample(task, number, image, config.seed) for task in tasks]
            bar.advance()
    images = Images(cache / "images")
    return Material(sources, samples, images, cache / "scores", config.seed, str(device), config.batch_size, precision)


def _sample(task: Task, number: int, image: Frame, seed: int) -> Sample:
    edit, photos = task.edit, task.photos
    photo = number % len(photos)
    words = (task.name, edit.instruction, edit.source_caption, edit.target_caption)
    made_from = key_of(content_hash(image), words, photos.images.shape, photos.hashes, photo, seed)
    outlined = content_hash(photos.mask_of_each[photo].astype(np.uint8))
    return Sample(
        task, number, image.shape[:2], photo, made_from, key_of(edit.region, edit.photo_region, outlined)
    )
