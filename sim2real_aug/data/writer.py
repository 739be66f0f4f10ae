"""Writing a replay buffer, episode by episode, so that a crash costs at most the episode being written.

Departs from diffusion_policy's ReplayBuffer only in the order of writes: `meta/episode_ends` grows last, so
what it announces is always on disk. A .zip is built as a folder beside it and packed by `close`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from sim2real_aug.data.stores import (
    copy_folder,
    create_array,
    create_group,
    is_url,
    is_zip,
    one_line,
    pack,
    partial_folder,
    refuse_existing,
    remove_leftovers,
    remove_store,
    writable,
)
from sim2real_aug.errors import BadInput

CHUNK_FRAMES = 161  # of the published Push-T store: 4.4 MB of 96x96 uint8 frames
CHUNK_BYTES = 16 * 2**20  # a chunk of larger frames holds fewer of them: it is decoded to read one
EPISODE_ENDS_CHUNK = 4096


class ReplayBufferWriter:
    """Appends episodes to a store. Build it with `create` or `resume`; a context manager that closes."""

    def __init__(self, path: Path, folder: Path, group: zarr.Group, chunk_frames: int) -> None:
        self.path = path
        self._folder = folder
        self._group = group
        self._data = group["data"]
        self._ends = writable(group["meta/episode_ends"])
        self._chunk_frames = chunk_frames
        self._arrays = {name: writable(array) for name, array in self._data.arrays()}
        self.episode_ends: list[int] = [int(end) for end in self._ends[:]]
        self._begun = 0  # frames of an episode that is not complete

    @classmethod
    def create(
        cls,
        path: str | Path,
        zarr_format: int = 2,
        overwrite: bool = False,
        attrs: Mapping[str, Any] | None = None,
        chunk_frames: int = CHUNK_FRAMES,
    ) -> ReplayBufferWriter:
        """A new, empty store at `path` (a folder, or a .zip file that appears on `close`).

        attrs: root attributes, JSON values. Raises BadInput when something stands at `path`, unless
        `overwrite` (which removes zarr stores only).
        """
        if is_url(path):
            raise BadInput(f"{path} is a URL; stores are written to the local disk only")
        target, folder = Path(path), _folder_of(path)
        if zarr_format not in (2, 3):
            raise BadInput(f"zarr_format must be 2 or 3; got {zarr_format!r}")
        for place in {target, folder}:
            refuse_existing(place, overwrite)
            remove_store(place)
        begun = folder.with_name(f".{folder.name}.begun")  # a crash here leaves nothing at `path`
        remove_store(begun)
        group = create_group(begun, zarr_format)
        group.attrs.update(dict(attrs or {}))
        group.create_group("data")
        meta = group.create_group("meta")
        create_array(meta, "episode_ends", (0,), np.dtype(np.int64), EPISODE_ENDS_CHUNK)
        begun.rename(folder)
        return cls(target, folder, zarr.open_group(LocalStore(folder), mode="r+"), chunk_frames)

    @classmethod
    def resume(cls, path: str | Path, chunk_frames: int = CHUNK_FRAMES) -> ReplayBufferWriter:
        """Take up a store that `create` began; frames after its last complete episode are dropped.

        Raises BadInput when there is nothing at `path` that can be taken up.
        """
        target, folder = Path(path), _folder_of(path)
        if is_zip(path) and target.exists() and not folder.exists():
            raise BadInput(f"{path} is finished; a packed zip store cannot be appended to")
        if not folder.is_dir():
            raise BadInput(f"no unfinished replay buffer at {path}")
        try:
            group = zarr.open_group(LocalStore(folder), mode="r+")
            ends = writable(group["meta/episode_ends"])
            written = ends[:]
        except Exception as error:
            raise BadInput(f"no unfinished replay buffer at {path} ({one_line(error)})") from error
        # a crash between growing episode_ends and filling it leaves a zero at its end
        complete = int(np.argmin(np.append(np.diff(written, prepend=0) > 0, False)))
        ends.resize((complete,))
        n_frames = int(written[complete - 1]) if complete else 0
        for name, array in group["data"].arrays():
            if array.shape[0] < n_frames:
                raise BadInput(
                    f"{path}: data/{name} has {array.shape[0]} frames, episode_ends says {n_frames}"
                )
            array.resize((n_frames, *array.shape[1:]))
        remove_leftovers(folder)
        return cls(target, folder, group, chunk_frames)

    @property
    def n_episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def n_frames(self) -> int:
        return self.episode_ends[-1] if self.episode_ends else 0

    @property
    def attrs(self) -> dict[str, Any]:
        return dict(self._group.attrs)

    def update_attrs(self, attrs: Mapping[str, Any]) -> None:
        self._group.attrs.update(dict(attrs))

    def append_episode(self, episode: Mapping[str, NDArray[Any]]) -> None:
        """Add one episode, as `append_part` does."""
        self.append_part(episode)
        self.end_episode()

    def append_part(self, part: Mapping[str, NDArray[Any]]) -> None:
        """Add frames to an episode that may be too long for the memory; `end_episode` makes them one.

        part: arrays (n, ...) of one length n >= 1, of the same names and kinds each time. Raises BadInput before
        anything is written when they do not fit the store.
        """
        arrays = {name: np.asarray(value) for name, value in part.items()}
        length = self._check(arrays)
        start = self.n_frames + self._begun
        stop = start + length
        for name, value in arrays.items():
            if name not in self._arrays:
                shape = (0, *value.shape[1:])
                self._arrays[name] = create_array(self._data, name, shape, value.dtype, self._chunk_of(value))
            array = self._arrays[name]
            array.resize((stop, *value.shape[1:]))
            array[start:stop] = value
        self._begun += length

    def end_episode(self) -> None:
        """All frames since the last episode are one; at least one there must be."""
        assert self._begun, "an episode has frames"
        stop, self._begun = self.n_frames + self._begun, 0
        self._ends.resize((self.n_episodes + 1,))
        self._ends[self.n_episodes :] = np.array([stop], dtype=np.int64)
        self.episode_ends.append(stop)

    def _chunk_of(self, rows: NDArray[Any]) -> int:
        """How many of `rows` (n, ...) a chunk holds."""
        return min(self._chunk_frames, max(1, CHUNK_BYTES // max(rows[0].nbytes, 1)))

    def _check(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        lengths = {name: len(value) if value.ndim else 0 for name, value in arrays.items()}
        if not lengths or len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
            raise BadInput(
                f"the arrays of an episode must have one common length of at least 1; got {lengths}"
            )
        if (self.n_episodes or self._begun) and set(arrays) != set(self._arrays):
            raise BadInput(f"every episode needs the arrays {sorted(self._arrays)}; got {sorted(arrays)}")
        for name, value in arrays.items():
            if value.dtype.hasobject:
                raise BadInput(f"array '{name}' holds Python objects; numbers or booleans are needed")
            if name == "img" and (value.dtype != np.uint8 or value.ndim != 4 or value.shape[-1] != 3):
                raise BadInput(f"'img' must be (n, H, W, 3) uint8; got {value.shape} {value.dtype}")
            if value.dtype.kind == "f" and name in ("state", "action") and not np.isfinite(value).all():
                raise BadInput(f"array '{name}' of episode {self.n_episodes} holds NaN or infinite values")
            kept = self._arrays.get(name)
            if kept is not None and (kept.shape[1:] != value.shape[1:] or kept.dtype != value.dtype):
                raise BadInput(
                    f"array '{name}' must be (n, {', '.join(map(str, kept.shape[1:]))}) {kept.dtype} as in "
                    f"the episodes before; got {value.shape} {value.dtype}"
                )
        return next(iter(lengths.values()))

    def summary(self, place: str | Path) -> dict[str, Any]:
        """What a command that made a store at `place` says of it."""
        return {
            "path": str(place),
            "zarr_format": self._group.metadata.zarr_format,
            "frames": self.n_frames,
            "episodes": self.n_episodes,
            "arrays": [*(f"data/{name}" for name in sorted(self._arrays)), "meta/episode_ends"],
        }

    def close(self) -> None:
        """Finish: pack a .zip; a folder is complete already."""
        if self._folder != self.path and self._folder.exists():
            pack(self._folder, self.path)

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> ReplayBufferWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


@contextmanager
def building(
    target: str | Path, zarr_format: int = 2, attrs: Mapping[str, Any] | None = None
) -> Iterator[ReplayBufferWriter]:
    """A writer of a store that appears at `target`, over what stands there, when the block ends, and not before."""
    unfinished = copy_folder(target)
    with ReplayBufferWriter.create(unfinished, zarr_format, overwrite=True, attrs=attrs) as writer:
        try:
            yield writer
        except BaseException:
            writer.discard()
            raise
    pack(unfinished, Path(target))


def _folder_of(path: str | Path) -> Path:
    """Where a store is built: the path itself, or a folder beside a .zip."""
    return partial_folder(path) if is_zip(path) else Path(path)
