"""LeRobot's datasets, versions 2 and 3, in a folder of this machine, made replay buffers of one camera.

A frame of the store has the number that LeRobot calls `index`, so that `AugmentedDataset` puts its edits into the
items of the dataset that it was made of. Layout: huggingface/lerobot, `meta/info.json` and what it names.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sim2real_aug.data.features import as_stored, check_names, one_camera
from sim2real_aug.data.images import check_reading, shrunk, with_numbers
from sim2real_aug.data.stores import LEROBOT_INFO, one_line, reading, refuse_existing
from sim2real_aug.data.writer import building
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.progress import progress

if TYPE_CHECKING:
    from pyarrow import Table

VERSIONS = ("v2.0", "v2.1", "v3.0")
AGAIN = "download it again"
NUMBERS = ("float", "int", "uint", "bool")  # how their dtypes begin
COUNTED = ("index", "frame_index", "episode_index")  # which a store's rows and episode_ends say
TOLERANCE = 0.25  # of the time between frames; a video of twice the rate has one at a half
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Episode:
    """number: LeRobot's episode_index. first: the `index` of its first frame. table: the file of its rows. video: that
    of the camera's frames, which begin at `start` seconds; None where frames are in the table."""

    number: int
    first: int
    length: int
    table: Path
    video: Path | None
    start: float = 0.0


@dataclass(frozen=True)
class Numbers:
    """A feature of numbers. name: in a store. shape: of one frame's."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LeRobotFolder:
    """root: the folder. info: its meta/info.json. camera: the feature whose frames are read. numbers: the features that
    a store carries. fps: frames a second."""

    root: Path
    info: Mapping[str, Any]
    camera: str
    numbers: Mapping[str, Numbers]
    fps: float

    @classmethod
    def open(cls, root: Path, camera: str | None = None) -> LeRobotFolder:
        """camera: None where there is but one. Raises BadInput for another version, and for a camera that is not there
        or not named."""
        try:
            info = json.loads((root / LEROBOT_INFO).read_text())
            version, features, fps = info["codebase_version"], info["features"], float(info["fps"])
            cameras = [name for name, feature in features.items() if feature["dtype"] in ("video", "image")]
            numbers = {
                name: Numbers(_stored(name), np.dtype(feature["dtype"]), tuple(feature["shape"]))
                for name, feature in features.items()
                if feature["dtype"].startswith(NUMBERS) and name not in COUNTED
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            place = root / LEROBOT_INFO
            raise BadInput(f"{place} does not describe a dataset of LeRobot's ({one_line(error)})") from error
        if version not in VERSIONS:
            raise BadInput(f"{root} is of LeRobot's version {version}; read are {', '.join(VERSIONS)}")
        chosen = one_camera(root, cameras, camera)
        check_names(root, {chosen: "img", **{feature: kept.name for feature, kept in numbers.items()}})
        return cls(root, info, chosen, numbers, fps)

    @property
    def in_videos(self) -> bool:
        return bool(self.info["features"][self.camera]["dtype"] == "video")

    def episodes(self) -> list[Episode]:
        """All episodes by their numbers. Raises BadInput where one is left out or meta/ is damaged."""
        with reading(str(self.root / "meta"), AGAIN):
            known = self._of_version_3() if self.info["codebase_version"] == "v3.0" else self._of_version_2()
        known.sort(key=lambda episode: episode.number)
        if [episode.number for episode in known] != list(range(len(known))) or not known:
            raise BadInput(f"the episodes of {self.root / 'meta'} are not numbered 0, 1, 2, ... without a gap")
        ends = np.cumsum([episode.length for episode in known]).tolist()
        return [replace(episode, first=end - episode.length) for episode, end in zip(known, ends, strict=True)]

    def _of_version_2(self) -> list[Episode]:
        """A file of each episode."""
        lines = (self.root / "meta" / "episodes.jsonl").read_text().splitlines()
        found = []
        for row in map(json.loads, filter(None, lines)):
            number = int(row["episode_index"])
            place = {"episode_chunk": number // int(self.info["chunks_size"]), "episode_index": number}
            video = self._place("video_path", **place, video_key=self.camera) if self.in_videos else None
            found.append(Episode(number, 0, int(row["length"]), self._place("data_path", **place), video))
        return found

    def _of_version_3(self) -> list[Episode]:
        """Several episodes a file."""
        found, prefix, tables = [], f"videos/{self.camera}", self._tables_of_version_3()
        for file in sorted((self.root / "meta" / "episodes").rglob("*.parquet")):
            for row in read_table(file).to_pylist():
                number, video, start = int(row["episode_index"]), None, 0.0
                if number not in tables:
                    raise BadInput(f"{self.root / 'data'} has no rows of episode {number}, which meta/ names; {AGAIN}")
                if self.in_videos:
                    place = {name: int(row[f"{prefix}/{name}"]) for name in ("chunk_index", "file_index")}
                    video = self._place("video_path", **place, video_key=self.camera)
                    start = float(row[f"{prefix}/from_timestamp"])
                found.append(Episode(number, 0, int(row["length"]), tables[number], video, start))
        return found

    def _tables_of_version_3(self) -> dict[int, Path]:
        """The table that has an episode's rows, by its number, as the tables themselves say.

        meta/ of many published datasets names the one before (huggingface/lerobot, issue 2401); LeRobot does not ask.
        """
        found: dict[int, Path] = {}
        for file in sorted((self.root / "data").glob("*/*.parquet")):
            numbers = read_table(file, ["episode_index"])["episode_index"].to_numpy()
            found |= dict.fromkeys(np.unique(numbers).tolist(), file)
        return found

    def _place(self, template: str, **numbers: Any) -> Path:
        return self.root / str(self.info[template]).format(**numbers)

    def columns(self, images: bool = True) -> list[str]:
        """What is read of tables; images: with the camera's, where they are there."""
        return [*self.numbers, *([self.camera] if images and not self.in_videos else []), *COUNTED]

    def rows(self, episode: Episode, table: Table, images: bool = True) -> Table:
        """The rows of an episode in its table. Raises BadInput where they are not as many, or not in order."""
        if missing := sorted({*self.columns(images)} - {*table.column_names}):
            raise BadInput(f"{episode.table} has no {', '.join(missing)}, which meta/ names; {AGAIN}")
        rows = table.take(np.flatnonzero(table["episode_index"].to_numpy() == episode.number))
        if not np.array_equal(rows["index"].to_numpy(), episode.first + np.arange(episode.length)):
            raise BadInput(
                f"{episode.table}: the rows of episode {episode.number} are not those with index {episode.first} to "
                f"{episode.first + episode.length - 1}, in order, as meta/ says; {AGAIN}"
            )
        return rows

    def rows_of_each(self, episodes: list[Episode], images: bool = True) -> Iterator[tuple[Episode, Table]]:
        """Each episode with its rows; a table that consecutive ones share is read once. images: as in `columns`."""
        for file, sharing in groupby(episodes, key=lambda episode: episode.table):
            table = read_table(file) if images else read_table(file, self.columns(images))
            yield from ((episode, self.rows(episode, table, images)) for episode in sharing)

    def frames(self, episode: Episode, rows: Table) -> Iterator[Frames]:
        """Its frames (H, W, 3), in order."""
        if episode.video is None:
            return (_decoded(cell.as_py(), self.root) for cell in rows[self.camera])
        return video_frames(episode.video, episode.start, episode.length, self.fps)


