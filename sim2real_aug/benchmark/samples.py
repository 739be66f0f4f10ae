"""What is edited: source images of a store or a folder, and what is asked of each.

A folder is searched with everything below it, so that Oxford RobotCar's `stereo/centre/*.png` is one; its images are
raw Bayer patterns, which `bayer` names.

Legend: an image is (H, W, 3) uint8 RGB; P photos, S pixels a side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.images import check_reading, find_images, read_image
from sim2real_aug.data.photos import PhotoSet, load_photos
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.stores import is_store
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import say

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Edit:
    """What is asked of every image.

    instruction: for editors that take one. source_caption, target_caption: what the image shows before and after, for
    editors and scorers that compare with a text. region: phrase of what is to change, None: the whole image. photos:
    folder of its visual prompts, None: the command's. photo_region: phrase of what in them counts, None: `region`.
    """

    instruction: str
    source_caption: str
    target_caption: str
    region: str | None = None
    photos: str | None = None
    photo_region: str | None = None


class Sources(Protocol):
    """Images by number."""

    def __len__(self) -> int: ...

    def load(self, number: int) -> Frame:
        """(H, W, 3) uint8 RGB. Raises BadInput for a damaged one."""


@dataclass(frozen=True)
class StoreFrames:
    """Frames of a replay buffer, by their numbers in it."""

    buffer: ReplayBuffer
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def load(self, number: int) -> Frame:
        frame = int(self.numbers[number])
        return self.buffer.images(frame, frame + 1)[0]


@dataclass(frozen=True)
class ImageFiles:
    """Images of a folder. shorter: pixels of the shorter side that larger ones are shrunk to, None: as they are."""

    files: Sequence[Path]
    shorter: int | None
    bayer: str | None

    def __len__(self) -> int:
        return len(self.files)

    def load(self, number: int) -> Frame:
        return read_image(self.files[number], self.shorter, self.bayer)


def open_sources(
    place: str | Path, count: int | None, shorter: int | None = None, bayer: str | None = None
) -> Sources:
    """`count` images, evenly spread (None: all), of a store or of a folder with all that is below it.

    Raises BadInput for a place that holds none, and for an unknown Bayer pattern.
    """
    check_reading(shorter, bayer)
    if count is not None and count < 1:
        raise BadInput(f"images must be at least 1, or null for all; got {count}")
    folder = Path(place).expanduser()
    if not folder.is_dir() or is_store(folder):
        buffer = ReplayBuffer.open(place)
        return StoreFrames(buffer, _spread(buffer.n_frames, count))
    files = find_images(folder)
    return ImageFiles([files[number] for number in _spread(len(files), count)], shorter, bayer)


def _spread(total: int, count: int | None) -> NDArray[np.int64]:
    return np.linspace(0, total - 1, min(count or total, total)).round().astype(np.int64)


def content_hash(image: Frame) -> str:
    """Hex, of shape and pixels."""
    return hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Task:
    """An edit by its name, with its visual prompts."""

    name: str
    edit: Edit
    photos: PhotoSet

    def turned(self, turn: int) -> PhotoSet:
        """The photos with number `turn` first: that is the one an edit takes after."""
        images, names = self.photos.images, self.photos.names
        return PhotoSet(np.roll(images, -turn, axis=0), names[turn:] + names[:turn], self.photos.masks)


def read_tasks(edits: dict[str, Edit], photos: str | Path | None, size: int, ratio: float = 1.0) -> list[Task]:
    """A task for each edit, its photos at `size` pixels a side, for images of width / height `ratio`.

    They are in the folder that the edit names, else in that of the edit's name in `photos`, else in `photos` itself.
    Says which edits share a folder. Raises BadInput for an edit that has none.
    """
    folders: dict[str, Path] = {}
    for name, edit in edits.items():
        if edit.photos is None and photos is None:
            raise BadInput(f"the edit '{name}' has no photos: give --photos, or edits.{name}.photos")
        folder = Path(edit.photos or photos or "")
        own = folder / name
        folders[name] = own if edit.photos is None and own.is_dir() else folder
    for folder in dict.fromkeys(folders.values()):
        sharing = [name for name in edits if folders[name] == folder]
        if len(sharing) > 1:
            say(f"{', '.join(sharing)} take after the same photos, {folder}; one's own would be {folder / 'NAME'}")
    return [Task(name, edit, load_photos(folders[name], size, ratio)) for name, edit in edits.items()]
