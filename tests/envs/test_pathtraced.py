"""The photoreal twin against projections worked by hand, the other domains, and itself drawn otherwise."""

import math
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sim2real_aug.data.photos import to_square
from sim2real_aug.envs import pathtraced
from sim2real_aug.envs.camera import RectifiedView
from sim2real_aug.envs.geometry import block_polygons
from sim2real_aug.envs.mitsuba_variant import PATH_VARIABLE, find_llvm
from sim2real_aug.envs.pathtraced import pathtraced_renderer, set_threads
from sim2real_aug.envs.rendering import Renderer, make_renderer
from sim2real_aug.envs.twin import load_scene, scene_names
from sim2real_aug.errors import BadInput, MissingExtra

pytest.importorskip("mitsuba")
needs_llvm = pytest.mark.skipif(find_llvm() is None, reason="no LLVM 17 or later: nothing to compare with")

SIZE = 96
PIXEL = np.ones((3, 3), np.uint8)  # a mask grows or shrinks by one pixel all around
# The pusher stands at the far edge, so that no arm hides the block.
STATES = ([60, 12, 256, 300, 0.3], [60, 12, 160, 330, 2.5], [60, 12, 360, 270, 4.4])


def silhouette(state: list[float], name: str, size: int) -> NDArray[np.bool_]:
    """Pixels whose centres lie in the block's outline as its corners project by hand."""
    scene = load_scene(name)
    (x, y), height = RectifiedView.of(scene.camera.position, size).centre, scene.camera.position[2]
    subpixels = 8
    canvas = np.zeros((size * subpixels, size * subpixels), np.uint8)
    for corners in block_polygons(state[2:]):
        top = (x, y) + (corners - (x, y)) * height / (height - scene.block.height)
        around = cv2.convexHull(np.concatenate([corners, top]).astype(np.float32))[:, 0]
        cv2.fillConvexPoly(canvas, np.rint(around * (size * subpixels / 512) - 0.5).astype(np.int32), 1)
    return canvas.reshape(size, subpixels, size, subpixels).mean((1, 3)) > 0.5


