"""What a D3PO run starts from: frames of a store (or simulated ones), photos, a split.

Legend: N frames, P photos, S pixels a side; images (S, S, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import make
from sim2real_aug.d3po.processes import is_main, require_work
from sim2real_aug.d3po.rollouts import TrainingImages, split_frames
from sim2real_aug.data.geometry import find_geometry
from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.editor.composition import Composer, composer_for, load_prompts, say_what_is_hidden
from sim2real_aug.editor.editor import photo_tensors
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.base import Judge
from sim2real_aug.judges.photo_check import frames_to_look_at, require_in_frames, require_object
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.progress import say


def open_photos(folder: Path | None, editor: Any, store: ReplayBuffer | None = None) -> PhotoSet:
    """The photos of `folder` as large as prompts for the frames of `store` are, the editor's size without one; without
    a folder those that came with the editor.

    Raises BadInput when neither is there.
    """
    if folder is not None:
        size = (editor.image_size,) * 2 if store is None else store.array("img").shape[1:3]
        return load_prompts(folder, editor, *size)
    if editor.photo_set is None:
        raise BadInput("this editor brings no photos of its own; give some with --photos DIR")
    own: PhotoSet = editor.photo_set
    say(f"no photos given: the {len(own)} that came with the editor are used; --photos DIR takes yours")
    return own


def simulated_dataset(simulate: DictConfig, run: Path) -> ReplayBuffer:
    """A small simulated store that is made inside the run folder.

    simulate: a hydra node whose `_target_` writes the store; the core itself never imports the simulator.
    """
    path = run / "simulated.zarr"
    say(f"no dataset given: simulated episodes are used, {path}")
    make(simulate, out=path)  # continues what it finds
    return ReplayBuffer.open(path)


def checked_composer(editor: Any, photos: PhotoSet, judge: Judge, regions: Sequence[str]) -> Composer | None:
    """`composer_for` of photos that passed `require_object`; says how much of the bench none of them shows."""
    size = editor.image_size
    images, masks = photo_tensors(photos.resized(size), size, editor.device)
    require_object(judge, images, masks, photos.names, regions)
    composer = composer_for(editor, images, masks, judge)
    if is_main():
        say_what_is_hidden(composer)
    return composer


def require_object_in(
    images: TrainingImages, judge: Judge, regions: Sequence[str], device: torch.device, place: str | Path
) -> None:
    """`require_in_frames` of the training frames, where nothing but the judge says what they show."""
    if images.geometry is None:
        frames = to_images(images.read(frames_to_look_at(images.train)), device)
        require_in_frames(judge, frames, regions, place)


def training_images(
    buffer: ReplayBuffer,
    photos: PhotoSet,
    size: int,
    held_out_frames: int,
    seed: int,
    redraw: str | None = None,
    composer: Composer | None = None,
) -> TrainingImages:
    """Frames of `buffer` and `photos` at size x size, split into training and held-out frames; the specialist keeps
    photos as they are.

    redraw: see `find_geometry`. Raises BadInput for a store that is too short, or without data/img.
    """
    train, held_out = split_frames(buffer.episode_ends, held_out_frames, seed)
    require_work(held_out_frames=len(held_out))
    exact = find_geometry(buffer, redraw)
    return TrainingImages(
        read=_reader(buffer, size),
        train=train,
        held_out=held_out,
        photo_set=photos.resized(size),
        geometry=None if exact is None else lambda frames: exact(frames).resized(size),
        composer=composer,
        kept_photos=photos,
    )


def _reader(buffer: ReplayBuffer, size: int) -> Callable[[NDArray[np.int64]], NDArray[np.uint8]]:
    """Frames squeezed to size x size, as `augment` squeezes them."""
    fits = buffer.array("img").shape[1:3] == (size, size)

    def read(frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        raw = buffer.images_at(frames)
        return raw if fits else to_frames(resized(to_images(raw), size))

    return read


def with_inputs(
    config: DictConfig, dataset: str | Path | None, photos: Path | None, hashes: Mapping[str, Any]
) -> DictConfig:
    """The configuration to save with the run: other inputs make another run, wherever they lie."""
    saved = DictConfig(OmegaConf.to_container(config, resolve=True))
    saved.dataset = None if dataset is None else str(dataset)
    saved.photos = None if photos is None else str(photos)
    saved.update(hashes)
    return saved
