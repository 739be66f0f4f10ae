"""One augmentation, ready to run: the store, the editor and what edits take after, checked before anything is written.

Legend: N frames, H W pixels of the store, S of the editor, P photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.augment.provenance import describe
from sim2real_aug.augment.settings import AugmentSettings, episode_range
from sim2real_aug.d3po.scores import JudgedScores
from sim2real_aug.data.geometry import GeometryReader, find_geometry
from sim2real_aug.data.photos import PhotoSet, as_photo_set
from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.editor.composition import (
    Composer,
    composer_for,
    composition_of,
    load_prompts,
    prompt_size,
    say_what_is_hidden,
)
from sim2real_aug.editor.editor import photo_tensors
from sim2real_aug.editor.prompts import draw_photos
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.photo_check import frames_to_look_at, require_in_frames, require_object
from sim2real_aug.pixels import resized, to_images
from sim2real_aug.progress import say
from sim2real_aug.seeding import numpy_generator

Photos = PhotoSet | NDArray[np.uint8] | str | Path


@dataclass(frozen=True)
class Work:
    """edited: the frames (of all N) that the editor gets. prompt_size: (height, width) of composed prompts."""

    buffer: ReplayBuffer
    editor: Any
    scorer: JudgedScores | None
    photos: Tensor  # (P, 3, S, S) float32 in [0, 1], on the editor's device, as the judge is
    photo_masks: Tensor  # (P, S, S) bool, all False where none was given; there too
    photo_names: tuple[str, ...]
    settings: AugmentSettings
    edited: range
    photos_per_edit: int
    geometry: GeometryReader | None
    composer: Composer | None
    prompt_size: tuple[int, int]


def prepare(
    dataset: str | Path,
    editor: Any,
    settings: AugmentSettings,
    photos: Photos | None,
    judge: Any,
) -> tuple[Work, dict[str, Any]]:
    """The work, and the record of how it is done. Raises BadInput as `augment` does."""
    buffer = ReplayBuffer.open(dataset)
    if settings.image_name not in buffer.image_names:
        raise BadInput(
            f"{dataset}: data/{settings.image_name} does not hold (N, H, W, 3) frames; arrays that do: "
            f"{', '.join(buffer.image_names) or 'none'}"
        )
    buffer.check_range(settings.image_name)
    if buffer.attrs.get(ATTRIBUTE, {}).get("image_name") == settings.image_name:
        raise BadInput(f"{dataset} was edited already; edit its source, {buffer.attrs[ATTRIBUTE]['source']}")
    chosen = episode_range(settings.episodes, buffer.n_episodes)
    edited = range(buffer.episode(chosen[0]).start, buffer.episode(chosen[-1]).stop)
    height, width = buffer.array(settings.image_name).shape[1:3]
    size = prompt_size(editor, height, width)
    prompts = _photo_set(photos, editor, height, width)
    images, masks = photo_tensors(prompts, editor.image_size, editor.device)
    per_edit = settings.photos_per_edit
    per_edit = editor.edit_settings.photos_per_edit if per_edit is None else per_edit
    if judge is not None:
        require_object(judge, images, masks, prompts.names, (settings.region,))
    composer, geometry = composer_for(editor, *photo_tensors(prompts, size, editor.device), judge), None
    say_what_is_hidden(composer)
    _say_what_is_enlarged(editor, (height, width), prompts)
    if settings.image_name == "img" and (judge is not None or composer is not None):
        geometry = find_geometry(buffer, settings.frame_geometry)
    if judge is not None and geometry is None:
        looked_at = buffer.images_at(frames_to_look_at(np.arange(edited.start, edited.stop)), settings.image_name)
        frames = resized(to_images(looked_at, editor.device), editor.image_size)
        require_in_frames(judge, frames, (settings.region,), dataset)
    record = describe(buffer, editor, prompts, judge, settings)
    scorer = None if judge is None else JudgedScores(judge, (settings.region,), settings.lambda_outside)
    names = prompts.names
    work = Work(buffer, editor, scorer, images, masks, names, settings, edited, per_edit, geometry, composer, size)
    return work, record


def _photo_set(photos: Photos | None, editor: Any, height: int, width: int) -> PhotoSet:
    """`photos` for frames of height x width, or the editor's own as they are."""
    if photos is None:
        photos = getattr(editor, "photo_set", getattr(editor, "photos", None))  # with masks, of an Editor
    elif isinstance(photos, str | Path):
        photos = load_prompts(photos, editor, height, width)
    if photos is None or len(photos) == 0:
        raise BadInput("this editor brings no photos of its own; give some with --photos DIR")
    return as_photo_set(photos)


def _say_what_is_enlarged(editor: Any, shape: tuple[int, int], prompts: PhotoSet) -> None:
    """Tell the user where edits are less sharp than the frames (height, width) in whose place they come."""
    height, width = shape
    composed = composition_of(editor) is not None
    size = max(prompts.images.shape[1:3]) if composed else editor.image_size
    if max(shape) <= size or edits_any_size(editor):
        return
    if composed:
        how, remedy = f"take after photos of {size}x{size}", "; give the photos themselves with --photos"
    else:
        how, remedy = f"are edited at {size}x{size} and enlarged again", ""
    say(
        f"frames of {width}x{height} {how}: edits are no sharper than that, original frames in the same store "
        f"are{remedy}"
    )


def edits_any_size(editor: Any) -> bool:
    """Whether an editor is given frames of their own size, not of its own."""
    return getattr(editor, "edits_any_size", False)


def photos_of_episode(seed: int, episode: int, n_photos: int, photos_per_edit: int = 1) -> NDArray[np.int64]:
    """Numbers of the photos, (n,), that are the visual prompt of all frames of `episode`."""
    return draw_photos(numpy_generator(seed, "photo", episode), n_photos, 1, photos_per_edit)[0]
