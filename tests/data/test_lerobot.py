"""LeRobot's datasets, made replay buffers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.cli.app import run
from sim2real_aug.data import AugmentedDataset, ReplayBuffer, images
from sim2real_aug.data.lerobot import lerobot_to_store, video_frames
from sim2real_aug.errors import BadInput

from .lerobot_datasets import (
    CAMERA,
    EPISODE,
    FPS,
    FRAME,
    LEVELS,
    MAKERS,
    SIZE,
    TOTAL,
    described,
    film,
    rows,
    version_2,
    version_3,
    write,
)


@pytest.mark.parametrize("layout", MAKERS)
@pytest.mark.parametrize("frames_at_once", [2, 100])
def test_every_version_gives_the_same_store(
    tmp_path: Path, layout: str, frames_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "BLOCK_BYTES", frames_at_once * SIZE[0] * SIZE[1] * 3)
    summary = lerobot_to_store(MAKERS[layout](tmp_path / "pusht"), tmp_path / "out.zarr")
    store = ReplayBuffer.open(tmp_path / "out.zarr")
    assert (summary["frames"], summary["episodes"]) == (TOTAL, 3)
    assert store.episode_ends.tolist() == [4, 7, 12]
    assert store.names == ("action", "img", "next_done", "state", "task_index", "timestamp")
    frames = store.images().astype(float)
    assert frames.shape == (TOTAL, *SIZE, 3)
    np.testing.assert_allclose(frames.mean((1, 2, 3)), LEVELS, atol=0 if "images" in layout else 4)
    np.testing.assert_array_equal(store.read("state"), [[n, -n] for n in range(TOTAL)])
    np.testing.assert_array_equal(store.read("next_done")[:, 0], np.arange(TOTAL) % 2 == 1)
    assert store.read("action").dtype == np.float32
    assert store.attrs["lerobot"]["camera"] == CAMERA
    assert not list(tmp_path.glob("*.copying"))


def test_the_stores_frames_go_into_lerobots_items(tmp_path: Path) -> None:
    """An item of LeRobot's has its frame as (3, H, W) float in 0..1 and its number as `index`."""
    lerobot_to_store(version_2(tmp_path / "pusht", "image"), tmp_path / "edited.zarr")
    black = np.zeros((3, *SIZE), np.float32)
    items = [{CAMERA: black, "index": n, "frame_index": FRAME[n], "episode_index": EPISODE[n]} for n in range(TOTAL)]
    shown = AugmentedDataset(items, tmp_path / "edited.zarr", 1.0, image_keys=[CAMERA])
    assert [round(float(np.asarray(shown[n][CAMERA]).mean()) * 255) for n in range(TOTAL)] == LEVELS.tolist()


def test_the_command_makes_one_and_shrinks_its_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(version_2(tmp_path / "pusht", "image")), str(tmp_path / "out.zarr"), "--camera", CAMERA]
    assert run([*words, "--bayer", "gbrg"]) == 2
    assert "--bayer is for a folder of images; " in capsys.readouterr().err
    assert run([*words, "--size", "16"]) == 0
    assert ReplayBuffer.open(tmp_path / "out.zarr").array("img").shape == (TOTAL, 16, 24, 3)


def refused(tmp_path: Path, root: Path, message: str, camera: str | None = None) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        lerobot_to_store(root, tmp_path / "out.zarr", camera)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out.zarr*"))


def test_rows_are_found_where_they_are_whatever_meta_says(tmp_path: Path) -> None:
    """LeRobot's own converter to version 3 named, for the first episode of a new table, the table before."""
    root = version_3(tmp_path / "pusht")
    for file, mine in enumerate((EPISODE < 1, EPISODE >= 1)):
        write(rows(mine, images=False), root / f"data/chunk-000/file-{file:03d}.parquet")
    lerobot_to_store(root, tmp_path / "out.zarr")
    store = ReplayBuffer.open(tmp_path / "out.zarr")
    np.testing.assert_array_equal(store.read("state"), [[n, -n] for n in range(TOTAL)])


