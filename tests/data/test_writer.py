"""Writing: readable by plain zarr, laid out as diffusion_policy's, and safe against a crash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter
from sim2real_aug.data import writer as writer_module
from sim2real_aug.data.convert import convert
from sim2real_aug.errors import BadInput

from .conftest import CHUNK, LENGTHS, make_arrays


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["x.zarr", "x.zarr.zip"])
def test_round_trip(tmp_path: Path, zarr_format: int, name: str) -> None:
    path = tmp_path / name
    episodes = [make_arrays(length, 100 * i) for i, length in enumerate(LENGTHS)]
    with ReplayBufferWriter.create(path, zarr_format, chunk_frames=CHUNK) as writer:
        for episode in episodes:
            writer.append_episode(episode)
    buffer = ReplayBuffer.open(path)
    assert buffer.zarr_format == zarr_format
    assert buffer.episode_ends.tolist() == np.cumsum(LENGTHS).tolist()
    for array in episodes[0]:
        np.testing.assert_array_equal(buffer.read(array), np.concatenate([e[array] for e in episodes]))
        assert buffer.array(array).dtype == episodes[0][array].dtype
        assert buffer.array(array).chunks[0] == CHUNK
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing left beside it


def test_an_episode_may_come_in_parts(tmp_path: Path) -> None:
    whole = {name: np.concatenate([make_arrays(n, n)[name] for n in (5, 9)]) for name in make_arrays(1)}
    with ReplayBufferWriter.create(tmp_path / "x.zarr", chunk_frames=CHUNK) as writer:
        writer.append_episode(make_arrays(5, 5))
        for start in range(0, 14, 6):
            writer.append_part({name: values[start : start + 6] for name, values in whole.items()})
        assert writer.n_frames == 5, "frames without an end do not count"
        with pytest.raises(BadInput, match="every episode needs the arrays"):
            writer.append_part({"img": whole["img"]})
        writer.end_episode()
        writer.append_part(make_arrays(2))
    with ReplayBufferWriter.resume(tmp_path / "x.zarr") as writer:
        assert writer.episode_ends == [5, 19], "what was begun is dropped"
    buffer = ReplayBuffer.open(tmp_path / "x.zarr")
    for name, values in whole.items():
        np.testing.assert_array_equal(buffer.read(name, 5), values)


def test_zarr_2_documents_are_diffusion_policys(store: Path) -> None:
    # the published store's own data/img/.zarray, with our dtype, shape and chunks
    document = json.loads((store / "data/img/.zarray").read_text())
    assert document.pop("dimension_separator", ".") == "."  # what format 2 takes when it is not said
    assert document == {
        "chunks": [8, 12, 12, 3],
        "compressor": {"blocksize": 0, "clevel": 5, "cname": "zstd", "id": "blosc", "shuffle": 2},
        "dtype": "|u1",
        "fill_value": 0,
        "filters": None,
        "order": "C",
        "shape": [21, 12, 12, 3],
        "zarr_format": 2,
    }
    assert json.loads((store / "meta/episode_ends/.zarray").read_text())["dtype"] == "<i8"
    assert sorted(p.name for p in store.iterdir()) == [".zattrs", ".zgroup", "data", "meta"]
    assert sorted(p.name for p in (store / "data/n_contacts").iterdir() if p.name[0] != ".") == [
        "0.0",
        "1.0",
        "2.0",
    ]


def test_a_crash_while_a_store_begins_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "create_array", crash)
        with pytest.raises(KeyboardInterrupt):
            ReplayBufferWriter.create(tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr").exists()
    ReplayBufferWriter.create(tmp_path / "x.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_existing_store_is_kept(store: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in store.rglob("*"))
    with pytest.raises(BadInput, match="--overwrite"):
        ReplayBufferWriter.create(store)
    assert sorted((p, p.stat().st_mtime_ns) for p in store.rglob("*")) == before
    ReplayBufferWriter.create(store, overwrite=True)
    with pytest.raises(BadInput, match="no episodes"):
        ReplayBuffer.open(store)


def test_overwrite_never_removes_something_else(tmp_path: Path) -> None:
    thesis = tmp_path / "home" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    for path in (thesis.parent, thesis):
        with pytest.raises(BadInput, match="not a zarr store"):
            ReplayBufferWriter.create(path, overwrite=True)
    assert thesis.read_text() == "years of work"


def test_a_link_and_a_folder_that_is_called_a_zip_are_refused_at_the_door(store: Path, tmp_path: Path) -> None:
    convert(store, tmp_path / "old.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "old.zarr")
    with pytest.raises(BadInput, match="is a link; give the place"):
        convert(store, tmp_path / "link.zarr", overwrite=True)
    shutil.copytree(store, tmp_path / "copy.zarr.zip")
    with pytest.raises(BadInput, match="is a folder, not a zip"):
        convert(store, tmp_path / "copy.zarr.zip", overwrite=True)
    assert ReplayBuffer.open(tmp_path / "old.zarr").n_frames == 21


def test_bad_episode_leaves_the_store_as_it_was(store: Path) -> None:
    writer = ReplayBufferWriter.resume(store)
    good = make_arrays(3)
    bad = [
        {**good, "state": good["state"][:2]},
        {**good, "img": good["img"].astype(np.float32)},
        {**good, "state": good["state"][:, :4]},
        {**good, "action": np.full((3, 2), np.nan, np.float32)},
        {k: v for k, v in good.items() if k != "action"},
        {k: v[:0] for k, v in good.items()},
        {},
    ]
    for episode in bad:
        with pytest.raises(BadInput):
            writer.append_episode(episode)
    assert ReplayBuffer.open(store).n_frames == 21


def test_resume_drops_the_unfinished_episode(store: Path) -> None:
    reference = ReplayBuffer.open(store).read("img")
    group = zarr.open_group(str(store), mode="r+")
    group["data/img"].resize((30, 12, 12, 3))  # killed after the images and inside episode_ends
    group["data/img"][21:30] = 255
    group["meta/episode_ends"].resize((5,))
    with pytest.raises(BadInput):
        ReplayBuffer.open(store)
    with ReplayBufferWriter.resume(store, chunk_frames=CHUNK) as writer:
        assert (writer.n_episodes, writer.n_frames) == (4, 21)
        extra = make_arrays(4, 21)
        writer.append_episode(extra)
    buffer = ReplayBuffer.open(store)
    np.testing.assert_array_equal(buffer.read("img"), np.concatenate([reference, extra["img"]]))
    assert buffer.episode_ends.tolist() == [5, 6, 15, 21, 25]


def test_resume_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no unfinished replay buffer"):
        ReplayBufferWriter.resume(tmp_path / "x.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["copy.zarr", "copy.zarr.zip"])
def test_convert_keeps_everything(store: Path, tmp_path: Path, zarr_format: int, name: str) -> None:
    zarr.open_group(str(store), mode="r+")["meta"].create_array("task", data=np.array([1, 2, 3, 4]))
    path = tmp_path / name
    summary = convert(store, path, zarr_format)
    source, copy = ReplayBuffer.open(store), ReplayBuffer.open(path)
    assert summary["zarr_format"] == copy.zarr_format == zarr_format
    assert copy.content_hash() == source.content_hash()
    assert copy.attrs == source.attrs
    assert copy.group["meta/task"][:].tolist() == [1, 2, 3, 4]
    for array in source.names:
        np.testing.assert_array_equal(copy.read(array), source.read(array))


def test_convert_float_frames_to_uint8(store: Path, tmp_path: Path) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    frames = group["img"][:]
    del group["img"]
    group.create_array("img", data=frames.astype(np.float32), chunks=(8, 12, 12, 3))
    convert(store, tmp_path / "small.zarr", as_uint8=True)
    copy = ReplayBuffer.open(tmp_path / "small.zarr")
    assert copy.array("img").dtype == np.uint8
    np.testing.assert_array_equal(copy.read("img"), frames)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_convert_keeps_scalars_and_what_is_in_groups_of_groups(
    store: Path, tmp_path: Path, zarr_format: int
) -> None:
    source = zarr.open_group(str(store), mode="r+")
    force, scalar = np.random.default_rng(0).normal(size=(21, 2)), np.array(0.25)
    for path, values in (("data/obs/force", force), ("meta/info/t", np.arange(3)), ("meta/rate", scalar)):
        source.create_array(path, data=values)
    source.create_array("beside", data=np.arange(4))
    source["data/obs"].attrs["unit"] = "N"
    convert(store, tmp_path / "copy.zarr", zarr_format)
    copy = zarr.open_group(str(tmp_path / "copy.zarr"), mode="r")
    np.testing.assert_array_equal(copy["data/obs/force"][:], force)
    assert copy["meta/info/t"][:].tolist() == [0, 1, 2]
    assert copy["beside"][:].tolist() == [0, 1, 2, 3]
    assert (copy["meta/rate"].shape, float(copy["meta/rate"][...])) == ((), 0.25)
    assert dict(copy["data/obs"].attrs) == {"unit": "N"}


def test_convert_to_uint8_leaves_what_is_no_frames(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    frames = group["img"][:].astype(np.float32)
    points = np.random.default_rng(0).uniform(0, 2, frames.shape).astype(np.float32)
    for name, values in (("points", points), ("valid", frames % 2), ("wrist", frames)):
        group.create_array(name, data=values, chunks=(8, 12, 12, 3))
    convert(store, tmp_path / "small.zarr", as_uint8=True)
    copy = ReplayBuffer.open(tmp_path / "small.zarr")
    np.testing.assert_array_equal(copy.read("points"), points)
    assert (copy.array("valid").dtype, copy.array("wrist").dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(copy.read("wrist"), frames)
    assert "not stored as uint8: data/points, data/valid" in capsys.readouterr().err


def test_convert_refuses(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="source itself"):
        convert(store, store, overwrite=True)
    with pytest.raises(BadInput, match="zarr_format must be 2 or 3; got 4"):
        convert(store, tmp_path / "x.zarr", 4)
    convert(store, tmp_path / "x.zarr")
    with pytest.raises(BadInput, match="exists"):
        convert(store, tmp_path / "x.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.zarr", "x.zarr"]
