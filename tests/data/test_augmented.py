"""The dataset wrapper: what is replaced, by what, and that the draw is the same everywhere."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch.utils.data import DataLoader, Dataset

from sim2real_aug.data import AugmentedDataset, ReplayBuffer
from sim2real_aug.data.convert import convert
from sim2real_aug.errors import BadInput

SIZE = 12


class Frames(Dataset[dict[str, Any]]):
    """One frame an item, all black."""

    tag = "of the wrapped dataset"

    def __len__(self) -> int:
        return 21

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"img": np.zeros((SIZE, SIZE, 3), np.uint8), "frame_index": index, "action": index}


class Windows(Dataset[dict[str, Any]]):
    """Items as diffusion_policy's PushTImageDataset gives them: (T, 3, H, W) float in 0..1, nested."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.image = torch.full((3, 3, SIZE, SIZE), 0.5 * scale)
        self.obs = {"image": self.image, "agent_pos": torch.zeros(3, 2)}

    def __len__(self) -> int:
        return 18

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"obs": self.obs, "action": torch.zeros(3, 2)}


def window_of(index: int) -> list[int]:
    return [max(index - 1, 0), index, index + 1]


def edited_items(dataset: AugmentedDataset) -> list[int]:
    return [i for i in range(len(dataset)) if dataset[i]["img"].any()]


def test_a_store_that_augment_did_not_write_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    AugmentedDataset(Frames(), store)
    assert f"{store} was not written by augment: all its frames are taken for edits" in capsys.readouterr().err
    zarr.open_group(str(store), mode="r+").attrs["augmentation"] = {}
    AugmentedDataset(Frames(), store)
    assert not capsys.readouterr().err


def test_probability_one_gives_the_edited_frames(store: Path) -> None:
    dataset = AugmentedDataset(Frames(), store, probability=1.0)
    frames = ReplayBuffer.open(store).images()
    for index in range(21):
        item = dataset[index]
        np.testing.assert_array_equal(item["img"], frames[index])
        assert item["action"] == index
    assert len(dataset) == 21
    assert dataset.tag == "of the wrapped dataset"
    np.testing.assert_array_equal(dataset[-1]["img"], frames[20])


def test_probability_zero_gives_the_originals(store: Path) -> None:
    assert edited_items(AugmentedDataset(Frames(), store, probability=0.0)) == []


def test_draw_follows_seed_epoch_and_item(store: Path) -> None:
    dataset = AugmentedDataset(Frames(), store, probability=0.5, seed=1)
    first = edited_items(dataset)
    assert 0 < len(first) < 21
    assert edited_items(dataset) == first
    dataset.set_epoch(1)
    assert edited_items(dataset) != first
    dataset.set_epoch(0)
    assert edited_items(dataset) == first
    assert edited_items(AugmentedDataset(Frames(), store, probability=0.5, seed=2)) != first


def test_share_of_edited_items_is_the_probability(store: Path) -> None:
    dataset = AugmentedDataset(Frames(), store, probability=0.3, in_memory=True)
    count = 0
    for epoch in range(100):
        dataset.set_epoch(epoch)
        count += len(edited_items(dataset))
    # 2100 draws: mean 630, standard deviation 21
    assert abs(count - 630) < 4 * 21


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_same_draw_whatever_the_workers(store: Path, tmp_path: Path, in_memory: bool, zipped: bool) -> None:
    edited = tmp_path / "edited.zarr.zip" if zipped else store
    if zipped:
        convert(store, edited)

    def batches(workers: int, **options: Any) -> list[torch.Tensor]:
        dataset = AugmentedDataset(Frames(), edited, 0.5, seed=7, in_memory=in_memory)
        loader = DataLoader(dataset, batch_size=4, num_workers=workers, **options)
        result = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            result.append(torch.cat([batch["img"] for batch in loader]))
        return result

    alone = batches(0)
    assert not torch.equal(alone[0], alone[1])
    for workers, persistent in ((1, False), (2, True)):
        for expected, got in zip(alone, batches(workers, persistent_workers=persistent), strict=True):
            assert torch.equal(expected, got)


