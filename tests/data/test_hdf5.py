"""Demonstrations in robomimic's layout, written here by h5py."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.data.hdf5 import hdf5_to_store
from sim2real_aug.errors import BadInput

LENGTHS = {"demo_10": 2, "demo_2": 3, "demo_0": 4}  # written in another order than that of their numbers


def write(file: Path, change: Callable[[h5py.Group], None] = lambda demo: None) -> Path:
    with h5py.File(file, "w") as opened:
        for name, length in LENGTHS.items():
            demo, number = opened.create_group(f"data/{name}"), int(name.removeprefix("demo_"))
            demo["actions"] = np.full((length, 7), number, np.float64)
            demo["rewards"] = np.arange(length)
            demo["obs/agentview_image"] = np.full((length, 20, 30, 3), 10 * number, np.uint8)
            demo["obs/joint_pos"] = np.full((length, 6), number / 2)
            demo["next_obs/joint_pos"] = np.zeros((length, 6))
            demo.attrs["num_samples"] = length
        opened["mask/train"] = np.array([b"demo_0"])
        change(opened["data/demo_2"])
    return file


def test_a_store_has_the_demos_by_their_numbers(tmp_path: Path) -> None:
    summary = hdf5_to_store(write(tmp_path / "demos.hdf5"), tmp_path / "out.zarr")
    store = ReplayBuffer.open(tmp_path / "out.zarr")
    assert (summary["frames"], summary["episodes"]) == (9, 3)
    assert store.episode_ends.tolist() == [4, 7, 9]
    assert store.names == ("action", "img", "joint_pos", "rewards")
    assert store.images()[:, 0, 0, 0].tolist() == [0] * 4 + [20] * 3 + [100] * 2
    assert store.read("action")[:, 6].tolist() == [0] * 4 + [2] * 3 + [10] * 2
    assert store.read("rewards").tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 1]
    assert (store.array("action").dtype, store.array("joint_pos").dtype) == (np.float32, np.float64)
    assert store.attrs["hdf5"] == {"camera": "obs/agentview_image", "demos": ["demo_0", "demo_2", "demo_10"]}


def test_demos_without_actions_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "demos.hdf5", lambda demo: demo.pop("actions"))
    assert hdf5_to_store(file, tmp_path / "out.zarr")["episodes"] == 2
    assert "demo_2 left out, which has no actions" in capsys.readouterr().err


def test_one_camera_of_two_is_chosen_and_shrunk(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "demos.hdf5"), "a") as opened:
        for name, length in LENGTHS.items():
            opened[f"data/{name}/obs/wrist"] = np.full((length, 40, 40, 3), 7, np.uint8)
    with pytest.raises(BadInput, match="has 2 cameras, obs/agentview_image, obs/wrist: say with --camera"):
        hdf5_to_store(tmp_path / "demos.hdf5", tmp_path / "out.zarr")
    hdf5_to_store(tmp_path / "demos.hdf5", tmp_path / "out.zarr", "wrist", shorter=10)
    store = ReplayBuffer.open(tmp_path / "out.zarr")
    assert (store.array("img").shape, "agentview_image" in store.names) == ((9, 10, 10, 3), False)


def test_files_of_another_layout_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(file: Path, message: str) -> None:
        with pytest.raises(BadInput, match=message) as caught:
            hdf5_to_store(file, tmp_path / "out.zarr")
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("out.zarr*"))

    def cut(demo: h5py.Group) -> None:
        del demo["obs/joint_pos"]
        demo["obs/joint_pos"] = np.zeros((2, 6))

    refused(write(tmp_path / "cut.hdf5", cut), "demo_2 has no obs/joint_pos with a row for each of its actions")
    (tmp_path / "none.h5").write_bytes(b"none")
    refused(tmp_path / "none.h5", "none.h5 cannot be read")
    with h5py.File(tmp_path / "other.hdf5", "w") as opened:
        opened["traj_0/actions"] = np.zeros((3, 2))
    with h5py.File(tmp_path / "flat.hdf5", "w") as opened:
        opened["data"] = np.zeros((3, 2))
    refused(tmp_path / "flat.hdf5", "flat.hdf5 has no data/demo_0/actions")
    with h5py.File(write(tmp_path / "numbers.hdf5"), "a") as opened:
        for demo in opened["data"].values():
            del demo["obs"]
            demo["obs"] = np.zeros(3)
    refused(tmp_path / "numbers.hdf5", "numbers.hdf5 holds no images")
    with h5py.File(write(tmp_path / "twice.hdf5"), "a") as opened:
        for name, length in LENGTHS.items():
            opened[f"data/{name}/obs/rewards"] = np.zeros(length)
    refused(tmp_path / "twice.hdf5", "obs/rewards and rewards would both be data/rewards")
    refused(tmp_path / "other.hdf5", "other.hdf5 has no data/demo_0/actions: HDF5 is read in robomimic's layout only")
