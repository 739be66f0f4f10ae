"""Grids of frames: every pixel lands where it should, and wrong frames are refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sim2real_aug.errors import BadInput
from sim2real_aug.report.pictures import GAP, HEADER, grid


def frame(red: int, size: int = 8) -> np.ndarray:
    image = np.zeros((size, size, 3), np.uint8)
    image[..., 0] = red
    return image


def read_rgb(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_layout_and_colours(tmp_path: Path) -> None:
    path = grid([[frame(10), frame(20)], [frame(30)]], tmp_path / "deep" / "grid.png", cell=16)
    image = read_rgb(path)
    assert image.shape == (2 * 16 + GAP, 2 * 16 + GAP, 3)
    assert (image[:16, :16] == (10, 0, 0)).all()
    assert (image[:16, 16 + GAP :] == (20, 0, 0)).all()
    assert (image[16 + GAP :, :16] == (30, 0, 0)).all()
    assert (image[16 + GAP :, 16 + GAP :] == 255).all(), "a short row leaves paper"


def test_enlarging_keeps_pixels(tmp_path: Path) -> None:
    checker = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    image = read_rgb(grid([[checker]], tmp_path / "g.png", cell=16))
    np.testing.assert_array_equal(image, checker.repeat(4, 0).repeat(4, 1))


def test_labels_stand_over_the_columns(tmp_path: Path) -> None:
    image = read_rgb(grid([[frame(0)]], tmp_path / "g.png", labels=["source"], cell=64))
    assert image.shape[0] == 64 + HEADER
    assert image[:HEADER].min() < 128


@pytest.mark.parametrize("rows", [[], [[]]])
def test_nothing_to_draw(tmp_path: Path, rows: list) -> None:
    with pytest.raises(BadInput, match="at least one"):
        grid(rows, tmp_path / "g.png")


def test_wrong_frame(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\(H, W, 3\) uint8"):
        grid([[np.zeros((4, 4, 3), np.float32)]], tmp_path / "g.png")
