"""Photos of a simulated bench: what they show, and that nothing is lost or done twice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.config import compose
from sim2real_aug.config import settings as settings_of
from sim2real_aug.data import load_photos
from sim2real_aug.data.photos import read_photo
from sim2real_aug.envs import photos as photos_module
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.envs.photos import PhotosSettings, photographed_state, take_photos
from sim2real_aug.envs.rendering import Photo
from sim2real_aug.envs.starts import StartDistribution, is_clear, load_start
from sim2real_aug.errors import BadInput

SIZE = (640, 480)
SEEN = np.array([[120, 60], [530, 40], [560, 430], [90, 450]], np.float32)  # where the camera sees the corners


class Camera:
    """Sees the flat domain askew."""

    def __init__(self) -> None:
        self.taken = 0

    def photo(self, state: ArrayLike) -> Photo:
        self.taken += 1
        corners = np.array([[0, 0], [512, 0], [512, 512], [0, 512]], np.float32)
        matrix = cv2.getPerspectiveTransform(corners - 0.5, SEEN - 0.5)
        image = cv2.warpPerspective(FlatRenderer().image(state, 512), matrix, SIZE, flags=cv2.INTER_LINEAR)
        return Photo(np.asarray(image, np.uint8), SEEN)


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Camera:
    camera = Camera()
    monkeypatch.setattr(photos_module, "make_renderer", lambda *_: camera)
    return camera


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def colour_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_the_shipped_configuration_is_the_default() -> None:
    assert settings_of(PhotosSettings, compose("photos")) == PhotosSettings()


def test_square_photos_show_their_states(tmp_path: Path) -> None:
    settings = PhotosSettings(domain="flat", count=4, seed=2, size=192)
    summary = take_photos(tmp_path / "p", settings)
    assert (summary["photos"], summary["width"], summary["height"]) == (4, 192, 192)
    photos = load_photos(tmp_path / "p", 192)
    assert photos.names == ("000.jpg", "001.jpg", "002.jpg", "003.jpg")
    for index, image in enumerate(photos.images):
        state = photographed_state(settings, index)
        assert is_clear(state)
        assert colour_distance(image, FlatRenderer().image(state, 192)) < 2
        assert colour_distance(image, FlatRenderer().image(photographed_state(settings, 4), 192)) > 2


def test_a_camera_s_photos_are_rectified_to_the_state(camera: Camera, tmp_path: Path) -> None:
    settings = PhotosSettings(count=3, seed=5)
    summary = take_photos(tmp_path / "p", settings)
    assert (summary["width"], summary["height"]) == SIZE
    for index, image in enumerate(load_photos(tmp_path / "p", 96).images):
        drawn = FlatRenderer().render(photographed_state(settings, index), 96)
        grey = (image.max(-1).astype(int) < 200) & (np.ptp(image.astype(int), -1) < 55)  # the block, not the goal
        block = grey & (cv2.dilate(drawn.masks["block"].astype(np.uint8), np.ones((9, 9))) > 0)
        found, wanted = (np.argwhere(mask).mean(0) for mask in (block, drawn.masks["block"]))
        assert np.abs(found - wanted).max() < 1.0, "pixels of 96"
        assert block.sum() == pytest.approx(drawn.masks["block"].sum(), rel=0.1)


@pytest.mark.slow
def test_a_path_traced_photo_rectified_is_the_frame(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba")
    settings = PhotosSettings(domain="pathtraced/whiteboard", count=2)
    summary = take_photos(tmp_path / "p", settings)
    assert summary["corners"] == str(tmp_path / "p" / "photos.yaml")
    for index, image in enumerate(load_photos(tmp_path / "p", 96).images):
        drawn = settings.renderer().render(photographed_state(settings, index), 96)
        near = cv2.dilate(drawn.masks["block"].astype(np.uint8), np.ones((5, 5))) > 0
        found = near & (image.max(-1) < 90)  # the black T
        assert np.abs(np.argwhere(found).mean(0) - np.argwhere(drawn.masks["block"]).mean(0)).max() < 1.5
        assert colour_distance(image, drawn.image) < 8


def test_an_interrupted_call_goes_on(camera: Camera, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    take_photos(whole, PhotosSettings(count=4))
    take_photos(cut, PhotosSettings(count=2))
    (cut / "000.jpg").write_bytes((cut / "000.jpg").read_bytes()[:500])  # not whole
    (cut / "photos.yaml").unlink()
    camera.taken = 0
    take_photos(cut, PhotosSettings(count=4))
    assert camera.taken == 4
    assert content(cut) == content(whole)
    take_photos(cut, PhotosSettings(count=4))
    assert camera.taken == 4, "nothing is taken twice"


def test_one_bench_in_all_photos_of_the_randomized_domain(tmp_path: Path) -> None:
    take_photos(tmp_path / "p", PhotosSettings(domain="randomized", count=3, size=64))
    take_photos(tmp_path / "q", PhotosSettings(domain="randomized", count=1, size=64, seed=1))
    first, second, third = (np.median(read_photo(file), (0, 1)) for file in sorted((tmp_path / "p").glob("*.jpg")))
    other = np.median(read_photo(tmp_path / "q/000.jpg"), (0, 1))
    assert max(np.abs(first - second).max(), np.abs(first - third).max()) < np.abs(first - other).max()


def test_starts_are_those_asked_for() -> None:
    settings = PhotosSettings(domain="flat", start=load_start("near_goal"))
    for index in range(5):
        x, y = photographed_state(settings, index)[2:4]
        assert 231 <= x <= 282
        assert 231 <= y <= 282


def test_nothing_existing_is_lost(tmp_path: Path) -> None:
    made = PhotosSettings(domain="flat", count=1, size=32)
    take_photos(tmp_path / "p", made)
    before = content(tmp_path / "p")
    with pytest.raises(BadInput, match="made with another seed"):
        take_photos(tmp_path / "p", PhotosSettings(domain="flat", count=1, size=32, seed=1))
    moved = PhotosSettings(domain="flat", count=1, size=32, start=StartDistribution(legacy=False))
    with pytest.raises(BadInput, match=r"made with another start\.legacy"):
        take_photos(tmp_path / "p", moved)
    assert content(tmp_path / "p") == before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "bench.jpg").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(BadInput, match="not a run folder"):
            take_photos(mine, made, overwrite)
    assert content(mine) == {"bench.jpg": b"precious"}
    take_photos(tmp_path / "p", PhotosSettings(domain="flat", count=2, size=32))
    with pytest.raises(BadInput, match="holds 2 photos already, more than the 1 asked for"):
        take_photos(tmp_path / "p", made)
    (mine / "config.yaml").write_text("seed: 0")
    with pytest.raises(BadInput, match="its own runs only"):
        take_photos(mine, made, overwrite=True)
    assert (mine / "bench.jpg").exists()
    take_photos(tmp_path / "p", PhotosSettings(domain="flat", count=1, size=32, seed=1), overwrite=True)
    assert content(tmp_path / "p") != before


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 0, "size": 4}, "count must be at least 1; got 0; size must be at least 8; got 4"),
        ({"domain": "flatt"}, "Did you mean 'flat'"),
    ],
)
def test_settings_are_checked(values: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        PhotosSettings(**values)  # type: ignore[arg-type]
