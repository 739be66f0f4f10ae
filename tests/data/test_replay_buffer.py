"""Reading and checking stores, against plain zarr."""

from __future__ import annotations

import shutil
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.data.convert import convert
from sim2real_aug.errors import BadInput


def refused(path: Path, *words: str) -> None:
    """The store is refused with one line that holds all `words`."""
    with pytest.raises(BadInput) as caught:
        ReplayBuffer.open(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def test_published_layout_is_understood(store: Path) -> None:
    buffer = ReplayBuffer.open(store)
    assert (buffer.n_frames, buffer.n_episodes, buffer.zarr_format) == (21, 4, 2)
    assert buffer.episode_ends.tolist() == [5, 6, 15, 21]
    assert buffer.names == ("action", "img", "n_contacts", "state")
    assert buffer.image_names == ("img",)
    assert buffer.image_chunk == 8
    assert buffer.attrs == {"made": "by a test"}
    assert buffer.episode(2) == slice(6, 15)
    assert buffer.episode_of(np.array([0, 4, 5, 6, 20])).tolist() == [0, 0, 1, 2, 3]


def test_frames_are_those_of_plain_zarr(store: Path) -> None:
    plain = zarr.open_group(str(store), mode="r")
    buffer = ReplayBuffer.open(store)
    np.testing.assert_array_equal(buffer.images(3, 17), plain["data/img"][3:17])
    np.testing.assert_array_equal(buffer.read("state"), plain["data/state"][:])


def test_float_frames_are_rounded(store: Path) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    del group["img"]
    values = np.array([0.0, 0.4, 0.6, 254.5, 255.0], np.float32)
    frames = np.resize(values, (21, 4, 4, 3)).astype(np.float32)
    group.create_array("img", data=frames, chunks=(8, 4, 4, 3))
    images = ReplayBuffer.open(store).images()
    assert images.dtype == np.uint8
    assert images.ravel()[:5].tolist() == [0, 0, 1, 254, 255]


def test_unknown_array_names_the_nearest(store: Path) -> None:
    with pytest.raises(BadInput, match="Did you mean 'state'"):
        ReplayBuffer.open(store).array("stat")


def test_missing_store(tmp_path: Path) -> None:
    refused(tmp_path / "no.zarr", "does not exist")


def test_datasets_of_another_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "demos.hdf5").write_bytes(b"\x89HDF\r\n")
    refused(tmp_path / "demos.hdf5", "an HDF5 file", "demos.hdf5 OUT.zarr` makes a store of it")
    (tmp_path / "pusht/meta").mkdir(parents=True)
    (tmp_path / "pusht/meta/info.json").write_text("{}")
    refused(tmp_path / "pusht", "a dataset of LeRobot's", "pusht OUT.zarr` makes a store of it")


def test_folder_that_is_no_store(tmp_path: Path) -> None:
    refused(tmp_path, "not a zarr group")


def test_group_without_episodes(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=2).create_group("data")
    refused(tmp_path / "x.zarr", "meta/episode_ends")


def test_lost_chunk(store: Path) -> None:
    (store / "data/img/1.0.0.0").unlink()
    refused(store, "data/img/1.0.0.0", "missing")


@pytest.mark.parametrize(("name", "is_read"), [("wrist", True), ("action", False)])
def test_chunks_that_zarr_leaves_out_are_zero_where_that_can_be(store: Path, name: str, is_read: bool) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    values = np.ones((21, 4, 4, 3) if name == "wrist" else (21, 2), np.uint8)
    values[:8] = 0  # a camera that is dark at first
    group.create_array(name, data=values, chunks=(8, *values.shape[1:]), fill_value=0, overwrite=True)
    if is_read:
        np.testing.assert_array_equal(ReplayBuffer.open(store).read(name), values)
    else:
        refused(store, "data/action/0.0 is missing", "write_empty_chunks")