def lerobot_to_store(
    folder: Path,
    target: Path,
    camera: str | None = None,
    zarr_format: int = 2,
    shorter: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a store of a camera's frames, data/img, and of all features that are numbers, and return its summary.

    A feature `observation.state` becomes data/state, `next.reward` data/next_reward. shorter: pixels of the shorter
    side that larger frames are shrunk to. Nothing appears at `target` before the store is complete. Raises BadInput
    for an existing target, and for a dataset that is damaged or of another version.
    """
    check_reading(shorter)
    refuse_existing(target, overwrite)
    source = LeRobotFolder.open(folder, camera)
    episodes = source.episodes()
    version, fps = source.info["codebase_version"], source.info["fps"]
    made_of = {"lerobot": {"version": version, "camera": source.camera, "fps": fps}}
    with (
        building(target, zarr_format, made_of) as writer,
        progress("read episodes", sum(episode.length for episode in episodes), unit="frames") as bar,
    ):
        for episode, rows in source.rows_of_each(episodes):
            for part in _parts(source, episode, rows, shorter):
                writer.append_part(part)
                bar.advance(len(part["img"]))
            writer.end_episode()
        return writer.summary(target)


def _parts(
    source: LeRobotFolder, episode: Episode, rows: Table, shorter: int | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """An episode, part by part."""
    with reading(f"episode {episode.number} of {source.root}", AGAIN):
        frames = (shrunk(frame, shorter) for frame in source.frames(episode, rows))
        yield from with_numbers(frames, numbers_of(source, rows))


def numbers_of(source: LeRobotFolder, rows: Table) -> dict[str, NDArray[Any]]:
    """The features of numbers by the names that a store has for them, (n, ...)."""
    arrays = {}
    for feature, numbers in source.numbers.items():
        values = np.array(rows[feature].to_pylist(), numbers.dtype).reshape(rows.num_rows, *numbers.shape)
        arrays[numbers.name] = as_stored(numbers.name, values)
    return arrays


def _stored(feature: str) -> str:
    return feature.removeprefix("observation.").replace(".", "_")


def read_table(file: Path, columns: list[str] | None = None) -> Table:
    """A parquet file; columns: all where None."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("a dataset of LeRobot's", "lerobot") from error
    with reading(str(file), AGAIN):
        return parquet.read_table(file, columns=columns)


def _decoded(cell: Mapping[str, Any], root: Path) -> Frames:
    """An image of a table: its bytes, or the path of its file."""
    with reading(f"an image of {root}", AGAIN):
        source = root / cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"])
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))


def video_frames(file: Path, start: float, count: int, fps: float) -> Iterator[Frames]:
    """`count` frames (H, W, 3) of a video from `start` seconds on, at `fps` frames a second.

    Raises BadInput where one is missing: actions would be put beside the frames of others.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtra("a dataset of LeRobot's with videos", "lerobot") from error
    found = 0
    with reading(str(file), AGAIN), av.open(str(file)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"  # frames are decoded side by side
        container.seek(int(start / stream.time_base), stream=stream)  # to the last key frame before it
        for frame in container.decode(stream):
            late = frame.time - (start + found / fps)
            if found == count or late > TOLERANCE / fps:
                break
            if late > -TOLERANCE / fps:
                found += 1
                yield frame.to_ndarray(format="rgb24")
    if found < count:
        raise BadInput(f"{file} has no frame at {start + found / fps:.3f} s, where one is due; {AGAIN}")
