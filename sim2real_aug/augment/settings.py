"""What a user sets for `augment`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import settings
from sim2real_aug.devices import resolve_device
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import open_judge
from sim2real_aug.judges.base import Judge

APART = ("judge", "device", "engine", "workers")  # what makes frames, not which


@dataclass(frozen=True)
class AugmentSettings:
    """Settings of one augmentation.

    episodes: "A:B", the episodes to edit, Python's slice rule; None edits all. The others keep their frames.
    batch_size: most frames the editor takes at once. Another one may round single values differently (1/255).
    seed: of noise and choice of photo, both drawn once an episode so that an episode looks steady.
    image_name: the array under data/ that is edited.
    region: phrase for the part whose outline an edit must keep.
    min_region_iou: least overlap (0..1) of that outline in source and edit; None does not ask.
    max_structural, max_semantic: greatest scores (distances) that pass; None does not ask.
    keep_refused: store edits that fail the gate, too; else the original frame stays there.
    lambda_outside: weight of changes outside the regions in the semantic score (the paper's 0.05).
    frame_geometry: dotted name of what draws masks and depth of a store's states again (`data.geometry`), for
    stores that do not hold them; None leaves them to the judge.
    photos_per_edit: photos that an edit takes after, 0 for all; None: as the editor was made for.
    precision: of the editor's passes (`devices.PRECISIONS`); the judge's are float32.
    """

    episodes: str | None = None
    batch_size: int = 24
    seed: int = 0
    image_name: str = "img"
    region: str = "block"
    min_region_iou: float | None = 0.5
    max_structural: float | None = None
    max_semantic: float | None = None
    keep_refused: bool = False
    lambda_outside: float = 0.05
    frame_geometry: str | None = None
    photos_per_edit: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise BadInput(f"batch_size must be at least 1; got {self.batch_size}")
        if self.min_region_iou is not None and not 0 <= self.min_region_iou <= 1:
            raise BadInput(f"min_region_iou must be in 0..1, or null; got {self.min_region_iou}")
        if self.photos_per_edit is not None and self.photos_per_edit < 0:
            raise BadInput(f"photos_per_edit must be at least 1, 0 for all, or null; got {self.photos_per_edit}")
        for name in ("max_structural", "max_semantic"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise BadInput(f"{name} must not be negative, or null; got {limit}")


def read_config(config: DictConfig) -> tuple[AugmentSettings, Judge, torch.device]:
    """The settings of `configs/augment.yaml`, and the judge that it names on the device that it names.

    Device and engine are none of the settings: an unfinished store may be continued on another, whose precision=auto
    may be another precision.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key not in APART])
    chosen, device = settings(AugmentSettings, own), resolve_device(config.device)
    return chosen, open_judge(config.judge, device), device


def episode_range(episodes: str | None, n_episodes: int) -> range:
    """The episodes that "A:B" means of `n_episodes`; either side may be left out or negative.

    Raises BadInput for another form, and when no episode is left.
    """
    if episodes is None:
        return range(n_episodes)
    parts = re.fullmatch(r"(-?\d*):(-?\d*)", episodes.strip())
    if parts is None or "-" in parts.groups():
        raise BadInput(f"episodes must be A:B, such as 0:5; got '{episodes}'")
    start, stop = (int(part) if part else None for part in parts.groups())
    chosen = range(n_episodes)[start:stop]
    if not chosen:
        raise BadInput(f"episodes {episodes} selects none of episodes 0 to {n_episodes - 1}")
    return chosen
