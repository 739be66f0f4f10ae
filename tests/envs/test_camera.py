"""The two views of a camera, against projections worked by hand."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim2real_aug.envs.camera import WORKSPACE, PhotoView, RectifiedView

coordinate = st.floats(0, 512)


def test_the_table_fills_the_frame_and_heights_move_outwards():
    view = RectifiedView.of((256.0, 256.0, 1000.0), 96)
    np.testing.assert_allclose(view.project(WORKSPACE), [(0, 0), (96, 0), (96, 96), (0, 96)])
    # 100 units right of the camera and 200 high, seen from 1000: over the table's point 100 * 1000 / 800 = 125.
    seen = view.project(np.array([[356.0, 256.0, 200.0]]))
    np.testing.assert_allclose(seen, [[(256 + 125) * 96 / 512, 48]])


@given(coordinate, coordinate, st.integers(8, 512))
def test_the_film_meets_the_axis_in_its_middle(x: float, y: float, size: int):
    view = RectifiedView.of((x, y, 900.0), size)
    film = view.film
    axis = [c * size / 512 for c in view.centre]
    for whole, offset, c in zip(film.size, film.offset, axis, strict=True):
        assert offset >= 0
        assert offset + size <= whole
        assert whole / 2 - offset == pytest.approx(c)
    assert max(abs(view.centre[0] - x), abs(view.centre[1] - y)) <= 512 / size / 4 + 1e-9


def test_a_photo_from_straight_above_is_the_table_to_scale():
    # 1000 above, 36 mm wide film, 50 mm lens: 640 pixels see 1000 * 36 / 50 = 720 units.
    view = PhotoView((256, 256, 1000), (256.0, 256.0), 50.0, 640, 480)
    pixels = view.project(np.array([[256, 256, 0], [256 + 360, 256, 0], [256, 256 - 270, 0]], float))
    np.testing.assert_allclose(pixels, [(320, 240), (640, 240), (320, 0)], atol=1e-9)


@given(st.tuples(coordinate, coordinate), st.floats(0, 60))
def test_rectifying_a_photo_by_its_corners_gives_the_rectified_view(
    point: tuple[float, float], height: float
):
    position = (230.0, 420.0, 1000.0)
    photo, frame = (
        PhotoView(position, (256.0, 240.0), 45.0, 640, 480),
        RectifiedView(position[:2], 1000.0, 96),
    )
    matrix = cv2.getPerspectiveTransform(photo.corners, np.float32([(0, 0), (96, 0), (96, 96), (0, 96)]))
    pixel = np.append(photo.project(np.array([[*point, height]]))[0], 1.0)
    rectified = matrix @ pixel
    expected = frame.project(np.array([[*point, height]]))[0]
    np.testing.assert_allclose(rectified[:2] / rectified[2], expected, atol=2e-2)


def test_rays_go_through_the_pixels_centres():
    view = RectifiedView.of((200.0, 300.0, 800.0), 8)
    origin, directions = view.rays()
    assert directions.shape == (64, 3)
    hits = origin + directions * (-origin[2] / directions[:, 2:])
    np.testing.assert_allclose(hits[0], [-256 + 32, 256 - 32, 0], atol=1e-9)
    np.testing.assert_allclose(hits[1] - hits[0], [64, 0, 0], atol=1e-9)
    np.testing.assert_allclose(hits[8] - hits[0], [0, -64, 0], atol=1e-9)
