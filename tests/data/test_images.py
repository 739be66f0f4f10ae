"""Folders of images as stores: what train-editor and augment take where there is no simulator."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sim2real_aug.cli.app import run
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.data import images as module
from sim2real_aug.data.convert import convert
from sim2real_aug.data.images import images_to_store, read_image
from sim2real_aug.errors import BadInput


def save(file: Path, level: int, size: tuple[int, int] = (12, 8)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(file)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two runs of three and two pictures, and a mask that is none."""
    for name, level in (("a/1", 10), ("a/2", 20), ("a/3", 30), ("b/1", 40), ("b/2", 50), ("b/2.mask", 255)):
        save(tmp_path / "drive" / f"{name}.png", level)
    return tmp_path / "drive"


def test_each_folder_is_an_episode_in_the_order_of_its_names(drive: Path, tmp_path: Path):
    assert run(["convert", str(drive), str(tmp_path / "drive.zarr")]) == 0
    buffer = ReplayBuffer.open(tmp_path / "drive.zarr")
    assert buffer.episode_ends.tolist() == [3, 5]
    assert buffer.images()[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 50]
    assert buffer.images().shape == (5, 8, 12, 3)


def test_numbers_count_as_numbers_and_what_is_hidden_is_left_out(tmp_path: Path):
    for number in (1, 2, 10):
        save(tmp_path / "run" / f"{number}.png", number)
    save(tmp_path / "run" / ".ipynb_checkpoints" / "1-checkpoint.png", 99)
    images_to_store(tmp_path / "run", tmp_path / "run.zarr")
    buffer = ReplayBuffer.open(tmp_path / "run.zarr")
    assert buffer.images()[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert buffer.attrs["image_files"] == ["1.png", "2.png", "10.png"]
    assert buffer.n_episodes == 1


def test_a_chunk_of_large_images_holds_few_of_them(tmp_path: Path):
    for number in range(3):
        save(tmp_path / "phone" / f"{number}.jpg", number, size=(2000, 1500))  # 9 MB decoded
    images_to_store(tmp_path / "phone", tmp_path / "phone.zarr")
    assert ReplayBuffer.open(tmp_path / "phone.zarr").image_chunk == 1


def test_the_unfinished_work_of_another_command_is_left_alone(drive: Path, tmp_path: Path):
    begun = [tmp_path / "drive.zarr.partial", tmp_path / "copy.zarr.partial"]
    for place in (*begun, tmp_path / "drive.zarr"):
        images_to_store(drive, place)
    convert(tmp_path / "drive.zarr", tmp_path / "copy.zarr")
    assert [ReplayBuffer.open(place).n_frames for place in begun] == [5, 5]


def test_many_images_become_several_episodes(drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "EPISODE", 2)
    images_to_store(drive, tmp_path / "drive.zarr.zip")
    assert ReplayBuffer.open(tmp_path / "drive.zarr.zip").episode_ends.tolist() == [2, 3, 5]


def test_large_images_are_shrunk_and_small_ones_stay(drive: Path, tmp_path: Path):
    images_to_store(drive, tmp_path / "small.zarr", shorter=4)
    assert ReplayBuffer.open(tmp_path / "small.zarr").images().shape == (5, 4, 6, 3)
    assert read_image(drive / "a" / "1.png", shorter=100).shape == (8, 12, 3)


def test_another_size_is_named_and_leaves_no_store(drive: Path, tmp_path: Path):
    save(drive / "b" / "3.png", 0, size=(10, 8))
    with pytest.raises(BadInput, match=r"b/3.png is 10x8 pixels and .*a/1.png 12x8"):
        images_to_store(drive, tmp_path / "drive.zarr")
    assert not (tmp_path / "drive.zarr").exists()


def test_what_exists_stays_unless_told(drive: Path, tmp_path: Path):
    images_to_store(drive, tmp_path / "drive.zarr")
    with pytest.raises(BadInput, match="exists; choose another path"):
        images_to_store(drive, tmp_path / "drive.zarr")
    save(drive / "c" / "1.png", 60)
    images_to_store(drive, tmp_path / "drive.zarr", overwrite=True)
    assert ReplayBuffer.open(tmp_path / "drive.zarr").n_frames == 6


def test_options_of_images_are_refused_for_a_store(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images_to_store(drive, tmp_path / "drive.zarr")
    assert run(["convert", str(tmp_path / "drive.zarr"), str(tmp_path / "copy.zarr"), "--size", "4"]) == 2
    assert "--size is for images, LeRobot's datasets and HDF5 files; " in capsys.readouterr().err
    assert run(["convert", str(drive), str(tmp_path / "copy.zarr"), "--size", "0"]) == 2
    assert "must be at least 1 pixel" in capsys.readouterr().err


def test_a_folder_without_images_is_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds neither a store nor images"):
        images_to_store(tmp_path / "empty", tmp_path / "x.zarr")


def test_raw_bayer_images_get_their_colours(tmp_path: Path):
    """Oxford RobotCar's GBRG: rows of green, blue and of red, green."""
    raw = np.empty((8, 8), np.uint8)
    raw[0::2, 0::2], raw[0::2, 1::2], raw[1::2, 0::2], raw[1::2, 1::2] = 20, 10, 30, 20
    Image.fromarray(raw).save(tmp_path / "1418132416737115.png")
    image = read_image(tmp_path / "1418132416737115.png", bayer="gbrg")
    assert (image[2:-2, 2:-2] == (30, 20, 10)).all()