@pytest.mark.slow
def test_spawned_worker(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A spawned worker imports this module anew, from the checkout; the package stays the installed one.
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
    dataset = AugmentedDataset(Frames(), store, 1.0)
    loader = DataLoader(dataset, batch_size=21, num_workers=1, multiprocessing_context="spawn")
    np.testing.assert_array_equal(next(iter(loader))["img"], ReplayBuffer.open(store).images())


def test_pickle_round_trip(store: Path) -> None:
    dataset = AugmentedDataset(Frames(), store, 0.5, seed=3)
    assert edited_items(pickle.loads(pickle.dumps(dataset))) == edited_items(dataset)


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_nested_channels_first_float_window(store: Path, scale: float) -> None:
    inner = Windows(scale)
    dataset = AugmentedDataset(
        inner, store, 1.0, image_keys=["obs.image"], frame_index=window_of, float_max=scale
    )
    image = dataset[0]["obs"]["image"]
    assert isinstance(image, torch.Tensor)
    assert image.dtype == torch.float32
    frames = ReplayBuffer.open(store).images()[[0, 0, 1]]
    expected = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 * scale
    torch.testing.assert_close(image, expected)
    assert (inner.image == 0.5 * scale).all()  # the wrapped dataset's own tensor is left alone
    assert inner.obs["image"] is inner.image


def test_half_precision_images_stay_so(store: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        inner = Windows()
        inner.obs["image"] = inner.image.to(dtype)
        dataset = AugmentedDataset(inner, store, 1.0, image_keys=["obs.image"], frame_index=window_of)
        image = dataset[0]["obs"]["image"]
        expected = torch.from_numpy(ReplayBuffer.open(store).images()[[0, 0, 1]]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(image, expected.to(dtype))


def test_an_index_of_numpy_draws_as_a_plain_one_does(store: Path) -> None:
    dataset = AugmentedDataset(Frames(), store, 0.5)
    plain, of_numpy = ([bool(dataset[i]["img"].any()) for i in kind] for kind in (range(21), np.arange(21)))
    assert plain == of_numpy


def test_whole_window_is_drawn_at_once(store: Path) -> None:
    dataset = AugmentedDataset(Windows(), store, 0.5, image_keys=["obs.image"], frame_index=window_of)
    kept = [(dataset[i]["obs"]["image"] == 0.5).flatten(1).all(1) for i in range(18)]
    assert all(k.all() or not k.any() for k in kept)
    assert {bool(k.all()) for k in kept} == {True, False}


def test_items_of_which_a_frame_fails_the_gate_keep_the_original(store: Path) -> None:
    ok = np.ones(21, bool)
    ok[[4, 9]] = False
    zarr.open_group(str(store), mode="r+")["data"].create_array("edit_ok", data=ok, chunks=(8,))
    assert edited_items(AugmentedDataset(Frames(), store, 1.0)) == [i for i in range(21) if i not in (4, 9)]
    window = AugmentedDataset(Windows(), store, 1.0, image_keys=["obs.image"], frame_index=window_of)
    kept = [bool((window[i]["obs"]["image"] == 0.5).all()) for i in range(18)]
    assert kept == [bool({4, 9} & {*window_of(i)}) for i in range(18)]


def test_scattered_frame_indices(store: Path) -> None:
    dataset = AugmentedDataset(
        Windows(), store, 1.0, image_keys=["obs.image"], frame_index=lambda i: [20, 0, 20]
    )
    frames = ReplayBuffer.open(store).images()[[20, 0, 20]]
    expected = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(dataset[3]["obs"]["image"], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.5}, "probability"),
        ({"image_keys": "img"}, "list of keys"),
        ({"image_keys": ["img", "wrist"]}, "one key.*wrap once for each"),
        ({"image_keys": ["image"]}, "no image 'image'"),
        ({"image_keys": ["obs.image"]}, "'obs' is not a dict"),
        ({"image_keys": ["action"]}, "is \\(\\)"),
        ({"frame_index": lambda i: 21}, "frames 21 to 21"),
        ({"frame_index": lambda i: 0.5}, "int"),
        ({"frame_index": lambda i: [1, 2]}, "channels first"),
        ({"image_name": "image"}, "Did you mean 'img'"),
        ({"float_max": 0}, "float_max"),
    ],
)
def test_refusals(store: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _ = AugmentedDataset(Frames(), store, **{"probability": 1.0, **options})[0]


def test_no_frame_index(store: Path) -> None:
    with pytest.raises(BadInput, match="no key 'frame_index'"):
        _ = AugmentedDataset(Windows(), store, 1.0, image_keys=["obs.image"])[0]


def test_wrong_range(store: Path) -> None:
    dataset = AugmentedDataset(Windows(255.0), store, 1.0, image_keys=["obs.image"], frame_index=window_of)
    with pytest.raises(BadInput, match="float_max=255"):
        _ = dataset[0]


def test_the_original_frames_of_another_camera_are_no_edits(store: Path) -> None:
    zarr.open_group(str(store), mode="r+").attrs["augmentation"] = {"image_name": "wrist"}
    with pytest.raises(BadInput, match=r"has the edits of data/wrist, and data/img as it was"):
        AugmentedDataset(Frames(), store)


def test_each_camera_has_its_own_edits_and_an_item_s_are_edited_together(store: Path) -> None:
    wrist = np.full((21, SIZE, SIZE, 3), 77, np.uint8)
    zarr.open_group(str(store), mode="r+")["data"].create_array("wrist", data=wrist, chunks=(8, SIZE, SIZE, 3))

    class TwoCameras(Frames):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {**super().__getitem__(index), "front": np.zeros((SIZE, SIZE, 3), np.uint8)}

    front = AugmentedDataset(TwoCameras(), store, 0.5, image_keys=["front"])
    dataset = AugmentedDataset(front, store, 0.5, image_keys=["img"], image_name="wrist")
    dataset.set_epoch(3)
    items = [dataset[i] for i in range(21)]
    edited = [i for i in range(21) if (items[i]["img"] == 77).all()]
    assert 0 < len(edited) < 21
    assert [i for i in range(21) if items[i]["front"].any()] == edited
    np.testing.assert_array_equal(items[edited[0]]["front"], ReplayBuffer.open(store).images()[edited[0]])


@pytest.mark.parametrize("counted", ["index", "none"])
def test_items_of_lerobot_show_the_frame_of_their_index_over_all_episodes(store: Path, counted: str) -> None:
    class LeRobotItems(Frames):
        def __getitem__(self, index: int) -> dict[str, Any]:
            image = torch.zeros(3, SIZE, SIZE)
            inside = {"episode_index": torch.tensor(1), "frame_index": torch.tensor(0)}  # the only frame, row 5
            return {"observation.image": image, **inside, counted: torch.tensor(5)}

    dataset = AugmentedDataset(LeRobotItems(), store, 1.0, image_keys=["observation.image"])
    if counted == "none":
        with pytest.raises(BadInput, match=r"no key 'index'.*pass frame_index="):
            _ = dataset[5]
        return
    expected = torch.from_numpy(ReplayBuffer.open(store).images()[5]).permute(2, 0, 1) / 255
    torch.testing.assert_close(dataset[5]["observation.image"], expected)
