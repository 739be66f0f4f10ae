"""Datasets of LeRobot's, written here by pyarrow and PyAV in the layout of versions 2.1 and 3.0."""

import io
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

LENGTHS, FPS, CAMERA = (4, 3, 5), 10, "observation.images.front"
SIZE = (32, 48)
TOTAL = sum(LENGTHS)
LEVELS = np.linspace(20, 235, TOTAL).round()  # of grey, one a frame
EPISODE = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
FRAME = np.concatenate([np.arange(length) for length in LENGTHS])


def png(level: float) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), level, np.uint8)).save(out, "png")
    return out.getvalue()


def rows(chosen: np.ndarray, images: bool) -> pa.Table:
    numbers = np.flatnonzero(chosen)
    columns: dict[str, Any] = {
        "observation.state": [[float(n), -float(n)] for n in numbers],
        "action": [[n / 2, 1.0] for n in numbers],
        "next.done": [bool(n % 2) for n in numbers],
        "timestamp": (FRAME[chosen] / FPS).astype(np.float32),
        "frame_index": FRAME[chosen],
        "episode_index": EPISODE[chosen],
        "index": numbers,
        "task_index": np.zeros(len(numbers), np.int64),
    }
    if images:
        columns[CAMERA] = [{"bytes": png(level), "path": None} for level in LEVELS[chosen]]
    return pa.table(columns)


def film(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = SIZE[1], SIZE[0], "yuv420p", 4_000_000
        stream.time_base = Fraction(1, FPS)
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), level, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def features(dtype: str) -> dict[str, Any]:
    return {
        CAMERA: {"dtype": dtype, "shape": [*SIZE, 3], "names": ["height", "width", "channel"]},
        "observation.state": {"dtype": "float32", "shape": [2]},
        "action": {"dtype": "float32", "shape": [2]},
        "next.done": {"dtype": "bool", "shape": [1]},
        "timestamp": {"dtype": "float32", "shape": [1]},
        **{name: {"dtype": "int64", "shape": [1]} for name in ("frame_index", "episode_index", "index", "task_index")},
    }


def write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def version_2(root: Path, dtype: str = "video") -> Path:
    """A file of each episode."""
    info = {
        "codebase_version": "v2.1",
        "fps": FPS,
        "chunks_size": 2,
        "features": features(dtype),
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    for episode in range(len(LENGTHS)):
        place, mine = f"chunk-{episode // 2:03d}", episode == EPISODE
        write(rows(mine, dtype == "image"), root / "data" / place / f"episode_{episode:06d}.parquet")
        if dtype == "video":
            film(root / "videos" / place / CAMERA / f"episode_{episode:06d}.mp4", LEVELS[mine])
    lines = [json.dumps({"episode_index": n, "tasks": ["push"], "length": length}) for n, length in enumerate(LENGTHS)]
    return described(root, info, "\n".join(lines) + "\n")


def described(root: Path, info: dict[str, Any], lines: str | None = None) -> Path:
    (root / "meta").mkdir(parents=True, exist_ok=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    if lines is not None:
        (root / "meta/episodes.jsonl").write_text(lines)
    return root


def version_3(root: Path, dtype: str = "video") -> Path:
    """All rows in one file; the first two episodes in one video, the last in another."""
    info = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "features": features(dtype),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    write(rows(EPISODE >= 0, dtype == "image"), root / "data/chunk-000/file-000.parquet")
    for file, mine in enumerate((EPISODE < 2, EPISODE == 2) if dtype == "video" else ()):
        film(root / f"videos/{CAMERA}/chunk-000/file-{file:03d}.mp4", LEVELS[mine])
    starts = (0, LENGTHS[0] / FPS, 0)
    episodes = [
        {
            "episode_index": n,
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": 0,
            f"videos/{CAMERA}/chunk_index": 0,
            f"videos/{CAMERA}/file_index": n // 2,
            f"videos/{CAMERA}/from_timestamp": starts[n],
        }
        for n, length in enumerate(LENGTHS)
    ]
    write(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    return described(root, info)


MAKERS = {"2.1": version_2, "2.1 images": lambda root: version_2(root, "image"), "3.0": version_3}
