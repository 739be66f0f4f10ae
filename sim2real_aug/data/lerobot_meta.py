"""What meta/ of a LeRobot dataset says of a camera's frames, after these are others: shape, codec and statistics.

Legend: levels (3, 256) int64, how many pixels of a channel have a value. Statistics are of light in 0..1, as LeRobot's
(`compute_stats.py`), but of every frame and pixel, where LeRobot takes samples.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.lerobot import read_table
from sim2real_aug.data.stores import LEROBOT_INFO

if TYPE_CHECKING:
    from pyarrow import Table

PIXELS = "yuv420p"  # how videos keep them
Levels = NDArray[np.int64]
LIGHT = np.arange(256) / 255


def levels_of(frame: NDArray[np.uint8]) -> Levels:
    """Of one frame (H, W, 3)."""
    return np.stack([np.bincount(channel, minlength=256) for channel in frame.reshape(-1, 3).T])


def statistic(name: str, levels: Levels, frames: int) -> list[Any] | None:
    """What LeRobot calls `name` of that many frames, (3, 1, 1), or (1,) for their count; None for a name of later."""
    if name == "count":
        return [frames]
    pixels = levels.sum(1)
    mean = levels @ LIGHT / pixels
    if name == "mean":
        values = mean
    elif name == "std":
        values = np.sqrt(np.maximum(levels @ LIGHT**2 / pixels - mean**2, 0))
    elif name == "min":
        values = LIGHT[(levels > 0).argmax(1)]
    elif name == "max":
        values = LIGHT[255 - (levels[:, ::-1] > 0).argmax(1)]
    elif percent := re.fullmatch(r"q(\d\d)", name):
        values = LIGHT[(levels.cumsum(1) >= int(percent[1]) / 100 * pixels[:, None]).argmax(1)]
    else:
        return None
    return [[[float(value)]] for value in values]


def describe(
    camera: str,
    folder: Path,
    levels: Mapping[int, Levels],
    lengths: Mapping[int, int],
    size: tuple[int, int],
    codec: str | None,
) -> None:
    """Bring meta/ of the copy in `folder` up to date.

    levels, lengths: of each episode by its number. size: height, width. codec: of videos, None of images.
    """
    meta = folder / "meta"
    info = json.loads((folder / LEROBOT_INFO).read_text())
    _describe_frames(info["features"][camera], size, codec)
    (folder / LEROBOT_INFO).write_text(json.dumps(info, indent=4))
    if (whole := meta / "stats.json").is_file():
        statistics = json.loads(whole.read_text())
        _replace(statistics.get(camera, {}), sum(levels.values(), np.zeros((3, 256), np.int64)), sum(lengths.values()))
        whole.write_text(json.dumps(statistics, indent=4))
    if (lines := meta / "episodes_stats.jsonl").is_file():
        episodes = [json.loads(line) for line in lines.read_text().splitlines() if line]
        for episode in episodes:
            number = episode["episode_index"]
            _replace(episode["stats"].get(camera, {}), levels[number], lengths[number])
        lines.write_text("".join(json.dumps(episode) + "\n" for episode in episodes))
    for file in (meta / "episodes").rglob("*.parquet"):
        _replace_columns(file, f"stats/{camera}/", levels, lengths)


def _describe_frames(feature: dict[str, Any], size: tuple[int, int], codec: str | None) -> None:
    """A camera's entry of info.json; its shape is (H, W, 3) or (3, H, W)."""
    feature["shape"] = [*size, 3] if feature["shape"][-1] == 3 else [3, *size]
    of_video = feature.get("info") or feature.get("video_info")
    if codec is not None and of_video is not None:
        said = {"height": size[0], "width": size[1], "codec": codec, "pix_fmt": PIXELS}
        of_video |= {f"video.{name}": value for name, value in said.items() if f"video.{name}" in of_video}


def _replace(statistics: dict[str, Any], levels: Levels, frames: int) -> None:
    for name in statistics:
        value = statistic(name, levels, frames)
        if value is not None:
            statistics[name] = value


def _replace_columns(file: Path, prefix: str, levels: Mapping[int, Levels], lengths: Mapping[int, int]) -> None:
    """In a table of episodes, which has a column for each statistic."""
    table = read_table(file)
    numbers = table["episode_index"].to_pylist()
    anew = {}
    for column in table.column_names:
        if column.startswith(prefix):
            values = [statistic(column.removeprefix(prefix), levels[number], lengths[number]) for number in numbers]
            if None not in values:
                anew[column] = values
    rewrite_table(table, file, anew, file)


def rewrite_table(table: Table, file: Path, columns: Mapping[str, list[Any]], target: Path) -> None:
    """Write the table of `file` to `target` with other values in some columns, compressed and grouped as there."""
    import pyarrow
    from pyarrow import parquet

    group = parquet.ParquetFile(file).metadata.row_group(0)
    for name, values in columns.items():
        number = table.column_names.index(name)
        field = table.schema.field(number)
        table = table.set_column(number, field, pyarrow.array(values, field.type))
    parquet.write_table(table, target, compression=group.column(0).compression, row_group_size=group.num_rows)
