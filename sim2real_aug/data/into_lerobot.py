"""A store's frames in a copy of the LeRobot dataset that it was made of, which trains as the original does.

Anew are the frames of one camera, in videos or tables, and what meta/ says of them; every other file is copied. Videos
are encoded as LeRobot does (huggingface/lerobot, `encode_video_frames`), each frame at the time that it had.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sim2real_aug.data.features import camera_of, require_episodes
from sim2real_aug.data.lerobot import Episode, Frames, LeRobotFolder, numbers_of, read_table
from sim2real_aug.data.lerobot_meta import PIXELS, Levels, describe, levels_of
from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.data.stores import copy_folder, remove_store
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.progress import Progress, progress

MADE_BY = Path("meta", "augmentation.json")  # tells a copy from a dataset of the user's own
CODEC, ENCODER = "av1", "libsvtav1"
ENCODER_OPTIONS = {"g": "2", "crf": "30"}
FASTEST = 1001  # frames a second: rates are fractions of no larger denominator, as 30000/1001


def store_to_lerobot(store: str | Path, original: Path, target: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a copy of the dataset `original` to the folder `target`, with the frames of `store`; returns its summary.

    Frames may be of another size than the original's. Nothing appears at `target` before the copy is complete, in
    which meta/augmentation.json says how the frames were made.

    Raises BadInput for a store that was not made of such a dataset or has other episodes, an existing `target` (with
    `overwrite` for one that is no such copy), and frames with an odd side, of which there is no video.
    """
    buffer = ReplayBuffer.open(store)
    source = LeRobotFolder.open(original, camera_of(buffer, "lerobot", "a dataset of LeRobot's"))
    episodes = source.episodes()
    numbers = (numbers_of(source, rows) for _, rows in source.rows_of_each(episodes))
    require_episodes(buffer, [episode.length for episode in episodes], numbers, original)
    height, width = buffer.array("img").shape[1:3]
    if source.in_videos and (height % 2 or width % 2):
        raise BadInput(f"{store} has frames of {height}x{width}; a video's sides are even: convert with another --size")
    folder = copy_folder(target)
    if target.resolve().is_relative_to(original.resolve()):
        raise BadInput(f"{target} is in the original; choose a place outside")
    _refuse_existing(target, overwrite)
    _refuse_existing(folder, overwrite=True)
    remove_store(folder)
    _copy_others(source, episodes, folder)
    (folder / MADE_BY).write_text(json.dumps(buffer.attrs.get(ATTRIBUTE, {}), indent=2))
    levels = {episode.number: np.zeros((3, 256), np.int64) for episode in episodes}
    with progress("write frames", buffer.n_frames, unit="frames") as bar:
        copy = _Copy(source, buffer, folder, bar, levels)
        copy.write_videos(episodes) if source.in_videos else copy.write_tables(episodes)
    describe(source, folder, levels, (height, width), CODEC if source.in_videos else None)
    remove_store(target)
    folder.rename(target)
    return {"path": str(target), "camera": source.camera, "frames": buffer.n_frames, "episodes": len(episodes)}


def _refuse_existing(target: Path, overwrite: bool) -> None:
    """Only what `store_to_lerobot` wrote is ever replaced."""
    if target.exists() and not overwrite:
        raise BadInput(f"{target} exists; choose another path, or --overwrite to replace it")
    if target.exists() and not (target / MADE_BY).is_file():
        raise BadInput(f"{target} exists and has no {MADE_BY}; --overwrite replaces copies with other frames only")


def _copy_others(source: LeRobotFolder, episodes: list[Episode], folder: Path) -> None:
    """Every file but those that have the camera's frames."""
    anew = {episode.video if source.in_videos else episode.table for episode in episodes}
    files = [file for file in source.root.rglob("*") if file.is_file() and file not in anew]
    with progress("copy", len(files), unit="files") as bar:
        for file in files:
            place = folder / file.relative_to(source.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            bar.advance()


@dataclass(frozen=True)
class _Copy:
    """levels: of each episode's frames, counted as they are written."""

    source: LeRobotFolder
    buffer: ReplayBuffer
    folder: Path
    bar: Progress
    levels: dict[int, Levels]

    def write_videos(self, episodes: list[Episode]) -> None:
        """Each video of the camera; several episodes may share one."""
        in_order = sorted(episodes, key=lambda episode: (str(episode.video), episode.start))
        for video, sharing in groupby(in_order, key=lambda episode: episode.video):
            assert video is not None, "a dataset in videos has one for each episode"
            timed = (pair for episode in sharing for pair in self._timed(episode))
            write_video(self._place(video), timed, self.buffer.array("img").shape[1:3], self.source.fps)

    def write_tables(self, episodes: list[Episode]) -> None:
        """Each table, with the camera's images as PNG."""
        import pyarrow
        from pyarrow import parquet

        for file, sharing in groupby(episodes, key=lambda episode: episode.table):
            table = read_table(file)
            column = table.column_names.index(self.source.camera)
            cells = table[column].to_pylist()
            rows = {number: row for row, number in enumerate(table["index"].to_pylist())}
            for episode in sharing:
                for number, frame in enumerate(self._frames(episode), start=episode.first):
                    cells[rows[number]]["bytes"] = _png(frame)
            field = table.schema.field(column)
            table = table.set_column(column, field, pyarrow.array(cells, field.type))
            parquet.write_table(table, self._place(file))

    def _place(self, file: Path) -> Path:
        place = self.folder / file.relative_to(self.source.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _timed(self, episode: Episode) -> Iterator[tuple[float, Frames]]:
        """Its frames with their seconds in the video."""
        for number, frame in enumerate(self._frames(episode)):
            yield episode.start + number / self.source.fps, frame

    def _frames(self, episode: Episode) -> Iterator[Frames]:
        """Its frames (H, W, 3) in the store, a chunk in memory at a time."""
        start, stop, step = episode.first, episode.first + episode.length, self.buffer.image_chunk
        for first, end in pairwise([start, *range((start // step + 1) * step, stop, step), stop]):
            for frame in self.buffer.images(first, end):
                self.levels[episode.number][:] += levels_of(frame)
                yield frame
            self.bar.advance(end - first)


def _png(frame: Frames) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "png")
    return out.getvalue()


def write_video(file: Path, timed: Iterable[tuple[float, Frames]], size: tuple[int, ...], fps: float) -> None:
    """timed: the second of each frame, and the frame (H, W, 3), in order. size: height and width, both even."""
    try:
        import av
    except ImportError as error:
        raise MissingExtra("a dataset of LeRobot's with videos", "lerobot") from error
    rate = Fraction(fps).limit_denominator(FASTEST)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(ENCODER, rate=rate, options=ENCODER_OPTIONS)
        stream.pix_fmt, (stream.height, stream.width) = PIXELS, size
        for seconds, frame in timed:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(seconds * rate), 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
