"""Where the region of an edit is, in its sources and in its photos.

Legend: an image is (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sim2real_aug.benchmark.cache import key_of
from sim2real_aug.benchmark.material import Material, Sample
from sim2real_aug.benchmark.measures import identity_of
from sim2real_aug.benchmark.samples import Frame, content_hash
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.base import SegmentationJudge
from sim2real_aug.pixels import to_images


class Masks:
    """Found by segmentation, each once; in a photo that has an outline of its owner's, by that.

    judge: moves to the material's device when it is first asked; None where it failed to load.
    """

    def __init__(self, judge: SegmentationJudge | None, material: Material) -> None:
        self.judge, self.material = judge, material
        self.identity = None if judge is None else identity_of(judge)

    def of_image(self, image: Frame, phrase: str | None) -> NDArray[np.bool_]:
        """(H, W) bool; all True where there is no phrase. Raises BadInput where a judge is needed and there is none."""
        if phrase is None:
            return np.ones(image.shape[:2], bool)
        key, images = key_of(self.identity, phrase, content_hash(image)), self.material.images
        if key not in images:
            if self.judge is None:
                raise BadInput(f"'{phrase}' cannot be found: the segmentation failed")
            if isinstance(self.judge, torch.nn.Module):
                self.judge.to(self.material.device)
            found = self.judge.segment(to_images(image[None], self.material.device), phrase)
            images.write_mask(key, found[0].cpu().numpy())
        return images.read_mask(key)

    def of_photo(self, sample: Sample) -> NDArray[np.bool_]:
        """m_sty of the photo that a sample takes after."""
        given = sample.task.photos.mask_of_each[sample.photo]
        edit = sample.task.edit
        phrase = edit.photo_region or edit.region
        return given if given.any() else self.of_image(sample.task.photos.images[sample.photo], phrase)
