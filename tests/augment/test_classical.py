"""Colour transfer against numbers worked by hand and the properties that define it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.augment.classical import (
    CLASSICAL,
    ComposedPrompts,
    TransferEditor,
    from_lab,
    to_lab,
)
from sim2real_aug.augment.engine import augment
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.compact import SIDE

from .conftest import write_store

reinhard, match_histograms = CLASSICAL["reinhard"], CLASSICAL["histogram"]
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(40, 200, (3, 12, 10, 3), np.uint8)
PHOTOS = RNG.integers(90, 160, (2, 7, 9, 3), np.uint8)


def test_lab_of_a_grey_by_hand() -> None:
    """The rows of RGB -> LMS add up to 0.9996, 0.9993 and 0.9973, so that grey g has log LMS = log g + these."""
    grey = 51  # 0.2 of 255
    log_l, log_m, log_s = np.log10(0.2 * np.array([0.9996, 0.9993, 0.9973]))
    expected = [
        (log_l + log_m + log_s) / 3**0.5,
        (log_l + log_m - 2 * log_s) / 6**0.5,
        (log_l - log_m) / 2**0.5,
    ]
    np.testing.assert_allclose(to_lab(np.full(3, grey, np.uint8)), expected, atol=1e-12)
    assert expected[0] == pytest.approx(-1.2115, abs=5e-4), "log10(0.2) * sqrt(3), nearly"


def test_lab_and_back_is_the_same_picture() -> None:
    np.testing.assert_array_equal(from_lab(to_lab(FRAMES)), FRAMES)


def test_reinhard_gives_the_photos_mean_and_spread() -> None:
    lab, target = to_lab(reinhard(FRAMES, PHOTOS)), to_lab(PHOTOS).reshape(-1, 3)
    np.testing.assert_allclose(lab.mean((1, 2)), np.tile(target.mean(0), (3, 1)), atol=2e-3)
    np.testing.assert_allclose(lab.std((1, 2)), np.tile(target.std(0), (3, 1)), atol=3e-3)


def test_reinhard_doubles_light_by_hand() -> None:
    """Greys 40 and 90 have the geometric mean 60; photos of 80 and 180 have the same spread of logarithms and 120."""
    frame, photo = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)
    frame[0, 0], frame[0, 1] = 40, 90
    photo[0, 0], photo[0, 1] = 80, 180
    np.testing.assert_array_equal(reinhard(frame, photo), photo)


def test_a_uniform_frame_takes_the_photos_mean() -> None:
    """Geometric mean of the greys 20 and 80: 40."""
    photo = np.zeros((1, 1, 2, 3), np.uint8)
    photo[0, 0, 0], photo[0, 0, 1] = 20, 80
    out = reinhard(np.full((1, 4, 4, 3), 200, np.uint8), photo)
    np.testing.assert_array_equal(out, np.full((1, 4, 4, 3), 40))


def test_histogram_by_hand() -> None:
    """Shares 1/4, 3/4, 1 of the levels 0, 10, 20 are those of 100, 150, 250 among the photos."""
    frame = np.repeat(np.array([[0, 10], [10, 20]], np.uint8)[None, ..., None], 3, axis=-1)
    photo = np.repeat(np.array([[100, 150], [150, 250]], np.uint8)[None, ..., None], 3, axis=-1)
    expected = np.repeat(np.array([[100, 150], [150, 250]])[None, ..., None], 3, axis=-1)
    np.testing.assert_array_equal(match_histograms(frame, photo), expected)
    half = np.repeat(np.array([[0, 0], [0, 20]], np.uint8)[None, ..., None], 3, axis=-1)
    # three quarters of the frame are 0: the photos' level at that share is 150
    assert match_histograms(half, photo)[0, 0, 0].tolist() == [150, 150, 150]


def test_histogram_of_a_large_frame_is_the_photos() -> None:
    frames = RNG.integers(0, 256, (1, 96, 96, 3), np.uint8)
    photos = RNG.normal(120, 20, (1, 96, 96, 3)).clip(0, 255).astype(np.uint8)
    matched = match_histograms(frames, photos)
    for share in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(
            np.quantile(matched, share, axis=(0, 1, 2)), np.quantile(photos, share, axis=(0, 1, 2)), atol=1
        )
    order = np.argsort(frames[0, ..., 0].ravel(), kind="stable")
    assert (np.diff(matched[0, ..., 0].ravel()[order].astype(int)) >= 0).all(), "order is kept"


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_frame_is_edited_on_its_own(name: str) -> None:
    together = CLASSICAL[name](FRAMES, PHOTOS)
    assert together.dtype == np.uint8
    np.testing.assert_array_equal(together[1:2], CLASSICAL[name](FRAMES[1:2], PHOTOS))
    np.testing.assert_array_equal(CLASSICAL[name](PHOTOS[:1], PHOTOS[:1]), PHOTOS[:1])


@pytest.mark.parametrize("name", CLASSICAL)
def test_other_shapes_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="photos must be"):
        CLASSICAL[name](FRAMES, PHOTOS[0])
    with pytest.raises(BadInput, match="frames must be"):
        CLASSICAL[name](FRAMES.astype(np.float32), PHOTOS)  # type: ignore[arg-type]


def test_as_an_editor_it_gives_the_transfers_own_frames(tmp_path) -> None:
    store = write_store(tmp_path / "sim.zarr")
    photos = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    augment(store, TransferEditor("reinhard"), tmp_path / "out.zarr", photos=photos)
    before, after = (ReplayBuffer.open(path) for path in (store, tmp_path / "out.zarr"))
    np.testing.assert_array_equal(after.images(), reinhard(before.images(), photos))
    assert after.read("edit_ok").all()
    with pytest.raises(BadInput, match=r"unknown colour transfer 'reinhart'. Did you mean 'reinhard'"):
        TransferEditor("reinhart")


def test_larger_frames_are_transferred_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_store(tmp_path / "sim.zarr", (20, 34))
    photos = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    augment(store, TransferEditor("histogram"), tmp_path / "out.zarr", photos=photos)
    before, after = (ReplayBuffer.open(path).images() for path in (store, tmp_path / "out.zarr"))
    np.testing.assert_array_equal(after, match_histograms(before, photos))
    assert "enlarged" not in capsys.readouterr().err


def test_a_transfer_takes_after_each_frames_own_photos() -> None:
    source, own = torch.from_numpy(RNG.random((2, 2, 3, 8, 8), np.float32))
    editor, own = TransferEditor("reinhard"), own[:, None]
    together = editor.edit(source, own)
    alone = torch.cat([editor.edit(source[i : i + 1], own[i : i + 1]) for i in range(2)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, editor.edit(source, own[:1].expand_as(own)))


def test_composed_prompts_are_kept_as_they_are(tmp_path: Path) -> None:
    """Photos of the simulator itself: where the source has its objects, so has the prompt."""
    simulate(tmp_path / "sim.zarr", SimulateSettings(episodes=2))
    source = ReplayBuffer.open(tmp_path / "sim.zarr")
    photos = source.images()[::10]
    augment(tmp_path / "sim.zarr", ComposedPrompts(), tmp_path / "out.zarr", photos=photos)
    edits = ReplayBuffer.open(tmp_path / "out.zarr").images()
    apart = np.abs(edits.astype(float) - source.images()).mean()
    assert 0 < apart < 3, "of 255: the same bench, objects in one colour each"