def test_frames_are_those_of_their_time_or_none(tmp_path: Path) -> None:
    """Of a video with twice as many frames each second one is read; one that is half a frame late is not there."""
    film(tmp_path / "fast.mp4", np.arange(10.0) * 20)
    read = [int(frame.mean() / 20 + 0.5) for frame in video_frames(tmp_path / "fast.mp4", 0, 5, FPS / 2)]
    assert read == [0, 2, 4, 6, 8]
    with pytest.raises(BadInput, match=r"no frame at 0\.050 s"):
        list(video_frames(tmp_path / "fast.mp4", 0.5 / FPS, 5, FPS))


def test_numbers_keep_the_type_that_the_dataset_says(tmp_path: Path) -> None:
    """Seconds since 1970 need float64; state and action are float32, as in every store."""
    info = json.loads((version_2(tmp_path / "pusht", "image") / "meta/info.json").read_text())
    info["features"]["timestamp"]["dtype"] = info["features"]["action"]["dtype"] = "float64"
    lerobot_to_store(described(tmp_path / "pusht", info), tmp_path / "out.zarr")
    store = ReplayBuffer.open(tmp_path / "out.zarr")
    assert [store.read(name).dtype.name for name in ("timestamp", "action")] == ["float64", "float32"]


def test_descriptions_that_do_not_hold_are_refused_in_one_line(tmp_path: Path) -> None:
    root = version_2(tmp_path / "pusht", "image")
    info = json.loads((root / "meta/info.json").read_text())
    said = info["features"]
    for wrong, message in (
        ({"fps": None}, "info.json does not describe a dataset of LeRobot's"),
        ({"features": [*said]}, "info.json does not describe a dataset of LeRobot's"),
        ({"features": {name: value for name, value in said.items() if name != CAMERA}}, "pusht holds no images"),
        ({"features": {**said, "state": said["action"]}}, "observation.state and state would both be data/state"),
        ({"features": {**said, "action": {"dtype": "float32", "shape": [3]}}}, "episode 0 of .*cannot be read"),
    ):
        described(root, {**info, **wrong})
        refused(tmp_path, root, message)
    described(root, info)
    write(rows(EPISODE == 1, images=False).append_column(CAMERA, [[None] * 3]), next(root.rglob("*_000001.parquet")))
    refused(tmp_path, root, "an image of .* cannot be read")


@pytest.mark.parametrize("layout", ["2.1", "3.0"])
def test_a_missing_extra_is_no_damage(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = MAKERS[layout](tmp_path / "pusht")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(tmp_path, root, r"^a dataset of LeRobot's needs an extra: pip install 'sim2real-aug\[lerobot\]'$")


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    root = version_3(tmp_path / "pusht")
    info = json.loads((root / "meta/info.json").read_text())
    refused(tmp_path, root, "unknown camera 'side'. .*observation.images.front", "side")
    described(root, {**info, "codebase_version": "v1.6"})
    refused(tmp_path, root, "version v1.6; read are v2.0, v2.1, v3.0")
    wrist = {**info["features"], "observation.images.wrist": info["features"][CAMERA]}
    described(root, {**info, "features": wrist})
    refused(tmp_path, root, "has 2 cameras, observation.images.front, observation.images.wrist: say with --camera")
    described(root, {**info, "features": {**info["features"], "force": {"dtype": "float32", "shape": [3]}}})
    refused(tmp_path, root, "file-000.parquet has no force, which meta/ names")
    described(root, info)
    video = root / f"videos/{CAMERA}/chunk-000/file-001.mp4"
    film(video, LEVELS[EPISODE == 2][:-1])
    refused(tmp_path, root, r"file-001.mp4 has no frame at 0\.400 s, where one is due")
    video.write_bytes(b"none")
    refused(tmp_path, root, "file-001.mp4 cannot be read")
    write(rows(EPISODE != 1, images=False), root / "data/chunk-000/file-000.parquet")
    refused(tmp_path, root, r"data has no rows of episode 1, which meta/ names")
    moved = rows(EPISODE >= 0, images=False).set_column(6, "index", [np.roll(np.arange(TOTAL), 1)])
    write(moved, root / "data/chunk-000/file-000.parquet")
    refused(tmp_path, root, "the rows of episode 0 are not those with index 0 to 3")
    (root / "data/chunk-000/file-000.parquet").write_bytes(b"none")
    refused(tmp_path, root, "file-000.parquet cannot be read")
    (root / "meta/info.json").write_text("{}")
    refused(tmp_path, root, "info.json does not describe a dataset of LeRobot's")