def test_frames_that_imagecodecs_compressed(store: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs.numcodecs")
    group = zarr.open_group(str(store), mode="r+")["data"]
    frames = group["img"][:]
    imagecodecs.register_codecs(verbose=False)
    codec = imagecodecs.Jpeg2k(reversible=True)  # as in diffusion_policy's real-robot stores, but without loss
    chunks = (1, *frames.shape[1:])
    group.create_array("img", data=frames, chunks=chunks, compressors=codec, filters=None, overwrite=True)
    numcodecs.registry.codec_registry.pop(codec.codec_id)  # as in a process that never heard of it
    np.testing.assert_array_equal(ReplayBuffer.open(store).images(), frames)


def test_a_codec_that_nobody_knows(store: Path) -> None:
    description = store / "data/img/.zarray"
    description.write_text(description.read_text().replace('"blosc"', '"zebra"'))
    refused(store, "zebra", "register it with numcodecs")


def test_a_damaged_description(store: Path) -> None:
    description = store / "data/action/.zarray"
    description.write_text(description.read_text()[:40])
    refused(store, "data cannot be read")


def test_frames_in_any_order_decode_each_chunk_once(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, whole = ReplayBuffer.open(store), ReplayBuffer.open(store).images()
    frames = np.array([20, 3, 3, 9, 0, 15])
    decoded, read = list[tuple[int, int]](), buffer.read
    monkeypatch.setattr(buffer, "read", lambda name, *span: decoded.append(span) or read(name, *span))
    np.testing.assert_array_equal(buffer.images_at(frames), whole[frames])
    assert decoded == [(0, 4), (9, 16), (20, 21)]


def test_truncated_chunk(store: Path) -> None:
    chunk = store / "data/state/0.0"
    chunk.write_bytes(chunk.read_bytes()[:-7])
    refused(store, "data/state/0.0", "truncated")


def test_truncated_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr.zip"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    refused(path, "zip")


def test_damage_inside_a_chunk_is_found_on_reading(store: Path) -> None:
    zarr.open_group(str(store), mode="r+")["data/img"][:] = 7
    chunk = store / "data/img/1.0.0.0"
    header, rest = chunk.read_bytes()[:16], chunk.read_bytes()[16:]
    chunk.write_bytes(header + b"\xff" * len(rest))  # same length, same header
    with pytest.raises(BadInput, match=r"data/img \[8:16\] cannot be read"):
        ReplayBuffer.open(store).images(8, 16)


def test_lengths_that_disagree(store: Path) -> None:
    zarr.open_group(str(store), mode="r+")["data/action"].resize((20, 2))
    refused(store, "data/action has 20 frames", "ends at 21")


@pytest.mark.parametrize("ends", [[5, 5, 21], [0, 21], [6, 5, 21], [-1, 21]])
def test_episode_ends_that_do_not_increase(store: Path, ends: list[int]) -> None:
    array = zarr.open_group(str(store), mode="r+")["meta/episode_ends"]
    array.resize((len(ends),))
    array[:] = ends
    refused(store, "increase")


@pytest.mark.parametrize(
    ("shape", "dtype", "word"),
    [
        ((21, 8, 8), np.uint8, "(21, 8, 8)"),
        ((21, 3, 8, 8), np.uint8, "(21, 3, 8, 8)"),
        ((21, 8, 8, 3), np.int64, "int64"),
    ],
)
def test_images_of_a_wrong_shape_or_dtype(
    store: Path, shape: tuple[int, ...], dtype: type, word: str
) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    del group["img"]
    group.create_array("img", data=np.ones(shape, dtype), chunks=shape)
    refused(store, word, "uint8 or float in 0..255")


@pytest.mark.parametrize("dark", [0, 10])
def test_images_in_0_to_1(store: Path, dark: int) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    del group["img"]
    frames = np.full((21, 8, 8, 3), 0.9, np.float32)
    frames[:dark] = 0
    group.create_array("img", data=frames, chunks=(8, 8, 8, 3), config={"write_empty_chunks": True})
    refused(store, "0..1", "multiply by 255")
    group["img"][dark] = -0.9
    refused(store, "-1..1", "add 1, multiply by 127.5")
    group["img"][dark] = 0.9
    with pytest.raises(BadInput, match=r"data/img is float32 in 0\.\.1"):
        ReplayBuffer.open(f"file://{store}")


def test_frames_that_are_all_black_are_frames(store: Path) -> None:
    frames = np.zeros((21, 8, 8, 3), np.float32)
    zarr.open_group(str(store), mode="r+")["data"].create_array("wrist", data=frames, chunks=(8, 8, 8, 3))
    assert not ReplayBuffer.open(store).images(name="wrist").any()


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_another_camera_in_0_to_1_is_refused_when_it_is_read(store: Path, prefix: str) -> None:
    frames = np.full((21, 8, 8, 3), 0.9, np.float32)
    zarr.open_group(str(store), mode="r+")["data"].create_array("wrist", data=frames, chunks=(8, 8, 8, 3))
    buffer = ReplayBuffer.open(f"{prefix}{store}")
    assert buffer.images().any()
    with pytest.raises(BadInput, match=r"data/wrist is float32 in 0\.\.1.*multiply by 255"):
        buffer.images(name="wrist")


@pytest.mark.parametrize("value", [np.nan, 256.0, -1.0])
def test_float_frames_outside_the_range(store: Path, value: float) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    del group["img"]
    frames = np.full((21, 4, 4, 3), 200, np.float32)
    frames[12, 1, 1, 1] = value
    group.create_array("img", data=frames, chunks=(8, 4, 4, 3))
    with pytest.raises(BadInput, match=r"outside 0\.\.255"):
        ReplayBuffer.open(store).images(8, 16)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_states(store: Path, value: float) -> None:
    state = zarr.open_group(str(store), mode="r+")["data/state"]
    state[7, 2] = value
    refused(store, "data/state", "frame 7", "episode 2")


def test_episode_out_of_range(store: Path) -> None:
    with pytest.raises(BadInput, match="episodes 0 to 3; got 4"):
        ReplayBuffer.open(store).episode(4)


def test_content_hash_follows_content_not_place(store: Path, tmp_path: Path) -> None:
    first = ReplayBuffer.open(store).content_hash()
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    assert ReplayBuffer.open(copy).content_hash() == first
    action = zarr.open_group(str(copy), mode="r+")["data/action"]
    action[3, 0] = 77
    assert ReplayBuffer.open(copy).content_hash() != first


def test_fsspec_url(store: Path) -> None:
    np.testing.assert_array_equal(
        ReplayBuffer.open(f"file://{store}").images(), ReplayBuffer.open(store).images()
    )


@pytest.mark.parametrize("prefix", ["", "zip::"])
def test_a_zip_behind_a_url(store: Path, tmp_path: Path, prefix: str) -> None:
    convert(store, tmp_path / "packed.zarr.zip")
    behind = ReplayBuffer.open(f"{prefix}file://{tmp_path}/packed.zarr.zip")
    assert behind.content_hash() == ReplayBuffer.open(store).content_hash()
    np.testing.assert_array_equal(behind.reopen().images(), ReplayBuffer.open(store).images())
    with pytest.raises(BadInput, match=r"other\.zip cannot be fetched"):
        ReplayBuffer.open(f"{prefix}file://{tmp_path}/other.zip")


def test_published_store(shared_data: Path) -> None:
    buffer = ReplayBuffer.open(shared_data / "pusht_cchi_v7_replay.zarr")
    assert (buffer.n_frames, buffer.n_episodes, buffer.image_chunk) == (25650, 206, 161)
    frames = buffer.images(160, 162)
    raw = zarr.open_group(str(buffer.path), mode="r")["data/img"][160:162]
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, raw)  # the published frames are whole numbers