def pose(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Centroid (2,) in pixels and direction of the long axis in degrees, 0..180."""
    points = np.argwhere(mask)[:, ::-1].astype(float)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    axis = vectors[:, values.argmax()]
    return points.mean(0), math.degrees(math.atan2(axis[1], axis[0])) % 180


@pytest.mark.parametrize("name", scene_names())
def test_block_pose_is_the_flat_domains(name: str):
    """To 1.5 pixels of a 96-pixel frame and 1.5 degrees; masks three times as fine, so that theirs do not count."""
    twin, flat = make_renderer(f"pathtraced/{name}"), make_renderer("flat")
    for state in STATES[:2]:
        centre, angle = pose(twin.render(state, 3 * SIZE).masks["block"])
        expected_centre, expected_angle = pose(flat.render(state, 3 * SIZE).masks["block"])
        assert np.abs(centre - expected_centre).max() <= 1.5 * 3
        assert abs((angle - expected_angle + 90) % 180 - 90) <= 1.5


@pytest.mark.parametrize("name", ["whiteboard", "cutting_mat"])
@pytest.mark.parametrize("state", STATES)
def test_mask_and_depth_are_those_of_the_corners_projected_by_hand(name: str, state: list[float]):
    scene = load_scene(name)
    drawn = make_renderer(f"pathtraced/{name}").render(state, SIZE)
    expected, mask = silhouette(state, name, SIZE), drawn.masks["block"]
    wider, narrower = (change(expected.astype(np.uint8), PIXEL) > 0 for change in (cv2.dilate, cv2.erode))
    assert (mask <= wider).all()
    assert (narrower <= mask).all()
    height = scene.camera.position[2]
    np.testing.assert_allclose(
        drawn.depth[drawn.masks["table"] | drawn.masks["goal"]].max(), height, atol=0.01
    )
    on_top = drawn.depth[mask].min()
    np.testing.assert_allclose(on_top, height - scene.block.height, atol=0.01)


def test_the_goal_is_marked_where_it_lies(tmp_path: Path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene/bare.yaml").write_text("defaults: [oak, _self_]\ngoal: {style: none}\n")
    state = [60, 12, 400, 400, 0.0]
    drawn = make_renderer("pathtraced/oak").render(state, SIZE)
    bare = make_renderer("pathtraced/bare", config_dir=tmp_path).render(state, SIZE)
    region = make_renderer("flat").render(state, SIZE).masks["goal"].astype(np.uint8)
    wider, narrower = (change(region, PIXEL) > 0 for change in (cv2.dilate, cv2.erode))
    assert (drawn.masks["goal"] <= wider).all()
    assert (narrower <= drawn.masks["goal"]).all()
    assert bare.masks["goal"].sum() == 0
    change = np.abs(drawn.image.astype(int) - bare.image).mean(-1)
    assert change[wider].mean() > 5 * change[~wider].mean()


def test_the_goals_marker_is_seen_where_the_masks_say(tmp_path: Path):
    """A filled marker: what differs from a bare table is the mask, which a mirrored or turned one is not."""
    (tmp_path / "scene").mkdir()
    for style in ("filled", "none"):
        goal = f"goal: {{style: {style}, color: [0.0, 0.0, 0.0], opacity: 1.0}}"
        (tmp_path / f"scene/{style}.yaml").write_text(f"defaults: [oak, _self_]\n{goal}\n")
    marked, bare = (
        make_renderer(f"pathtraced/{style}", config_dir=tmp_path).render([60, 12, 400, 400, 0.0], 2 * SIZE)
        for style in ("filled", "none")
    )
    seen = np.abs(marked.image.astype(int) - bare.image).mean(-1) > 60
    assert (seen & marked.masks["goal"]).sum() > 0.85 * (seen | marked.masks["goal"]).sum()


def test_regions_are_drawn_in_their_colours():
    drawn = make_renderer("pathtraced/cutting_mat").render([330, 100, 250, 330, 0.4], SIZE)
    block, table = (drawn.image[drawn.masks[region]].mean(0) for region in ("block", "table"))
    assert block[0] > 1.5 * block[1]  # a red T
    assert table[1] > 1.2 * table[0]  # on a green mat


def test_a_state_gives_the_same_pixels_whatever_was_drawn_before_and_on_any_threads():
    renderer = make_renderer("pathtraced/whiteboard")
    first = renderer.image(STATES[0], 48)
    for state in STATES[1:]:
        renderer.image(state, 48)
        renderer.image(state, 32)
    np.testing.assert_array_equal(first, renderer.image(STATES[0], 48))
    set_threads(1)
    np.testing.assert_array_equal(first, renderer.image(STATES[0], 48))
    set_threads(os.cpu_count() or 1)
    assert np.abs(first.astype(int) - renderer.image(STATES[1], 48)).max() > 20


def test_a_firefly_goes_and_a_line_stays():
    light = np.full((9, 9, 3), 0.2, np.float32)
    light[4] = 0.9  # a bright line
    light[1, 2] = 3.0  # one lucky pixel
    light[7, 3] = (0.2, 0.2, 1.5)
    cleaned = pathtraced.without_fireflies(light)
    np.testing.assert_array_equal(cleaned[4], light[4])
    np.testing.assert_allclose(np.delete(cleaned, 4, axis=0), 0.2)


def test_a_photo_rectified_by_its_corners_is_the_frame():
    renderer = pathtraced_renderer("cutting_mat")
    size = 3 * SIZE
    photo, frame = renderer.photo(STATES[0]), renderer.image(STATES[0], size)
    width, height = load_scene("cutting_mat").camera.resolution
    assert photo.image.shape == (height, width, 3)
    rectified = to_square(photo.image, size, photo.corners)
    red = [(image[..., 0] > 1.6 * image[..., 1].astype(float)) for image in (rectified, frame)]
    (centre, angle), (expected, expected_angle) = (pose(mask) for mask in red)
    assert np.abs(centre - expected).max() <= 1.5
    assert abs((angle - expected_angle + 90) % 180 - 90) <= 1.5


def test_a_users_scene_with_an_image_as_its_table(tmp_path: Path):
    (tmp_path / "scene").mkdir()
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 200  # blue, in OpenCV's order
    cv2.imwrite(str(tmp_path / "scene/top.png"), picture)
    sky = np.full((16, 32, 3), 0.7, np.float32)
    cv2.imwrite(str(tmp_path / "scene/sky.hdr"), sky)
    text = "table: {material: {kind: image, image: top.png, scale: 100}}\nsurroundings: {hdri: sky.hdr}"
    (tmp_path / "scene/mine.yaml").write_text(f"defaults: [oak, _self_]\n{text}\n")
    drawn = make_renderer("pathtraced/mine", config_dir=tmp_path).render(STATES[0], 48)
    table = drawn.image[drawn.masks["table"]].mean(0)
    assert table[2] > 2 * table[0]


def test_a_light_file_that_is_no_picture_is_refused(tmp_path: Path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene/sky.exr").write_text("no picture")
    (tmp_path / "scene/dark.yaml").write_text("defaults: [oak, _self_]\nsurroundings: {hdri: sky.exr}\n")
    with pytest.raises(BadInput, match=r"sky.exr cannot be read as an .exr or .hdr picture"):
        make_renderer("pathtraced/dark", config_dir=tmp_path)


def test_without_mitsuba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pathtraced, "mitsuba_installed", lambda: False)
    pathtraced.mitsuba.cache_clear()
    with pytest.raises(MissingExtra, match=r"pip install 'sim2real-aug\[pathtraced\]'"):
        pathtraced.mitsuba()


@needs_llvm
def test_the_scalar_variant_draws_the_same_scene(tmp_path: Path):
    """In a process of its own: Mitsuba changes its variant for the whole process."""
    script = (
        "import numpy as np, sys; from sim2real_aug.envs.rendering import make_renderer\n"
        "r = make_renderer('pathtraced/oak').render([330, 150, 256, 300, 0.3], 24)\n"
        "np.savez(sys.argv[1], image=r.image, labels=r.labels, depth=r.depth)"
    )
    out = tmp_path / "scalar.npz"
    environment = {**os.environ, PATH_VARIABLE: str(tmp_path / "none.so")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no LLVM 17 or later" in done.stderr
    scalar = np.load(out)
    here: Renderer = make_renderer("pathtraced/oak")
    drawn = here.render([330, 150, 256, 300, 0.3], 24)
    np.testing.assert_array_equal(scalar["labels"], drawn.labels)
    np.testing.assert_allclose(scalar["depth"], drawn.depth, atol=0.01)
    smooth, expected = (cv2.blur(image.astype(float), (5, 5)) for image in (scalar["image"], drawn.image))
    assert np.abs(smooth - expected).mean() < 4  # other random numbers, the same light
