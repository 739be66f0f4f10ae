"""A wrapper that mixes edited frames into any torch Dataset of dicts.

    dataset = AugmentedDataset(dataset, "edited.zarr", probability=0.5, image_keys=["obs.image"])

Each item is edited as a whole or not at all, by a draw that depends on (seed, epoch, item) only: the same
whatever the number of DataLoader workers. An item of which the quality gate refused a frame keeps the originals.
Legend: T frames in an item's window, H W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import say
from sim2real_aug.seeding import derive_seed

SEED_RANGE = 2.0**63  # derive_seed gives 63 bits


def draws_edit(seed: int, epoch: int, item: int, probability: float) -> bool:
    """Whether item number `item` shows its edited frames in this epoch."""
    return derive_seed(seed, "augmented", epoch, item) / SEED_RANGE < probability


class AugmentedDataset(Dataset[dict[str, Any]]):
    """`dataset` with the images of some items replaced by the edited frames of `edited_store`.

    image_keys: where the image is in an item: a key, or dots for nested dicts ("obs.image"). One, since a store has
        the edits of one camera; for several cameras wrap once for each, with the same seed. An image is (H, W, 3),
        (3, H, W) or a window of T of them, numpy or torch; H and W are the store's, which settles the layout.
        uint8 images are 0..255; float images are 0..`float_max`. What comes back is of the same kind.
    frame_index: function from the item's number to its frame indices in the store, an int or (T,); by default
        item["frame_index"] is read; where an item has an "episode_index", item["index"], since LeRobot counts
        frame_index within the episode and index over all.
    image_name: which array of the store holds the edited frames.
    in_memory: read all edited frames into memory once (uint8), instead of a chunk for each item.

    Attributes that are not its own are the wrapped dataset's (`get_normalizer` and the like). Raises BadInput
    for a store that does not fit, a missing key, or an image of another size or range than declared.
    """

    def __init__(
        self,
        dataset: Dataset[dict[str, Any]],
        edited_store: str | Path,
        probability: float = 0.5,
        image_keys: Sequence[str] = ("img",),
        seed: int = 0,
        frame_index: Callable[[int], ArrayLike] | None = None,
        image_name: str = "img",
        float_max: float = 1.0,
        in_memory: bool = False,
    ) -> None:
        if not 0 <= probability <= 1:
            raise BadInput(f"probability must be in [0, 1]; got {probability}")
        if isinstance(image_keys, str):
            raise BadInput(f"image_keys must be a list of keys; got the string '{image_keys}'")
        if len(image_keys) != 1:
            raise BadInput(
                f"image_keys must be one key, since a store has the edits of one camera; got {list(image_keys)}; for "
                "several cameras wrap once for each, with its own store and image_name and the same seed"
            )
        if float_max <= 0:
            raise BadInput(f"float_max must be positive; got {float_max}")
        self.dataset, self.probability, self.seed = dataset, probability, seed
        (self.image_key,), self.image_name = image_keys, image_name
        self.frame_index, self.float_max = frame_index, float_max
        self._buffer = ReplayBuffer.open(edited_store)
        self._buffer.require_edits_of(image_name)
        if ATTRIBUTE not in self._buffer.attrs:
            say(f"{edited_store} was not written by augment: all its frames are taken for edits")
        self._frame_shape = tuple(self._buffer.array(image_name).shape[1:])
        self._ok = self._buffer.passed()
        self._frames = self._buffer.images(name=image_name) if in_memory else None
        self._pid = os.getpid()
        # shared memory, so that set_epoch reaches persistent workers
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew which items are edited; call it before each epoch. Reaches running workers, and the
        wrapper of another camera inside, so that an item's cameras are edited together."""
        self._epoch.fill_(epoch)
        if isinstance(self.dataset, AugmentedDataset):
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:
            index += len(self)
        item = self.dataset[index]
        if not isinstance(item, Mapping):
            raise BadInput(f"the wrapped dataset must give dicts; item {index} is a {type(item).__name__}")
        item = dict(item)
        if not draws_edit(self.seed, self.epoch, index, self.probability):
            return item
        frames = self._frame_indices(index, item)
        if self._ok[frames].all():
            self._replace(item, self.image_key, self._edited(frames))
        return item

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_buffer": self._buffer.path, "_pid": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._buffer = ReplayBuffer.open(state["_buffer"])
        self._pid = os.getpid()

    def _frame_indices(self, index: int, item: Mapping[str, Any]) -> NDArray[np.int64]:
        key = "index" if "episode_index" in item else "frame_index"
        if self.frame_index is not None:
            given = self.frame_index(index)
        elif key in item:
            given = item[key]
        else:
            raise BadInput(
                f"item {index} has no key '{key}' (it has {sorted(item)}); add it, or pass "
                "frame_index=function from item number to frame indices"
            )
        frames = np.asarray(given)
        if frames.dtype.kind not in "iu" or frames.ndim > 1 or frames.size == 0:
            raise BadInput(f"frame indices must be an int or (T,) ints; item {index} gives {frames!r:.80}")
        if frames.min() < 0 or frames.max() >= self._buffer.n_frames:
            raise BadInput(
                f"item {index} asks for frames {frames.min()} to {frames.max()}; {self._buffer.path} has "
                f"{self._buffer.n_frames}"
            )
        return frames.astype(np.int64)

    def _edited(self, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The edited frames (H, W, 3) or (T, H, W, 3) uint8."""
        if self._frames is not None:
            return self._frames[frames]
        if self._pid != os.getpid():  # a forked worker: the parent's file handles are not its own
            self._buffer, self._pid = self._buffer.reopen(), os.getpid()
        return self._buffer.images_at(frames.ravel(), self.image_name).reshape(*frames.shape, *self._frame_shape)

    def _replace(self, item: dict[str, Any], key: str, edited: NDArray[np.uint8]) -> None:
        """Put `edited` at `key`, whole or dotted, leaving the wrapped dataset's own objects alone."""
        *path, last = [key] if key in item else key.split(".")
        for part in path:
            if not isinstance(item.get(part), Mapping):
                raise BadInput(f"items have no '{key}': '{part}' is not a dict; keys there: {sorted(item)}")
            item[part] = dict(item[part])
            item = item[part]
        if last not in item:
            raise BadInput(f"items have no image '{key}'; keys there: {sorted(item)}")
        original = item[last]
        if not torch.is_tensor(original):
            item[last] = self._like(np.asarray(original), edited, key)
            return
        known = original.float() if original.dtype == torch.bfloat16 else original  # which numpy does not have
        shown = self._like(known.numpy(force=True), edited, key)
        item[last] = torch.from_numpy(shown).to(original.device, original.dtype)

    def _like(self, array: NDArray[Any], edited: NDArray[np.uint8], key: str) -> NDArray[Any]:
        """`edited` in the layout, dtype and range of the item's own `array`."""
        height, width, channels = self._frame_shape
        window = edited.shape[:-3]
        if array.shape == (*window, channels, height, width):
            edited = np.moveaxis(edited, -1, -3)
        elif array.shape != (*window, height, width, channels):
            raise BadInput(
                f"image '{key}' is {array.shape}; {(*window, height, width, channels)} or channels first is "
                "needed for its frame indices (wrap the dataset before it crops and resizes, or edit frames of the "
                "items' size; for windows of frames pass frame_index=function from item number to (T,) indices)"
            )
        if array.dtype == np.uint8:
            return np.ascontiguousarray(edited)
        if array.dtype.kind != "f":
            raise BadInput(f"image '{key}' is {array.dtype}; uint8 or float is needed")
        darker = self.float_max > 1 and 0 < array.max() <= 1
        if array.min() < 0 or array.max() > self.float_max * 1.001 or darker:
            raise BadInput(
                f"image '{key}' spans {array.min():g}..{array.max():g}, float images must be in "
                f"0..{self.float_max:g} (float_max); wrap the dataset before normalising, or pass "
                f"float_max={1 if darker else 255}"
            )
        return (edited / np.float64(255 / self.float_max)).astype(array.dtype)
