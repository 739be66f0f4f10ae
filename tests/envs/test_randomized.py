"""The randomized domain: exact labels and depth by hand, the same pose in every scene, repeatable pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real_aug.envs.geometry import block_polygons
from sim2real_aug.envs.randomized import RandomizedRenderer, coverage
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.envs.scenes import Arm, sample_scene
from sim2real_aug.errors import BadInput

STATE = np.array([100.0, 400.0, 300.0, 200.0, 0.0])


def overhead(**changes: object) -> RandomizedRenderer:
    """Scene 3 with a camera over the middle of the block's bar, 1000 high, block 40 and pusher 100 high."""
    scene = sample_scene(3)
    camera = replace(scene.camera, x=300.0, y=215.0, height=1000.0)
    heights = {"block_height": 40.0, "pusher_height": 100.0, "pusher_taper": 1.0}
    chosen = {"camera": camera, "arm": None, **heights, **changes}
    return RandomizedRenderer(replace(scene, **chosen))


def test_depth_by_hand() -> None:
    drawn = overhead().render(STATE, 128)  # four window units a pixel
    assert drawn.depth[0, 0] == 1000
    assert drawn.depth[54, 75] == pytest.approx(960)  # the bar's middle (300, 215)
    row, column = int(400 / 4), int(100 / 4)
    assert drawn.labels[row, column] == 3
    assert 900 <= drawn.depth[row, column] <= 1000  # the pusher's wall, between top and table


def test_block_mask_is_the_top_and_the_walls_that_the_camera_sees() -> None:
    """Heights move away from the camera by H / (H - h) = 25/24: the bar's right end, 360 on the ground, 60 from
    the camera, is seen to 362.5."""
    drawn = overhead().render(STATE, 1024)
    row = drawn.masks["block"][(215 * 2)]
    seen = np.flatnonzero(row) / 2
    assert seen.min() == pytest.approx(237.5, abs=0.5)
    assert seen.max() == pytest.approx(362.5, abs=0.5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(120, 390), st.floats(120, 390), st.floats(-3.1, 3.1))
def test_masks_cover_every_pixel_once_and_depth_agrees(number: int, x: float, y: float, angle: float) -> None:
    scene = sample_scene(number)
    drawn = RandomizedRenderer(scene).render([30.0, 30.0, x, y, angle], 96)
    assert np.sum(list(drawn.masks.values()), axis=0).min() == 1
    height = scene.camera.height
    flat = drawn.masks["table"] | drawn.masks["goal"]
    assert (drawn.depth[flat] == height).all()
    assert (drawn.depth[drawn.masks["block"]] >= height - scene.block_height - 1e-2).all()
    # The ground outline of the block is seen, whatever its height, but where an arm hides it.
    for outline in block_polygons((x, y, angle)):
        column, line = (outline.mean(0) * 96 / 512).astype(int)
        assert drawn.masks["block"][line, column] or (scene.arm and drawn.masks["pusher"][line, column])


def test_an_arm_hides_what_lies_under_it() -> None:
    # An arm 40 wide at height 500 from (256, 256) upwards, seen from 1000 above (256, 256): 80 wide on the table.
    arm = Arm((256.0, -400.0), 500.0, (20.0, 20.0), (0.3,), ((0.5, 0.5, 0.5), (0.8, 0.3, 0.1)), 0.0)
    bare, drawn = overhead(), overhead(arm=arm)
    state = [256.0, 256.0, 256.0, 60.0, 0.0]
    pusher = drawn.render(state, 128).masks["pusher"]  # four window units a pixel
    assert pusher[:60].sum(1).tolist() == [20] * 60
    assert (drawn.render(state, 128).depth[:60][pusher[:60]] == 500).all()
    assert bare.render(state, 128).masks["block"].sum() > drawn.render(state, 128).masks["block"].sum() > 0
    reddish = drawn.render(state, 128).image[2, 62:66].mean(0)
    assert reddish[0] > 1.5 * reddish[2]


def test_an_arm_is_lit_as_a_cylinder_from_the_lamps_side() -> None:
    """Seen from (300, 215), twice as high, its axis is at 212 and its radius 80: pixels 53 and 20 of 128."""
    arm = Arm((256.0, -400.0), 500.0, (40.0, 40.0), (), ((0.5, 0.5, 0.5),), 0.0)
    light = replace(sample_scene(3).light, azimuth=0.0, elevation=0.7)
    row = overhead(arm=arm, light=light).render([256.0, 256.0, 256.0, 460.0, 0.0], 128).image[10].mean(-1)
    assert row[37] < row[45] < row[53] < row[61]


def test_an_outlined_goal_has_the_width_of_its_line() -> None:
    painted = [
        (overhead(goal="outline", goal_width=width, goal_opacity=1.0).render(STATE).image
         != overhead(goal="none").render(STATE).image).any(-1).sum()
        for width in (3.0, 10.0)
    ]  # fmt: skip
    assert painted[1] > 1.5 * painted[0]


def test_every_other_scene_has_an_arm_and_pushers_stand_low_or_high() -> None:
    scenes = [sample_scene(number) for number in range(200)]
    assert 0.4 < np.mean([scene.arm is not None for scene in scenes]) < 0.6
    heights = [scene.pusher_height for scene in scenes]
    assert 20 <= min(heights) < 25
    assert 300 < max(heights) < 400
    assert all(scene.pusher_height <= 0.45 * scene.camera.height for scene in scenes)


def test_goal_follows_the_scene() -> None:
    assert overhead(goal="none").render(STATE).masks["goal"].sum() == 0
    assert overhead(goal="filled").render(STATE).masks["goal"].sum() > 100


def test_same_call_same_pixels_and_scenes_differ() -> None:
    first = make_renderer("randomized/5").render(STATE).image
    np.testing.assert_array_equal(first, make_renderer("randomized/5").render(STATE).image)
    np.testing.assert_array_equal(first, make_renderer("randomized", seed=5).render(STATE).image)
    assert np.abs(first.astype(int) - make_renderer("randomized/6").render(STATE).image).mean() > 5


def test_coverage_is_the_share_of_a_pixel() -> None:
    """A rectangle of 2.5 x 2 pixels in an image of 8: full pixels, a half one (a quarter too much at most), none."""
    unit = 512 / 8
    square = np.array([[2, 2], [4.5, 2], [4.5, 4], [2, 4]]) * unit
    drawn = coverage([square], 8)
    assert drawn[2:4, 2:4] == pytest.approx(1.0, abs=0.01)
    assert drawn[2:4, 4] == pytest.approx(0.5, abs=0.26)
    assert drawn[:, 6:].max() == 0


def test_an_unknown_domain_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown domain 'randomised'\. Did you mean 'randomized'"):
        make_renderer("randomised")
    with pytest.raises(BadInput, match="unknown scene"):
        make_renderer("randomized/kitchen")
