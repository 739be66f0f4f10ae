"""Reading a replay buffer: diffusion_policy's layout, zarr format 2 or 3, folder, zip or fsspec URL.

Layout: data/<name> (N, ...) with N frames of all episodes one after the other; meta/episode_ends (E,) int64,
the frame after each episode's last. data/img (N, H, W, 3) is uint8, or float with values 0..255 as in the
published Push-T store; data/state (N, 5) and data/action (N, 2) in window units 0..512 and radians.
`ReplayBuffer.open` checks the whole store at the door, of the images no more than the first frame.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from sim2real_aug.data.frames import to_uint8
from sim2real_aug.data.stores import arrays_of, damaged_chunk, open_store, reading, time_chunk
from sim2real_aug.errors import BadInput, unknown_name

# A store written by zarr may leave out chunks that are all zero. In these arrays that is no sane content.
NEVER_ALL_ZERO = ("img", "state", "action", "keypoint")
FINITE = ("state", "action")
ATTRIBUTE = "augmentation"  # the root attribute in which `augment` says how a store was edited
VERDICT = "edit_ok"  # the array in which it says which edits passed the quality gate


class ReplayBuffer:
    """A checked, read-only view of a store. Build it with `open`.

    path: as given. n_frames N, n_episodes E. episode_ends: (E,) int64. names: of the arrays under data/.
    attrs: root attributes.
    """

    def __init__(self, path: str | Path, group: zarr.Group, episode_ends: NDArray[np.int64]) -> None:
        self.path = path
        self.group = group
        self.episode_ends = episode_ends
        self._arrays = arrays_of(group["data"])
        self._in_range: set[str] = set()

    @classmethod
    def open(cls, path: str | Path) -> ReplayBuffer:
        """Open and check the store at `path`.

        Raises BadInput, one line: missing, not zarr, a truncated or lost chunk, lengths that disagree with
        episode_ends, images of a wrong dtype, shape or range, NaN in states or actions.
        """
        group = open_store(path)
        for name in ("data", "meta/episode_ends"):
            if name not in group:
                raise BadInput(
                    f"{path} has no {name}; a replay buffer holds data/<arrays> and meta/episode_ends"
                )
        if not isinstance(group["data"], zarr.Group) or not isinstance(
            group["meta/episode_ends"], zarr.Array
        ):
            raise BadInput(f"{path}: data must be a group and meta/episode_ends an array")
        buffer = cls(path, group, _episode_ends(path, group["meta/episode_ends"]))
        buffer._check()
        return buffer

    @property
    def n_frames(self) -> int:
        return int(self.episode_ends[-1])

    @property
    def n_episodes(self) -> int:
        return len(self.episode_ends)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    @property
    def image_names(self) -> tuple[str, ...]:
        """Names of the arrays that hold frames, (N, H, W, 3)."""
        return tuple(n for n, a in self._arrays.items() if a.ndim == 4 and a.shape[-1] == 3)

    @property
    def attrs(self) -> dict[str, Any]:
        return dict(self.group.attrs)

    @property
    def zarr_format(self) -> int:
        return int(self.group.metadata.zarr_format)

    @property
    def image_chunk(self) -> int:
        """Frames per chunk of data/img: the unit of work."""
        return time_chunk(self.array("img"))

    def array(self, name: str) -> zarr.Array:
        """The raw array data/<name>. Raises BadInput that names the nearest for an unknown one."""
        if name not in self._arrays:
            raise unknown_name(f"array in {self.path}/data", name, self._arrays)
        return self._arrays[name]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Frames start..stop of data/<name>, (n, ...), in the stored dtype."""
        array = self.array(name)
        with reading(f"{self.path}/data/{name} [{start}:{stop if stop is not None else self.n_frames}]"):
            return np.asarray(array[start : self.n_frames if stop is None else stop])

    def take(self, name: str, frames: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """`frames` (n,) of data/<name>, in any order, (n, ...), in the stored dtype; each chunk is decoded once."""
        array = self.array(name)
        rows = np.empty((len(frames), *array.shape[1:]), array.dtype)
        chunks = frames // time_chunk(array)
        for chunk in np.unique(chunks):
            mine = chunks == chunk
            first = int(frames[mine].min())
            rows[mine] = self.read(name, first, int(frames[mine].max()) + 1)[frames[mine] - first]
        return rows

    def images(self, start: int = 0, stop: int | None = None, name: str = "img") -> NDArray[np.uint8]:
        """Frames start..stop as (n, H, W, 3) uint8; float frames 0..255 are rounded.

        Raises BadInput for float frames that hold NaN, leave 0..255 or are in 0..1.
        """
        self.check_range(name)
        return to_uint8(self.read(name, start, stop), f"{self.path}/data/{name} [{start}:{stop}]")

    def images_at(self, frames: NDArray[np.integer[Any]], name: str = "img") -> NDArray[np.uint8]:
        """`images` of `frames` (n,), in any order."""
        self.check_range(name)
        return to_uint8(self.take(name, frames), f"{self.path}/data/{name}")

    def check_range(self, name: str) -> None:
        """Raise BadInput for float frames in 0..1 or -1..1, which rounding would make black; the first chunk with light
        tells.

        Looked at once an array. Not for every array at the door: one of another name may be no frames, but points.
        """
        array = self.array(name)
        if array.dtype.kind != "f" or name in self._in_range:
            return
        step = time_chunk(array)
        chunks = (self.read(name, start, start + step) for start in range(0, self.n_frames, step))
        lit = next((chunk for chunk in chunks if chunk.any()), None)
        if lit is not None and lit.max() <= 1:
            found, cure = ("-1..1", "add 1, multiply by 127.5") if lit.min() < 0 else ("0..1", "multiply by 255")
            told = f"{self.path}: data/{name} is {array.dtype} in {found}"
            raise BadInput(f"{told}; frames must be uint8, or float in 0..255 ({cure})")
        self._in_range.add(name)

    def require_edits_of(self, name: str) -> None:
        """Raise BadInput if this store was edited in another array than data/<name>."""
        edited = self.attrs.get(ATTRIBUTE, {}).get("image_name", name)
        if edited != name:
            raise BadInput(
                f"{self.path} has the edits of data/{edited}, and data/{name} as it was; give a store that "
                f"`augment ... image_name={name}` wrote"
            )

    def passed(self) -> NDArray[np.bool_]:
        """Which frames are edits that passed the quality gate, (N,); all of a store that no gate has judged."""
        if VERDICT not in self.names:
            return np.ones(self.n_frames, np.bool_)
        return self.read(VERDICT).astype(np.bool_).reshape(-1)

    def reopen(self) -> ReplayBuffer:
        """The same store opened anew, unchecked: a process must not share file handles with its parent."""
        return ReplayBuffer(self.path, open_store(self.path), self.episode_ends)

    def episode(self, index: int) -> slice:
        """The frames of episode `index`. Raises BadInput when there is no such episode."""
        if not 0 <= index < self.n_episodes:
            raise BadInput(f"{self.path} has episodes 0 to {self.n_episodes - 1}; got {index}")
        return slice(int(self.episode_ends[index - 1]) if index else 0, int(self.episode_ends[index]))

    def episode_of(self, frames: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The episode of each frame index, same shape."""
        return np.searchsorted(self.episode_ends, frames, side="right").astype(np.int64)

    def content_hash(self) -> str:
        """A cheap identity of the content, whatever the storage format (hex).

        Covers names, shapes, dtypes, episode_ends, states and actions entirely, and of every image array the
        first, middle and last frame.
        """
        digest = hashlib.blake2b(self.episode_ends.tobytes(), digest_size=16)
        for name, array in self._arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            if name in FINITE:
                digest.update(np.ascontiguousarray(self.read(name)).tobytes())
            elif name in self.image_names:
                for frame in (0, self.n_frames // 2, self.n_frames - 1):
                    digest.update(np.ascontiguousarray(self.read(name, frame, frame + 1)).tobytes())
        return digest.hexdigest()

    def _check(self) -> None:
        if not self._arrays:
            raise BadInput(f"{self.path}/data holds no arrays")
        for name, array in self._arrays.items():
            length = array.shape[0] if array.ndim else 0
            if length != self.n_frames:
                raise BadInput(
                    f"{self.path}: data/{name} has {length} frames and meta/episode_ends ends at "
                    f"{self.n_frames}; they must agree (an unfinished store is finished by the command that "
                    "wrote it)"
                )
        if "img" in self._arrays:
            self._check_images()
        for name in sorted({*self.image_names, *NEVER_ALL_ZERO} & set(self._arrays)):
            if damage := damaged_chunk(self._arrays[name], sparse=name not in NEVER_ALL_ZERO):
                raise BadInput(
                    f"{self.path}: {damage}; copy or download the store again (where it is all zero, write it with "
                    "zarr's config={'write_empty_chunks': True})"
                )
        if "img" in self._arrays:
            self.check_range("img")
        for name in FINITE:
            if name in self._arrays:
                self.check_finite(name)

    def _check_images(self) -> None:
        array = self.array("img")
        if (
            array.ndim != 4
            or array.shape[-1] != 3
            or not (array.dtype == np.uint8 or array.dtype.kind == "f")
        ):
            raise BadInput(
                f"{self.path}: data/img is {array.shape} {array.dtype}; frames must be (N, H, W, 3), "
                "uint8 or float in 0..255"
            )

    def check_finite(self, name: str) -> None:
        """Raise BadInput, with the first frame and its episode, when an array holds NaN or infinite values."""
        values = self.read(name)
        if values.dtype.kind not in "fiu":
            raise BadInput(f"{self.path}: data/{name} is {values.dtype}; numbers are needed")
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            frame = int(np.argmax(bad))
            raise BadInput(
                f"{self.path}: data/{name} holds NaN or infinite values in {int(bad.sum())} frames, first in "
                f"frame {frame} (episode {int(self.episode_of(np.array(frame)))}); remove these episodes"
            )


def _episode_ends(path: str | Path, array: zarr.Array) -> NDArray[np.int64]:
    with reading(f"{path}/meta/episode_ends"):
        damage = damaged_chunk(array)
        if damage and array.size:
            raise BadInput(f"{path}: {damage}; copy or download the store again")
        ends = np.asarray(array[:])
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise BadInput(f"{path}/meta/episode_ends is {ends.shape} {ends.dtype}; (episodes,) int64 is needed")
    if len(ends) == 0:
        raise BadInput(f"{path} holds no episodes (meta/episode_ends is empty)")
    if (np.diff(ends.astype(np.int64), prepend=0) <= 0).any():
        raise BadInput(f"{path}/meta/episode_ends must be positive and increase; got {ends[:8].tolist()} ...")
    return ends.astype(np.int64)
