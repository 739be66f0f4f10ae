"""Edited frames on their way back into LeRobot's datasets."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import parquet

from sim2real_aug.cli.app import run
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.data.into_lerobot import store_to_lerobot, write_video
from sim2real_aug.data.lerobot import lerobot_to_store, video_frames
from sim2real_aug.data.lerobot_meta import levels_of, statistic
from sim2real_aug.errors import BadInput

from .lerobot_datasets import (
    CAMERA,
    EPISODE,
    FPS,
    LENGTHS,
    LEVELS,
    MAKERS,
    SIZE,
    TOTAL,
    rows,
    version_2,
    version_3,
    write,
)

EDITED = 255 - LEVELS
MADE_BY = {"editor": "a test"}
UNKNOWN = {"min": [[[9.0]]] * 3, "mean": [[[9.0]]] * 3, "q50": [[[9.0]]] * 3, "count": [9], "kurtosis": [[[9.0]]] * 3}


def edited_store(root: Path, place: Path, shorter: int | None = None) -> Path:
    """The store of a dataset, each frame with the light of EDITED."""
    lerobot_to_store(root, place, shorter=shorter)
    group = zarr.open_group(str(place), mode="r+")
    group["data/img"][:] = np.broadcast_to(EDITED[:, None, None, None], group["data/img"].shape).astype(np.uint8)
    group.attrs["augmentation"] = MADE_BY
    return place


def with_statistics(root: Path) -> Path:
    """Statistics in all three places of the versions, of the camera and of the actions."""
    both = {CAMERA: UNKNOWN, "action": {"mean": [1.0, 2.0]}}
    (root / "meta/stats.json").write_text(json.dumps(both))
    if table := next((root / "meta").rglob("*.parquet"), None):
        episodes = parquet.read_table(table)
        for name, value in UNKNOWN.items():
            episodes = episodes.append_column(f"stats/{CAMERA}/{name}", pa.array([value] * len(LENGTHS)))
        write(episodes, table)
    else:
        lines = (json.dumps({"episode_index": n, "stats": both}) for n in range(len(LENGTHS)))
        (root / "meta/episodes_stats.jsonl").write_text("\n".join(lines) + "\n")
    return root


def files_of(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("layout", MAKERS)
def test_a_copy_has_the_edits_and_all_else_as_it_was(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path / "pusht")
    (root / "README.md").write_text("mine")
    store = edited_store(root, tmp_path / "edited.zarr")
    summary = store_to_lerobot(store, root, tmp_path / "copy")
    assert (summary["camera"], summary["frames"], summary["edits"], summary["episodes"]) == (CAMERA, TOTAL, TOTAL, 3)
    lerobot_to_store(tmp_path / "copy", tmp_path / "again.zarr")
    before, again = ReplayBuffer.open(store), ReplayBuffer.open(tmp_path / "again.zarr")
    np.testing.assert_allclose(again.images().mean((1, 2, 3)), EDITED, atol=0 if "images" in layout else 3)
    for name in {*before.names} - {"img"}:
        np.testing.assert_array_equal(again.read(name), before.read(name))
    old, new = files_of(root), files_of(tmp_path / "copy")
    assert json.loads(new.pop("meta/augmentation.json")) == {CAMERA: MADE_BY}
    assert {*new} == {*old}
    with_frames = ".parquet" if "images" in layout else ".mp4"
    changed = {name for name in old if old[name] != new[name] and name != "meta/info.json"}
    assert changed == {name for name in old if name.endswith(with_frames)}
    assert not [*tmp_path.glob("*.copying"), *tmp_path.glob(".copy*")]


@pytest.mark.parametrize("make", [version_2, version_3])
def test_statistics_are_those_of_the_new_frames(tmp_path: Path, make: Any) -> None:
    root = with_statistics(make(tmp_path / "pusht"))
    store_to_lerobot(edited_store(root, tmp_path / "edited.zarr"), root, tmp_path / "copy")

    def of(said: dict[str, Any], light: np.ndarray) -> None:
        told = {name: np.ravel(value) for name, value in said.items()}
        np.testing.assert_allclose(told["min"], [light.min() / 255] * 3)
        np.testing.assert_allclose(told["mean"], [light.mean() / 255] * 3)
        np.testing.assert_allclose(told["q50"], [np.quantile(light, 0.5, method="inverted_cdf") / 255] * 3)
        assert told["count"].tolist() == [len(light)]
        assert said["kurtosis"] == UNKNOWN["kurtosis"], "one that we do not know stays"

    whole = json.loads((tmp_path / "copy/meta/stats.json").read_text())
    of(whole[CAMERA], EDITED)
    assert np.shape(whole[CAMERA]["mean"]) == (3, 1, 1)
    assert whole["action"] == {"mean": [1.0, 2.0]}
    for number in range(len(LENGTHS)):
        if make is version_2:
            line = (tmp_path / "copy/meta/episodes_stats.jsonl").read_text().splitlines()[number]
            said = json.loads(line)["stats"][CAMERA]
        else:
            row = parquet.read_table(next((tmp_path / "copy/meta/episodes").rglob("*.parquet"))).to_pylist()[number]
            said = {name: row[f"stats/{CAMERA}/{name}"] for name in UNKNOWN}
        of(said, EDITED[number == EPISODE])


def test_statistics_agree_with_numpys() -> None:
    frames = np.random.default_rng(0).integers(3, 200, (5, 6, 7, 3)).astype(np.uint8)
    levels, light = sum(levels_of(frame) for frame in frames), frames.reshape(-1, 3) / 255
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(np.ravel(statistic(name, levels, 5)), getattr(light, name)(0), atol=1e-12)
    low = np.quantile(light, 0.01, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(np.ravel(statistic("q01", levels, 5)), low)


def test_frames_of_another_size_change_what_meta_says(tmp_path: Path) -> None:
    root = version_3(tmp_path / "pusht")
    info = json.loads((root / "meta/info.json").read_text())
    of_video = {"video.height": 32, "video.width": 48, "video.codec": "mpeg4", "video.fps": FPS, "has_audio": False}
    info["features"][CAMERA]["info"] = of_video
    (root / "meta/info.json").write_text(json.dumps(info))
    store_to_lerobot(edited_store(root, tmp_path / "edited.zarr", shorter=16), root, tmp_path / "copy")
    said = json.loads((tmp_path / "copy/meta/info.json").read_text())["features"]
    assert said[CAMERA]["shape"] == [16, 24, 3]
    assert said[CAMERA]["info"] == {**of_video, "video.height": 16, "video.width": 24, "video.codec": "av1"}
    assert said["action"] == info["features"]["action"]
    lerobot_to_store(tmp_path / "copy", tmp_path / "again.zarr")
    assert ReplayBuffer.open(tmp_path / "again.zarr").array("img").shape == (TOTAL, 16, 24, 3)


def test_a_rate_that_is_no_whole_number_keeps_its_times(tmp_path: Path) -> None:
    """LeRobot asks for a frame by its second, to a ten thousandth."""
    fps = 30000 / 1001
    timed = [(number / fps, np.full((*SIZE, 3), 20 * number, np.uint8)) for number in range(10)]
    write_video(tmp_path / "film.mp4", timed, SIZE, fps)
    with av.open(str(tmp_path / "film.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name in ("av1", "libdav1d", "libaom-av1")
    np.testing.assert_allclose(times, [seconds for seconds, _ in timed], atol=1e-4)
    assert len(list(video_frames(tmp_path / "film.mp4", 0.0, 10, fps))) == 10


def test_the_command_says_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = version_2(tmp_path / "pusht")
    store, copy = edited_store(root, tmp_path / "edited.zarr"), tmp_path / "copy"

    def refused(
        message: str, *words: str, source: Path = store, original: Path = root, target: Path = copy
    ) -> None:
        capsys.readouterr()
        assert run(["convert", str(source), str(target), "--like", str(original), *words]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not list(tmp_path.glob("copy*.copying"))

    refused("--like takes no other option", "--size", "16")
    refused("--like is for an edited store's frames; ", source=root)
    refused("--like none: there is nothing; give the dataset that ", original=Path("none"))
    refused("give the dataset of LeRobot's or the HDF5 file that ", original=store)
    copy.mkdir()
    refused("copy exists; choose another path, or --overwrite to replace it")
    refused("copy exists; --overwrite replaces only what `convert --like` wrote", "--overwrite")
    copy.rmdir()
    copy.symlink_to(root)
    refused("copy is a link; give the place that it leads to, ")
    copy.unlink()
    assert run(["convert", str(store), str(copy), "--like", str(root)]) == 0
    assert run(["convert", str(store), str(copy), "--like", str(root), "--overwrite"]) == 0
    refused("are one in the other; choose a place outside", target=root / "copy")
    refused("the copy of a LeRobot dataset is a folder", target=tmp_path / "copy.zip")
    (tmp_path / "file").touch()
    refused("cannot be ", target=tmp_path / "file/copy")


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    root = version_2(tmp_path / "pusht", "image")
    store = edited_store(root, tmp_path / "edited.zarr")
    group = zarr.open_group(str(store), mode="r+")
    group["data/action"][5] += 1
    with pytest.raises(BadInput, match=r"was not made of .*pusht: data/action of episode 1 has other numbers"):
        store_to_lerobot(store, root, tmp_path / "copy")
    group["meta/episode_ends"][:2] = [5, 7]
    with pytest.raises(BadInput, match="its episode 0 has 5 frames, not 4"):
        store_to_lerobot(store, root, tmp_path / "copy")
    del group.attrs["augmentation"]
    with pytest.raises(BadInput, match="has no edits; give the store that `augment` wrote"):
        store_to_lerobot(store, root, tmp_path / "copy")
    del group.attrs["lerobot"]
    with pytest.raises(BadInput, match="was not made of a dataset of LeRobot's: it has no attribute 'lerobot'"):
        store_to_lerobot(store, root, tmp_path / "copy")
    odd = edited_store(version_2(tmp_path / "films"), tmp_path / "odd.zarr", shorter=15)
    with pytest.raises(BadInput, match="frames are 15x22, a video's sides even; convert with another --size"):
        store_to_lerobot(odd, tmp_path / "films", tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))


def test_tables_may_hold_episodes_in_any_order(tmp_path: Path) -> None:
    root = version_3(tmp_path / "pusht", "image")
    for file, mine in enumerate((EPISODE != 1, EPISODE == 1)):
        write(rows(mine, images=True), root / f"data/chunk-000/file-{file:03d}.parquet")
    store_to_lerobot(edited_store(root, tmp_path / "edited.zarr"), root, tmp_path / "copy")
    lerobot_to_store(tmp_path / "copy", tmp_path / "again.zarr")
    np.testing.assert_array_equal(ReplayBuffer.open(tmp_path / "again.zarr").images().mean((1, 2, 3)), EDITED)


def test_tables_are_compressed_and_grouped_as_they_were(tmp_path: Path) -> None:
    root = version_3(tmp_path / "pusht", "image")
    table = root / "data/chunk-000/file-000.parquet"
    parquet.write_table(rows(EPISODE >= 0, images=True), table, compression="zstd", row_group_size=5)
    store_to_lerobot(edited_store(root, tmp_path / "edited.zarr"), root, tmp_path / "copy")
    said = parquet.ParquetFile(tmp_path / "copy" / table.relative_to(root)).metadata
    assert [said.row_group(n).num_rows for n in range(said.num_row_groups)] == [5, 5, 2]
    assert said.row_group(0).column(0).compression == "ZSTD"


def test_episodes_may_begin_between_the_frames_of_a_rate(tmp_path: Path) -> None:
    """Joined videos drift, and meta/ says by how much."""
    root = version_3(tmp_path / "pusht")
    store = edited_store(root, tmp_path / "edited.zarr")
    table = next((root / "meta/episodes").rglob("*.parquet"))
    later = [row | {f"videos/{CAMERA}/from_timestamp": 0.44} if n == 1 else row for n, row in enumerate(
        parquet.read_table(table).to_pylist()
    )]
    write(pa.Table.from_pylist(later), table)
    store_to_lerobot(store, root, tmp_path / "copy")
    lerobot_to_store(tmp_path / "copy", tmp_path / "again.zarr")
    frames = ReplayBuffer.open(tmp_path / "again.zarr").images()
    np.testing.assert_allclose(frames.mean((1, 2, 3)), EDITED, atol=3)


def test_what_is_behind_links_is_copied_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    root = version_2(tmp_path / "pusht")
    (root / ".cache").mkdir()
    (root / ".cache/old").write_text("frames")
    (root / "data").rename(tmp_path / "elsewhere")
    (root / "data").symlink_to(tmp_path / "elsewhere")
    store = edited_store(root, tmp_path / "edited.zarr")
    store_to_lerobot(store, root, tmp_path / "copy")
    assert len(list((tmp_path / "copy/data").rglob("*.parquet"))) == len(LENGTHS)
    assert not (tmp_path / "copy/.cache").exists()
    (root / "LICENSE").symlink_to("nowhere")
    with pytest.raises(BadInput, match="LICENSE is a link to nowhere, which is not there"):
        store_to_lerobot(store, root, tmp_path / "other")


def test_what_an_interrupted_call_left_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = version_2(tmp_path / "pusht", "image")
    store = edited_store(root, tmp_path / "edited.zarr")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfile", stopped)
        with pytest.raises(KeyboardInterrupt):
            store_to_lerobot(store, root, tmp_path / "copy")
    assert (tmp_path / "copy.copying").exists()
    store_to_lerobot(store, root, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"pusht", "edited.zarr", "copy"}
    (tmp_path / "more.copying").mkdir()
    with pytest.raises(BadInput, match=r"more\.copying is in the way"):
        store_to_lerobot(store, root, tmp_path / "more")


def test_a_second_camera_goes_into_the_copy_of_the_first(tmp_path: Path) -> None:
    root = version_2(tmp_path / "pusht", "image")
    store_to_lerobot(edited_store(root, tmp_path / "edited.zarr"), root, tmp_path / "first")
    said = tmp_path / "first/meta/augmentation.json"
    said.write_text(json.dumps({"observation.images.wrist": {"editor": "another"}}))
    store_to_lerobot(edited_store(root, tmp_path / "again.zarr"), tmp_path / "first", tmp_path / "both")
    both = json.loads((tmp_path / "both/meta/augmentation.json").read_text())
    assert both == {"observation.images.wrist": {"editor": "another"}, CAMERA: MADE_BY}
