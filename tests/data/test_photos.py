"""Photos: every kind of file, and rectification against hand-placed corners."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sim2real_aug.data import PhotoSet, load_photos
from sim2real_aug.data.photos import read_photos, write_photos
from sim2real_aug.errors import BadInput, MissingExtra

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(size: int = 40) -> np.ndarray:
    """Four colours: red green above blue white."""
    image = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    image[:half, :half], image[:half, half:], image[half:, :half], image[half:, half:] = (
        RED,
        GREEN,
        BLUE,
        WHITE,
    )
    return image


def save_quarters(file: Path, exif: Image.Exif) -> None:
    if file.suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(quarters()).save(file, exif=exif.tobytes(), quality=-1, chroma=444, matrix_coefficients=0)


def corner_colours(image: np.ndarray) -> list[tuple[int, ...]]:
    last = len(image) - 1
    return [tuple(int(c) for c in image[r, c]) for r, c in ((0, 0), (0, last), (last, 0), (last, last))]


def only(folder: Path, size: int = 8) -> np.ndarray:
    photos = load_photos(folder, size)
    assert photos.images.dtype == np.uint8
    assert photos.images.shape == (1, size, size, 3)
    return photos.images[0]


def test_grey_palette_cmyk_and_one_bit(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((10, 10), 90, np.uint8))
    grey.save(tmp_path / "a.png")
    Image.fromarray(quarters()).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b.png")
    Image.new("CMYK", (10, 10), (0, 255, 255, 0)).save(
        tmp_path / "c.tif"
    )  # no ink but magenta and yellow: red
    Image.new("1", (10, 10), 1).save(tmp_path / "d.png")
    photos = load_photos(tmp_path, 8)
    assert photos.names == ("a.png", "b.png", "c.tif", "d.png")
    assert (photos.images[0] == 90).all()
    assert corner_colours(photos.images[1]) == [RED, GREEN, BLUE, WHITE]
    assert (photos.images[2] == RED).all()
    assert (photos.images[3] == 255).all()
    assert photos.masks is None


@pytest.mark.parametrize(("value", "expected"), [(65535, 255), (257 * 100, 100), (0, 0)])
def test_sixteen_bit(tmp_path: Path, value: int, expected: int) -> None:
    Image.fromarray(np.full((10, 10), value, np.uint16)).save(tmp_path / "a.png")
    assert (only(tmp_path) == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (10, 10), 0)
        image.putpalette([10, 20, 30])
        image.save(tmp_path / "a.png", transparency=0)
    else:
        image.convert(mode).save(tmp_path / "a.png")
    assert (only(tmp_path) == 255).all()


def test_half_transparent(tmp_path: Path) -> None:
    Image.new("RGBA", (10, 10), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert abs(int(only(tmp_path)[0, 0, 0]) - 127) <= 1  # 255 * (1 - 128 / 255)


@pytest.mark.parametrize("suffix", [".png", ".heic"])
def test_exif_orientation(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    save_quarters(tmp_path / f"a{suffix}", exif)
    assert corner_colours(only(tmp_path)) == [BLUE, RED, WHITE, GREEN]


def test_a_phones_heic_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_1.heic").write_bytes(b"ftypheic")
    with pytest.raises(MissingExtra, match=r"photo .*IMG_1\.heic .*pip install 'sim2real-aug\[heic\]'"):
        load_photos(tmp_path)


def test_central_square(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = quarters(20)
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert corner_colours(only(tmp_path)) == [RED, GREEN, BLUE, WHITE]


def test_shrinking_averages(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)  # a checkerboard of single pixels
    Image.fromarray(board).save(tmp_path / "a.png")
    assert np.abs(only(tmp_path).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("per_photo", [False, True])
def test_four_corners_rectify(tmp_path: Path, per_photo: bool) -> None:
    photo = np.full((100, 200, 3), 7, np.uint8)
    photo[20:60, 110:150] = quarters(40)
    Image.fromarray(photo).save(tmp_path / "a.png")
    corners = "[[110, 20], [150, 20], [150, 60], [110, 60]]"
    (tmp_path / "photos.yaml").write_text(
        f"photos: {{a.png: {corners}}}" if per_photo else f"corners: {corners}"
    )
    np.testing.assert_array_equal(
        only(tmp_path, 40), quarters(40)
    )  # the same pixels, not shifted by half a one
    assert corner_colours(only(tmp_path)) == [RED, GREEN, BLUE, WHITE]


def test_corners_turn_the_view(tmp_path: Path) -> None:
    Image.fromarray(quarters(40)).save(tmp_path / "a.png")
    # the workspace's top left is at the photo's bottom left: a camera turned by 90 degrees
    (tmp_path / "photos.yaml").write_text("corners: [[0, 40], [0, 0], [40, 0], [40, 40]]")
    assert corner_colours(only(tmp_path)) == [BLUE, RED, WHITE, GREEN]


def test_perspective(tmp_path: Path) -> None:
    # a trapezium whose centre, where its diagonals cross, is at y = 400/15: x=50, from hand
    photo = np.zeros((100, 100, 3), np.uint8)
    rows = np.arange(100) + 0.5
    photo[rows > 80 / 3] = WHITE
    Image.fromarray(photo).save(tmp_path / "a.png")
    # diagonals (25,0)-(100,80) and (75,0)-(0,80) cross at y = 80 * 25 / 75 = 26.67
    (tmp_path / "photos.yaml").write_text("corners: [[25, 0], [75, 0], [100, 80], [0, 80]]")
    column = only(tmp_path, 40)[:, 20, 0]
    assert (column[:19] == 0).all()
    assert (column[21:] == 255).all()


def test_masks_follow_their_photo(tmp_path: Path) -> None:
    photo = np.zeros((20, 60, 3), np.uint8)
    mask = np.zeros((20, 60), np.uint8)
    mask[:10, 20:30] = 255
    Image.fromarray(photo).save(tmp_path / "a.jpg")
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    Image.fromarray(photo).save(tmp_path / "b.jpg")
    photos = load_photos(tmp_path, 8)
    assert photos.names == ("a.jpg", "b.jpg")
    assert photos.masks is not None
    assert list(photos.masks) == ["a.jpg"]
    expected = np.zeros((8, 8), bool)
    expected[:4, :4] = True
    np.testing.assert_array_equal(photos.masks["a.jpg"], expected)


def test_a_hash_is_of_what_is_made_of_the_photo(tmp_path: Path) -> None:
    """The same file with other corners or another mask is another photo; the same pixels in another file are not."""
    Image.fromarray(quarters(40)).save(tmp_path / "a.png")
    plain = load_photos(tmp_path, 8).hashes
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert load_photos(tmp_path, 8).hashes == plain
    (tmp_path / "photos.yaml").write_text("corners: [[0, 0], [20, 0], [20, 20], [0, 20]]")
    cut = load_photos(tmp_path, 8).hashes
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(tmp_path / "b.mask.png")
    assert len({plain, cut, load_photos(tmp_path, 8).hashes}) == 3


def test_photos_that_are_kept_come_back_with_names_and_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.eye(8, dtype=bool)
    names = ("b.jpg", "a.jpg")  # the order is what edits go by
    photos = PhotoSet(rng.integers(0, 256, (2, 8, 8, 3), np.uint8), names, {"a.jpg": mask})
    write_photos(photos, tmp_path / "photos")
    kept = read_photos(tmp_path / "photos")
    assert kept is not None
    assert (kept.names, kept.hashes) == (photos.names, photos.hashes)
    assert kept.masks is not None
    np.testing.assert_array_equal(kept.masks["a.jpg"], mask)
    assert read_photos(tmp_path) is None


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no photo folder"):
        load_photos(tmp_path / "no")
    with pytest.raises(BadInput, match="holds no photos"):
        load_photos(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_unreadable_photo(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(BadInput, match=r"broken\.png cannot be read") as caught:
        load_photos(tmp_path)
    assert "\n" not in str(caught.value)


def test_truncated_photo(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"a\.jpg cannot be read"):
        load_photos(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "corners: [[0, 0], [9, 0], [9, 9]]",
        "corners: [[0, 0], [0, 9], [9, 9], [9, 0]]",  # anticlockwise: a mirrored view
        "corners: [[0, 0], [9, 9], [9, 0], [0, 9]]",  # crossed
        "corners: all",
        "corners: [[0, 0], [9, 0], [9, .nan], [0, 9]]",
        "photos: {b.png: [[0, 0], [9, 0], [9, 9], [0, 9]]}",
        "corner: 1",
        "[1, 2",
        "just text",
    ],
)
def test_bad_corners(tmp_path: Path, text: str) -> None:
    Image.fromarray(quarters(10)).save(tmp_path / "a.png")
    (tmp_path / "photos.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"photos\.yaml") as caught:
        load_photos(tmp_path)
    assert "\n" not in str(caught.value)


def test_corners_of_another_size_of_the_photo(tmp_path: Path) -> None:
    Image.fromarray(quarters(10)).save(tmp_path / "a.png")
    (tmp_path / "photos.yaml").write_text("corners: [[0, 0], [11, 0], [11, 11], [0, 11]]")  # a tenth outside
    assert len(load_photos(tmp_path)) == 1
    (tmp_path / "photos.yaml").write_text("corners: [[0, 0], [20, 0], [20, 20], [0, 20]]")
    with pytest.raises(BadInput, match=r"a\.png.*outside of it: it has 10x10 pixels"):
        load_photos(tmp_path)


@pytest.mark.parametrize(("white", "where"), [(slice(0, 0), "at all"), (slice(0, 3), "in the part of it")])
def test_a_mask_without_white_is_refused(tmp_path: Path, white: slice, where: str) -> None:
    """All black, or white only where the central square of a wide photo is cut off."""
    mask = np.zeros((20, 40), np.uint8)
    mask[:, white] = 255
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    with pytest.raises(BadInput, match=f"a.mask.png has no white {where}.*white marks the object"):
        load_photos(tmp_path, 8)


def test_what_is_done_to_photos_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, width in (("a", 40), ("b", 20), ("c", 30)):
        Image.fromarray(np.zeros((20, width, 3), np.uint8)).save(tmp_path / f"{name}.png")
    assert load_photos(tmp_path, 8).images.shape == (3, 8, 8, 3)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "2 of 3 photos are not square (a.png, ...): their middle is used" in said
    (tmp_path / "photos.yaml").write_text("corners: [[0, 0], [20, 0], [20, 20], [0, 20]]")
    load_photos(tmp_path, 8)
    assert not capsys.readouterr().err, "rectified photos are not cropped"
    for name in ("a.png", "c.png", "photos.yaml"):
        (tmp_path / name).unlink()
    assert len(load_photos(tmp_path, 8)) == 1
    assert "one photo" in capsys.readouterr().err


def test_what_was_meant_for_a_mask_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b_mask.png", "c.mask.png"):
        Image.fromarray(quarters(10)).save(tmp_path / name)
    load_photos(tmp_path, 8)
    assert "no mask of any photo: c.mask.png, b_mask.png; that of NAME.jpg is NAME.mask.png" in capsys.readouterr().err


def test_mask_of_another_size(tmp_path: Path) -> None:
    Image.fromarray(quarters(10)).save(tmp_path / "a.png")
    Image.new("L", (5, 5)).save(tmp_path / "a.mask.png")
    with pytest.raises(BadInput, match="5x5"):
        load_photos(tmp_path)


@pytest.mark.parametrize(("name", "count"), [("kuka-whiteboard", 12), ("kuka-policy-camera", 8)])
def test_real_photos(shared_data: Path, name: str, count: int) -> None:
    photos = load_photos(shared_data / "real-photos" / name, 96)
    assert photos.images.shape == (count, 96, 96, 3)
    assert len(set(photos.hashes)) == count
    assert photos.images.std() > 20
