"""Poses read back from masks whose poses are known."""

import math

import numpy as np
import pytest

from sim2real_aug.envs.block_pose import corner_error, coverage_at, read_block_pose
from sim2real_aug.envs.geometry import BLOCK_AREA
from sim2real_aug.envs.rendering import make_renderer

SIZE = 96
RNG = np.random.default_rng(0)
POSES = np.column_stack([RNG.uniform(130, 380, (20, 2)), RNG.uniform(-math.pi, math.pi, 20)])


def mask_of(pose: np.ndarray) -> np.ndarray:
    return make_renderer("flat").render([20.0, 20.0, *pose], SIZE).masks["block"]


@pytest.mark.parametrize("pose", POSES)
def test_the_flat_domains_masks_give_back_their_poses(pose: np.ndarray) -> None:
    """A mask of 236 pixels places the T to a fraction of one; its painted outline is no bias."""
    found = read_block_pose(mask_of(pose))
    assert found is not None
    assert corner_error(found, pose, SIZE) < 0.35


def test_what_the_pusher_hides_is_not_held_against_a_pose() -> None:
    pose = np.array([250.0, 200.0, 0.7])
    mask, hidden = mask_of(pose), np.zeros((SIZE, SIZE), bool)
    hidden[44:60, 30:46] = True  # most of the stem
    assert (mask & hidden).sum() > 80
    found = read_block_pose(mask & ~hidden, hidden)
    blind = read_block_pose(mask & ~hidden)
    assert found is not None
    assert blind is not None
    assert corner_error(found, pose, SIZE) < 0.5 < corner_error(blind, pose, SIZE)


def test_specks_beside_the_block_do_not_count() -> None:
    pose = np.array([250.0, 200.0, -2.0])
    mask = mask_of(pose)
    mask[5:9, 80:86] = True
    found = read_block_pose(mask)
    assert found is not None
    assert corner_error(found, pose, SIZE) < 0.35


def test_nothing_to_see_is_no_pose() -> None:
    assert read_block_pose(np.zeros((SIZE, SIZE), bool)) is None
    speck = np.zeros((SIZE, SIZE), bool)
    speck[3:6, 3:6] = True
    assert read_block_pose(speck) is None


def test_corner_error_by_hand() -> None:
    """16 units are 3 pixels of 96; half a turn moves the corners (0-based origin) by twice their distance."""
    assert corner_error([116, 100, 0.3], [100, 100, 0.3], SIZE) == pytest.approx(3)
    corners = [60, 60, math.hypot(60, 30), math.hypot(15, 30), math.hypot(15, 120)]
    mean = (corners[0] + corners[1] + 2 * (corners[2] + corners[3] + corners[4])) / 8
    assert corner_error([0, 0, math.pi], [0, 0, 0], SIZE) == pytest.approx(2 * mean * 96 / 512)


def test_coverage_adds_up_to_the_blocks_area() -> None:
    unit = 2.0
    axis = np.arange(0, 512, unit) + unit / 2
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    area = coverage_at(POSES[:3], points, unit).sum(1) * unit**2
    np.testing.assert_allclose(area, BLOCK_AREA, rtol=0.02)
