"""A store's frames in a copy of the LeRobot dataset that it was made of, which a training reads as the original.

Anew are the frames of one camera, in videos or tables, and what meta/ says of them; every other file is copied. Videos
are encoded as LeRobot does (huggingface/lerobot, `encode_video_frames`), each frame at the time when it is due.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sim2real_aug.data.features import (
    camera_of,
    edits_of,
    refuse_but_copies,
    require_episodes,
    summary_of_copy,
)
from sim2real_aug.data.lerobot import Episode, Frames, LeRobotFolder, numbers_of, read_table
from sim2real_aug.data.lerobot_meta import PIXELS, Levels, describe, levels_of, rewrite_table
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.stores import copy_folder, is_url, is_zip, make_parent, move_over, remove_store
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.progress import Progress, progress

MADE_BY = Path("meta", "augmentation.json")  # tells a copy from a dataset of the user's own
CODEC, ENCODER = "av1", "libsvtav1"
ENCODER_OPTIONS = {"g": "2", "crf": "30"}
TICK = Fraction(1, 90000)  # of a video's clock, seconds: LeRobot asks for frames to a ten thousandth
MOST_DENOMINATOR = 1001  # of a rate, as 30000/1001


def store_to_lerobot(store: str | Path, original: Path, target: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write a copy of the dataset `original` to the folder `target`, with the frames of `store`; returns its summary.

    Frames may be of another size than the original's. Nothing appears at `target` before the copy is complete, in
    which meta/augmentation.json says, by camera, how the frames were made.

    Raises BadInput for a store without edits, or that was not made of this dataset; for frames with an odd side, of
    which there is no video; and for an existing `target`, with `overwrite`, too, where it is no such copy.
    """
    buffer = ReplayBuffer.open(store)
    source = LeRobotFolder.open(original, camera_of(buffer, "lerobot", "a dataset of LeRobot's"))
    _check_target(target, overwrite, (original, *([] if is_url(store) else [Path(store)])))
    height, width = buffer.array("img").shape[1:3]
    if source.in_videos:
        _require_encoder()
        if height % 2 or width % 2:
            raise BadInput(f"{store}: frames are {height}x{width}, a video's sides even; convert with another --size")
    episodes = source.episodes()
    numbers = (numbers_of(source, rows) for _, rows in source.rows_of_each(episodes, images=False))
    require_episodes(buffer, [episode.length for episode in episodes], numbers, original)
    folder = _begin(buffer, source, target)
    _copy_others(source, episodes, folder)
    levels = {episode.number: np.zeros((3, 256), np.int64) for episode in episodes}
    with progress("write frames", buffer.n_frames, unit="frames") as bar:
        copy = _Copy(source, buffer, folder, bar, levels)
        copy.write_videos(episodes) if source.in_videos else copy.write_tables(episodes)
    lengths = {episode.number: episode.length for episode in episodes}
    describe(source.camera, folder, levels, lengths, (height, width), CODEC if source.in_videos else None)
    move_over(folder, target)
    return summary_of_copy(buffer, target, source.camera)


def _check_target(target: Path, overwrite: bool, read: Iterable[Path]) -> None:
    """Only what `store_to_lerobot` wrote is ever replaced. read: what `target` may hold nothing of, nor be in."""
    if is_zip(target):
        raise BadInput(f"{target}: the copy of a LeRobot dataset is a folder; choose a name that does not end in .zip")
    refuse_but_copies(target, overwrite, lambda: (target / MADE_BY).is_file())
    for place in read:
        if target.resolve().is_relative_to(place.resolve()) or place.resolve().is_relative_to(target.resolve()):
            raise BadInput(f"{target} and {place} are one in the other; choose a place outside")


def _require_encoder() -> None:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("a dataset of LeRobot's with videos", "lerobot") from error
    try:
        av.Codec(ENCODER, "w")
    except ValueError as error:
        raise BadInput(f"this PyAV cannot write videos: it has no {ENCODER}; pip install its own wheel, av") from error


def _begin(buffer: ReplayBuffer, source: LeRobotFolder, target: Path) -> Path:
    """The folder that becomes the copy, which says how by its first file; one of an interrupted call is begun anew."""
    folder, said = copy_folder(target), source.root / MADE_BY
    make_parent(target)
    if folder.exists() and not (folder / MADE_BY).is_file():
        raise BadInput(f"{folder} is in the way; move it, or choose another path")
    remove_store(folder)
    before = json.loads(said.read_text()) if said.is_file() else {}
    (folder / MADE_BY).parent.mkdir(parents=True)
    (folder / MADE_BY).write_text(json.dumps({**before, source.camera: edits_of(buffer)}, indent=2))
    return folder


def _copy_others(source: LeRobotFolder, episodes: list[Episode], folder: Path) -> None:
    """Every file but those that have the camera's frames; what is hidden, a cache or git's, is left out."""
    anew = {source.root / MADE_BY, *(episode.video if source.in_videos else episode.table for episode in episodes)}
    files = [file for file in _files(source.root) if file not in anew]
    with progress("copy", len(files), unit="files") as bar:
        for file in files:
            place = folder / file.relative_to(source.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            bar.advance()


def _files(root: Path) -> Iterator[Path]:
    """In `root` and below it, also behind links. Raises BadInput for a link that leads nowhere."""
    for place, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(place, name) for name in names):
            if not file.exists():
                raise BadInput(f"{file} is a link to {file.readlink()}, which is not there; download the dataset again")
            yield file


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
        """Each table, with the camera's images as PNG; several episodes may share one."""
        in_order = sorted(episodes, key=lambda episode: (str(episode.table), episode.first))
        for file, sharing in groupby(in_order, key=lambda episode: episode.table):
            table = read_table(file)
            cells = table[self.source.camera].to_pylist()
            rows = {number: row for row, number in enumerate(table["index"].to_pylist())}
            for episode in sharing:
                for number, frame in enumerate(self._frames(episode), start=episode.first):
                    cells[rows[number]]["bytes"] = _png(frame)
            rewrite_table(table, file, {self.source.camera: cells}, self._place(file))

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
    import av

    os.environ.setdefault("SVT_LOG", "1")  # the encoder's own lines: errors
    rate = Fraction(fps).limit_denominator(MOST_DENOMINATOR)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(ENCODER, rate=rate, options=ENCODER_OPTIONS)
        stream.pix_fmt, (stream.height, stream.width) = PIXELS, size
        stream.time_base = stream.codec_context.time_base = TICK
        for seconds, frame in timed:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(seconds / TICK), TICK
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
