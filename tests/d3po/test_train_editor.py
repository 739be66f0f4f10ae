"""`train_editor` as the command calls it: shipped configuration, tiny editor and judge, bad input."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import compose, settings
from sim2real_aug.d3po import trainer
from sim2real_aug.d3po.inputs import open_photos, training_images
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.trainer import train_editor
from sim2real_aug.data.photos import load_photos
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.writer import ReplayBufferWriter
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.editor import Editor
from sim2real_aug.envs import make_renderer
from sim2real_aug.errors import BadInput, Fault

from ..tiny_editor import build_editor

TINY = [
    "device=cpu",
    "simulate.settings.episodes=2",
    "simulate.settings.max_steps=4",
    "d3po.rounds=1",
    "d3po.conditions_per_round=1",
    "d3po.trajectories_per_condition=2",
    "d3po.num_inference_steps=2",
    "d3po.train_timesteps=1",
    "d3po.held_out_frames=2",
]


@pytest.fixture
def config(editor_folder: Path) -> DictConfig:
    return compose("train_editor", [*TINY, f"editor.path={editor_folder}"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), make_renderer("flat").image([450, 60, 256, 220, index], 50)[5:45])
    mask = np.zeros((40, 50), np.uint8)
    mask[:, :25] = 255
    cv2.imwrite(str(folder / "1.mask.png"), mask)
    return folder


def test_without_a_word_the_simulator_and_the_editors_own_photos_are_used(
    config: DictConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    summary = train_editor(config, out=run)
    assert "no photos given: the 2 that came with the editor are used" in capsys.readouterr().err
    assert Path(summary["picture"]).is_file()
    assert Editor.from_pretrained(run / "editor").photos is not None
    assert OmegaConf.load(run / "config.yaml").photo_hashes
    again = train_editor(config, out=run)
    assert again == summary, "a finished run is not run again"
    with pytest.raises(BadInput, match=r"another d3po\.beta"):
        train_editor(DictConfig(OmegaConf.merge(config, {"d3po": {"beta": 0.2}})), out=run)


def test_memory_that_ends_is_one_line_and_the_run_goes_on_with_a_smaller_batch(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    whole = train_editor(config, out=tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "sample_round", full)
        with pytest.raises(Fault, match=r"^GPU memory .* d3po\.batch_size=24; try d3po\.batch_size=12 \("):
            train_editor(config, out=tmp_path / "cut")
    smaller = DictConfig(OmegaConf.merge(config, {"d3po": {"batch_size": 2}}))
    assert train_editor(smaller, out=tmp_path / "cut")["kept_round"] == whole["kept_round"]


def test_bad_input_touches_nothing(config: DictConfig, tmp_path: Path, photos: Path) -> None:
    run = tmp_path / "run"
    train_editor(config, out=run)
    before = (run / "summary.json").read_text()
    wrong: list[dict[str, Any]] = [
        {"dataset": tmp_path / "nowhere.zarr"},
        {"photos": tmp_path / "nowhere"},
    ]
    for arguments in wrong:
        with pytest.raises(BadInput, match="nowhere"):
            train_editor(config, out=run, overwrite=True, **arguments)
    one = DictConfig(OmegaConf.merge(config, {"d3po": {"trajectories_per_condition": 1}}))
    with pytest.raises(BadInput, match="trajectories_per_condition"):
        train_editor(one, out=run, overwrite=True)
    assert (run / "summary.json").read_text() == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"d3po": {"lora_target_modules": ["to_q", "nosuch"]}},
            r"LoRA's target_modules .* got \['nosuch'\].* to_out\.0",
        ),
        ({"d3po": {"lora_target_modules": []}}, "LoRA's target_modules .* got none"),
        ({"d3po": {"num_inference_steps": 2000}}, r"num_inference_steps must lie in 1\.\.1000"),
        ({"target": {"_target_": "sim2real_aug.envs.make_renderer", "domain": "nosuch"}}, "unknown domain 'nosuch'"),
        ({"target": {"_target_": "sim2real_aug.envs.make_renderer", "domainn": "flat"}}, "argument 'domainn'"),
    ],
)
def test_what_the_run_would_fail_at_later_is_refused_before_it_begins(
    config: DictConfig, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        train_editor(DictConfig(OmegaConf.merge(config, changed)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_store_that_cannot_be_used_leaves_the_run_that_was_to_be_replaced(
    config: DictConfig, tmp_path: Path, photos: Path
) -> None:
    run = tmp_path / "run"
    train_editor(config, photos=photos, out=run)
    of_another_task = r"no 'block' in any of 3 frames of .*store\.zarr: judge and editor that ship know Push-T"
    for frames, arrays, message in ((1, "img", "has 1 frame"), (4, "camera_0", "img"), (4, "img", of_another_task)):
        with ReplayBufferWriter.create(tmp_path / "store.zarr", overwrite=True) as writer:
            writer.append_episode({arrays: np.zeros((frames, 16, 16, 3), np.uint8)})
        with pytest.raises(BadInput, match=message):
            train_editor(config, tmp_path / "store.zarr", photos, run, overwrite=True)
        assert (run / "summary.json").is_file()


def test_the_specialist_keeps_the_photos_with_names_and_masks(
    config: DictConfig, tmp_path: Path, photos: Path
) -> None:
    given = load_photos(photos, 16)
    kept = load_editor(train_editor(config, photos=photos, out=tmp_path / "run")["editor"]).photo_set
    assert kept is not None
    assert (kept.names, kept.hashes) == (given.names, given.hashes)
    np.testing.assert_array_equal(kept.mask_of_each, given.mask_of_each)


def test_other_content_under_the_same_names_is_another_run(
    config: DictConfig, tmp_path: Path, photos: Path, editor_folder: Path
) -> None:
    def write_store(angle: float) -> Path:
        frame = make_renderer("flat").image([450, 60, 256, 220, angle], 16)
        with ReplayBufferWriter.create(tmp_path / "store.zarr", overwrite=True) as writer:
            for _ in range(2):
                writer.append_episode({"img": np.stack([frame] * 4)})
        return tmp_path / "store.zarr"

    def refused(changed: str) -> None:
        with pytest.raises(BadInput, match=f"another {changed};"):
            train_editor(config, store, photos, tmp_path / "run")

    store = write_store(1)
    summary = train_editor(config, store, photos, tmp_path / "run")
    moved = [path.rename(tmp_path / f"moved-{path.name}") for path in (store, photos)]
    assert train_editor(config, *moved, tmp_path / "run") == summary, "the same inputs elsewhere"
    photos = moved[1]
    write_store(2)
    refused("dataset_hash")
    write_store(1)
    mask = (photos / "1.mask.png").read_bytes()
    (photos / "1.mask.png").unlink()
    refused("photo_hashes")
    (photos / "1.mask.png").write_bytes(mask)
    build_editor(seed=1).save_pretrained(editor_folder)
    refused("editor_hash")


def test_an_editor_without_photos_asks_for_some(editor_folder: Path) -> None:
    editor = Editor.from_pretrained(editor_folder)
    assert len(open_photos(None, editor)) == 2
    editor.photos = None
    with pytest.raises(BadInput, match="--photos DIR"):
        open_photos(None, editor)


def test_a_specialist_keeps_photos_as_large_as_the_frames(photos: Path, tmp_path: Path) -> None:
    """Of an editor that composes its prompts, which are as large as the frames."""
    with ReplayBufferWriter.create(tmp_path / "store.zarr") as writer:
        for _ in range(2):
            writer.append_episode({"img": np.full((5, 20, 30, 3), 90, np.uint8)})
    store = ReplayBuffer.open(tmp_path / "store.zarr")
    composing, taking = (SimpleNamespace(image_size=16, composes=composes) for composes in (True, False))
    assert open_photos(photos, taking, store).images.shape == (2, 16, 16, 3)
    kept = open_photos(photos, composing, store)
    assert kept.images.shape == (2, 30, 30, 3)
    images = training_images(store, kept, 16, 3, 0)
    assert images.photos.shape == (2, 16, 16, 3)
    assert images.photo_masks.sum() == pytest.approx(kept.mask_of_each.sum() * (16 / 30) ** 2, rel=0.1)
    assert images.kept_photos is kept


def test_frames_and_masks_come_at_the_editors_size(tmp_path: Path, photos: Path) -> None:
    with ReplayBufferWriter.create(tmp_path / "store.zarr") as writer:
        for level in (10, 20, 30):
            writer.append_episode({"img": np.full((5, 32, 32, 3), level, np.uint8)})
    buffer = ReplayBuffer.open(tmp_path / "store.zarr")
    images = training_images(buffer, load_photos(photos, 16), 16, 3, 0)
    frames = images.read(np.array([0, 5, 14]))
    assert frames.shape == (3, 16, 16, 3)
    assert [int(frame.mean()) for frame in frames] == [10, 20, 30]
    assert images.photos.shape == (2, 16, 16, 3)
    assert not images.photo_masks[0].any()
    assert images.photo_masks[1, :, :7].all()
    assert not images.photo_masks[1, :, 9:].any()
    assert len(images.held_out) == 3
    assert len(images.train) == 10


def test_the_shipped_configuration_fills_the_settings() -> None:
    node = compose("train_editor").d3po
    chosen = settings(D3POSettings, node)
    assert set(node) == set(D3POSettings.__dataclass_fields__), "every knob is in the YAML"
    assert chosen.regions == ("table", "block", "goal", "pusher")
    assert compose("train_editor", ["seed=7"]).d3po.seed == 7
    with pytest.raises(BadInput, match=r"Did you mean 'd3po\.beta'"):
        compose("train_editor", ["d3po.betta=1"])
