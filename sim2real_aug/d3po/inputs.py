"""What a D3PO run starts from: frames of a store (or simulated ones), photos, a split.

Legend: N frames, P photos, S pixels a side; images (S, S, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from sim2real_aug.config import make
from sim2real_aug.d3po.rollouts import TrainingImages, split_frames
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data.geometry import find_geometry
from sim2real_aug.data.photos import PhotoSet, load_photos, to_square
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.editor.composition import Composer, composer_for
from sim2real_aug.editor.editor import to_images
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.base import Judge
from sim2real_aug.judges.photo_check import require_object
from sim2real_aug.progress import say


def open_photos(folder: Path | None, editor: Any) -> PhotoSet:
    """The photos of `folder` at the editor's size; without a folder those that came with the editor.

    Raises BadInput when neither is there.
    """
    if folder is not None:
        return load_photos(folder, editor.image_size)
    if editor.photo_set is None:
        raise BadInput("this editor brings no photos of its own; give some with --photos DIR")
    own: PhotoSet = editor.photo_set
    say(f"no photos given: the {len(own)} that came with the editor are used; --photos DIR takes yours")
    return own


def open_dataset(path: str | Path | None, simulate: DictConfig, run: Path) -> ReplayBuffer:
    """The store at `path`; without one, a small simulated store that is made inside the run folder.

    simulate: a hydra node whose `_target_` writes the store; the core itself never imports the simulator.
    """
    if path is None:
        path = run / "simulated.zarr"
        say(f"no dataset given: simulated episodes are used, {path}")
        make(simulate, out=path)  # continues what it finds
    return ReplayBuffer.open(path)


def check_photos(photos: PhotoSet, judge: Judge, regions: Sequence[str], device: torch.device) -> None:
    """See `require_object`."""
    masks = torch.from_numpy(photos.mask_of_each).to(device)
    require_object(judge, to_images(photos.images, device), masks, photos.names, regions)


def photo_composer(editor: Any, photos: PhotoSet, judge: Judge) -> Composer | None:
    """See `composer_for`."""
    masks = torch.from_numpy(photos.mask_of_each).to(editor.device)
    return composer_for(editor, to_images(photos.images, editor.device), masks, judge)


def training_images(
    buffer: ReplayBuffer,
    photos: PhotoSet,
    size: int,
    settings: D3POSettings,
    redraw: str | None = None,
    composer: Composer | None = None,
) -> TrainingImages:
    """Frames of `buffer` and `photos` at size x size, split into training and held-out frames.

    redraw: see `find_geometry`.
    """
    train, held_out = split_frames(buffer.episode_ends, settings.held_out_frames, settings.seed)
    exact = find_geometry(buffer, redraw)
    return TrainingImages(
        read=_reader(buffer, size),
        train=train,
        held_out=held_out,
        photo_set=photos,
        geometry=None if exact is None else lambda frames: exact(frames).resized(size, crop=True),
        composer=composer,
    )


def _reader(buffer: ReplayBuffer, size: int) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
    fits = buffer.array("img").shape[1:3] == (size, size)

    def read(frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        raw = [buffer.images(int(frame), int(frame) + 1)[0] for frame in frames]
        return np.stack(raw if fits else [to_square(image, size) for image in raw])

    return read
