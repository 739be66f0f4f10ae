"""Edited frames on their way back into HDF5 files."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from sim2real_aug.cli.app import run
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.data.hdf5 import hdf5_to_store
from sim2real_aug.data.into_hdf5 import store_to_hdf5
from sim2real_aug.errors import BadInput

from .test_hdf5 import LENGTHS, write

CAMERA = "obs/agentview_image"


def edited_store(file: Path, place: Path, shorter: int | None = None) -> Path:
    """The store of a file, whose frames count up from 100."""
    hdf5_to_store(file, place, CAMERA, shorter=shorter)
    group = zarr.open_group(str(place), mode="r+")
    shape = group["data/img"].shape
    light = 100 + np.arange(shape[0], dtype=np.uint8)
    group["data/img"][:] = np.broadcast_to(light[:, None, None, None], shape)
    group.attrs["augmentation"] = {"editor": "a test"}
    group.create_array("data/edit_ok", data=light != 100)
    return place


def original(place: Path) -> Path:
    """With a second camera, compressed frames and frames of the next step."""
    with h5py.File(write(place), "a") as file:
        for name, length in LENGTHS.items():
            demo = file[f"data/{name}"]
            frames = demo[CAMERA][:]
            del demo[CAMERA]
            demo.create_dataset(CAMERA, data=frames, chunks=(1, 20, 30, 3), compression="gzip")
            demo[CAMERA].attrs["lens"] = "wide"
            demo["obs/wrist"] = np.full((length, 8, 8, 3), 7, np.uint8)
            demo["next_obs/agentview_image"] = frames
        file["data"].attrs["env_args"] = "{}"
    return place


def test_a_copy_has_the_edits_and_all_else_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = original(tmp_path / "demos.hdf5")
    summary = store_to_hdf5(edited_store(file, tmp_path / "edited.zarr"), file, tmp_path / "copy.hdf5")
    assert summary == {
        "path": str(tmp_path / "copy.hdf5"), "camera": CAMERA, "frames": 9, "edits": 8, "episodes": 3
    }  # fmt: skip
    with h5py.File(file) as before, h5py.File(tmp_path / "copy.hdf5") as after:
        names: list[str] = []
        before.visit(names.append)
        for name in names:
            assert dict(after[name].attrs) == dict(before[name].attrs)
            if isinstance(before[name], h5py.Dataset) and not name.endswith(f"/{CAMERA}"):
                np.testing.assert_array_equal(after[name], before[name])
        assert json.loads(after.attrs["augmentation"]) == {CAMERA: {"editor": "a test"}}
        frames = [after[f"data/{name}/{CAMERA}"] for name in ("demo_0", "demo_2", "demo_10")]
        assert [image[0, 0, 0] for demo in frames for image in demo] == [*range(100, 109)]
        assert {(demo.chunks, demo.compression) for demo in frames} == {((1, 20, 30, 3), "gzip")}
    assert "next_obs/agentview_image is as it was" in capsys.readouterr().err


def test_smaller_frames_go_back_as_well(tmp_path: Path) -> None:
    file = original(tmp_path / "demos.hdf5")
    store_to_hdf5(edited_store(file, tmp_path / "edited.zarr", shorter=10), file, tmp_path / "copy.hdf5")
    hdf5_to_store(tmp_path / "copy.hdf5", tmp_path / "again.zarr", CAMERA)
    assert ReplayBuffer.open(tmp_path / "again.zarr").array("img").shape == (9, 10, 15, 3)


def test_only_a_copy_of_ours_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, copy = original(tmp_path / "demos.hdf5"), tmp_path / "copy.hdf5"
    words = ["convert", str(edited_store(file, tmp_path / "edited.zarr")), str(copy), "--like", str(file)]
    assert run(words) == 0
    assert run(words) == 2
    assert "copy.hdf5 exists; choose another path, or --overwrite to replace it" in capsys.readouterr().err
    assert run([*words, "--overwrite"]) == 0
    for place, message in (
        (file, "demos.hdf5 exists; --overwrite replaces only what `convert --like` wrote"),
        (tmp_path / "copy", "copy: the copy of an HDF5 file is one; choose a name that ends in .hdf5"),
        (tmp_path / "demos.hdf5/copy.hdf5", "copy.hdf5 cannot be "),
    ):
        words[2] = str(place)
        assert run([*words, "--overwrite"]) == 2
        assert message in capsys.readouterr().err


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    store = edited_store(original(tmp_path / "demos.hdf5"), tmp_path / "edited.zarr")
    other = write(tmp_path / "other.hdf5", lambda demo: demo["actions"].write_direct(np.ones((3, 7))))
    with pytest.raises(BadInput, match=r"was not made of .*other\.hdf5: data/action of episode 1 has other numbers"):
        store_to_hdf5(store, other, tmp_path / "copy.hdf5")
    del zarr.open_group(str(store), mode="r+").attrs["hdf5"]
    with pytest.raises(BadInput, match="was not made of an HDF5 file"):
        store_to_hdf5(store, other, tmp_path / "copy.hdf5")
    assert not list(tmp_path.glob("copy*"))


def test_files_that_the_copy_cannot_be_made_of_are_refused(tmp_path: Path) -> None:
    file = original(tmp_path / "demos.hdf5")
    store = edited_store(file, tmp_path / "edited.zarr")
    with h5py.File(tmp_path / "links.hdf5", "w") as links:
        for name in LENGTHS:
            links[f"data/{name}"] = h5py.ExternalLink(str(file), f"data/{name}")
    with pytest.raises(BadInput, match=r"links\.hdf5: a demonstration is a link to .*demos\.hdf5; give that file"):
        store_to_hdf5(store, tmp_path / "links.hdf5", tmp_path / "copy.hdf5")
    with h5py.File(file, "a") as opened:
        del opened[f"data/demo_2/{CAMERA}"]
    with pytest.raises(BadInput, match="demo_2 has no obs/agentview_image with a row for each of its actions"):
        store_to_hdf5(store, file, tmp_path / "copy.hdf5")
    del zarr.open_group(str(store), mode="r+").attrs["augmentation"]
    with pytest.raises(BadInput, match="has no edits; give the store that `augment` wrote"):
        store_to_hdf5(store, file, tmp_path / "copy.hdf5")
    assert not list(tmp_path.glob("copy*"))


def test_links_and_filters_stay(tmp_path: Path) -> None:
    file = original(tmp_path / "demos.hdf5")
    with h5py.File(file, "a") as opened:
        opened["alias"] = h5py.SoftLink("/data/demo_0/actions")
        opened["nowhere"] = h5py.SoftLink("/none")
        frames = opened[f"data/demo_0/{CAMERA}"][:]
        del opened[f"data/demo_0/{CAMERA}"]
        opened.create_dataset(f"data/demo_0/{CAMERA}", data=frames, compression="lzf", shuffle=True, fletcher32=True)
    for shorter in (None, 10):
        store = edited_store(file, tmp_path / f"edited-{shorter}.zarr", shorter)
        store_to_hdf5(store, file, tmp_path / f"copy-{shorter}.hdf5")
        with h5py.File(tmp_path / f"copy-{shorter}.hdf5") as copy:
            assert copy["alias"][:].tolist() == copy["data/demo_0/actions"][:].tolist()
            assert isinstance(copy.get("nowhere", getlink=True), h5py.SoftLink)
            images = copy[f"data/demo_0/{CAMERA}"]
            assert (images.compression, images.shuffle, images.fletcher32) == ("lzf", True, True)
            assert images[:, 0, 0, 0].tolist() == [100, 101, 102, 103]
