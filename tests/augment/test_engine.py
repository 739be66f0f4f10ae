"""augment: what changes, what does not, and that it survives being killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from torch import Tensor
from zarr.storage import LocalStore

from sim2real_aug.augment import engine, units, work
from sim2real_aug.augment.engine import augment
from sim2real_aug.augment.gate import Verdict
from sim2real_aug.augment.settings import AugmentSettings, episode_range
from sim2real_aug.augment.units import pass_size
from sim2real_aug.augment.work import photos_of_episode
from sim2real_aug.data import AugmentedDataset, PhotoSet, ReplayBuffer
from sim2real_aug.data.convert import convert
from sim2real_aug.data.photos import as_photo_set
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput, Fault
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.seeding import torch_generator

from ..tiny_editor import SIZE
from ..tree import tree_hash
from .conftest import CHUNK, LENGTHS, BrightnessJudge, editor_with_photos, write_store


def frames_of(path: Path) -> np.ndarray:
    return ReplayBuffer.open(path).images()


def test_only_the_images_change(store: Path, editor: Editor, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    before = tree_hash(store)
    summary = augment(store, editor, out, AugmentSettings(batch_size=4))
    assert tree_hash(store) == before
    after = tree_hash(out)
    for name, digest in before.items():
        if name.startswith("data/img/") and not name.startswith("data/img/."):
            assert after[name] != digest
        elif name != ".zattrs":
            assert after[name] == digest  # byte for byte
    new = {n.split("/")[1] for n in after if n not in before}
    assert new == {"edit_score", "edit_ok"}
    assert (frames_of(out) != frames_of(store)).any(axis=(1, 2, 3)).all()
    assert summary["frames_edited"] == summary["frames_passed"] == 21
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["out.zarr", "source.zarr"]


def test_small_chunks_share_a_pass(editor: Editor, tmp_path: Path, monkeypatch: Any) -> None:
    path, sizes, edit = write_store(tmp_path / "single.zarr", chunk_frames=1), list[int](), editor.edit
    monkeypatch.setattr(editor, "edit", lambda source, *rest: sizes.append(len(source)) or edit(source, *rest))
    summary = augment(path, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=8))
    assert (sizes, summary["frames_edited"]) == ([8, 8, 8], 21)
    (tmp_path / "out.zarr").rename(tmp_path / "out.zarr.partial")
    (tmp_path / "out.zarr.partial/data/img/9.0.0.0").unlink()
    again = augment(path, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=8))
    assert (sizes[3:], again["frames_edited_now"]) == ([8], 8), "the pass that lacks a frame"


def test_attributes_say_how_it_was_made(store: Path, editor: Editor, tmp_path: Path) -> None:
    augment(store, editor, tmp_path / "out.zarr", AugmentSettings(seed=5))
    attrs = ReplayBuffer.open(tmp_path / "out.zarr").attrs
    assert attrs["made"] == "by a test"
    record = attrs["augmentation"]
    assert record["seed"] == 5
    assert record["edit_settings"]["instruction"] == "a"
    assert record["edit_settings"]["num_inference_steps"] == 2
    assert len(record["photos"]) == 3
    assert record["source_hash"] == ReplayBuffer.open(store).content_hash()
    other = editor_with_photos(seed=1)
    augment(store, other, tmp_path / "other.zarr", AugmentSettings(seed=5, episodes="0:1"))
    record_of_other = ReplayBuffer.open(tmp_path / "other.zarr").attrs["augmentation"]
    assert record_of_other["editor_hash"] != record["editor_hash"]


def test_a_frame_is_the_editors_edit_of_it(store: Path, editor: Editor, tmp_path: Path) -> None:
    augment(store, editor, tmp_path / "out.zarr", AugmentSettings(precision="fp32"), editor.photos[:1])
    source = frames_of(store)
    for frame, episode in ((0, 0), (5, 1), (14, 2), (20, 3)):
        noise = editor.initial_latents(1, torch_generator(0, "noise", episode))
        expected = to_frames(
            editor.edit(to_images(source[frame : frame + 1]), to_images(editor.photos[:1]), noise)
        )
        got = ReplayBuffer.open(tmp_path / "out.zarr").images(frame, frame + 1)
        assert np.abs(got.astype(int) - expected).max() <= 1


def test_an_edit_may_take_after_all_photos(store: Path, editor: Editor, tmp_path: Path) -> None:
    augment(store, editor, tmp_path / "all.zarr", AugmentSettings(photos_per_edit=0, precision="fp32"))
    edited, source = frames_of(tmp_path / "all.zarr"), frames_of(store)
    noise = editor.initial_latents(1, torch_generator(0, "noise", 0))
    alone = to_frames(editor.edit(to_images(source[:1]), to_images(editor.photos)[None], noise))
    assert np.abs(edited[:1].astype(int) - alone).max() <= 1


def test_an_episode_keeps_its_photo_and_noise(editor: Editor, tmp_path: Path) -> None:
    path = tmp_path / "still.zarr"
    write_store(path)
    images = zarr.open_group(str(path), mode="r+")["data/img"]
    images[:] = np.broadcast_to(images[:1], images.shape)  # nothing moves
    augment(path, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=4))
    out, buffer = frames_of(tmp_path / "out.zarr").astype(int), ReplayBuffer.open(path)
    for episode in range(4):
        frames = out[buffer.episode(episode)]
        assert np.abs(frames - frames[:1]).max() <= 1  # no flicker
    assert np.abs(out[0] - out[20]).max() > 1  # another episode, another noise


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_matters_by_rounding_at_most(
    store: Path, editor: Editor, tmp_path: Path, batch_size: int
) -> None:
    augment(store, editor, tmp_path / "a.zarr", AugmentSettings(batch_size=4, precision="fp32"))
    augment(store, editor, tmp_path / "b.zarr", AugmentSettings(batch_size=batch_size, precision="fp32"))
    difference = np.abs(frames_of(tmp_path / "a.zarr").astype(int) - frames_of(tmp_path / "b.zarr"))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_precision_matters_little_and_is_recorded(store: Path, editor: Editor, tmp_path: Path) -> None:
    edits = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / f"{precision}.zarr"
        augment(store, editor, out, AugmentSettings(precision=precision))
        assert ReplayBuffer.open(out).attrs["augmentation"]["precision"] == precision
        edits[precision] = frames_of(out).astype(float)
    apart = edits["fp32"] - edits["bf16"]
    assert 0 < np.abs(apart).mean() < 1  # of 255
    augment(store, editor, tmp_path / "auto.zarr")
    assert ReplayBuffer.open(tmp_path / "auto.zarr").attrs["augmentation"]["precision"] in edits
    with pytest.raises(BadInput, match="unknown precision 'fp16'"):
        augment(store, editor, tmp_path / "other.zarr", AugmentSettings(precision="fp16"))


def test_passes_split_a_chunk_evenly() -> None:
    assert pass_size(161, 24) == 23  # 7 passes of 23
    assert pass_size(161, 16) == 15  # 11 passes; the last is padded by 4
    assert pass_size(8, 64) == 8
    assert pass_size(8, 1) == 1


def test_seed_matters(store: Path, editor: Editor, tmp_path: Path) -> None:
    augment(store, editor, tmp_path / "a.zarr", AugmentSettings(seed=0))
    augment(store, editor, tmp_path / "b.zarr", AugmentSettings(seed=1))
    assert (frames_of(tmp_path / "a.zarr") != frames_of(tmp_path / "b.zarr")).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("source", "out"), [("s.zarr", "o.zarr.zip"), ("s.zarr.zip", "o.zarr")])
def test_formats(editor: Editor, tmp_path: Path, zarr_format: int, source: str, out: str) -> None:
    reference = write_store(tmp_path / "r.zarr")
    augment(reference, editor, tmp_path / "expected.zarr")
    convert(reference, tmp_path / source, zarr_format)
    augment(tmp_path / source, editor, tmp_path / out)
    result = ReplayBuffer.open(tmp_path / out)
    assert result.zarr_format == zarr_format
    np.testing.assert_array_equal(result.images(), frames_of(tmp_path / "expected.zarr"))
    for name in ("action", "tactile", "n_contacts"):
        np.testing.assert_array_equal(result.read(name), ReplayBuffer.open(reference).read(name))


def test_chosen_episodes(store: Path, editor: Editor, tmp_path: Path) -> None:
    summary = augment(store, editor, tmp_path / "out.zarr", AugmentSettings(episodes="1:3"))
    changed = (frames_of(tmp_path / "out.zarr") != frames_of(store)).any(axis=(1, 2, 3))
    expected = np.zeros(21, bool)
    expected[5:15] = True
    np.testing.assert_array_equal(changed, expected)
    out = ReplayBuffer.open(tmp_path / "out.zarr")
    np.testing.assert_array_equal(out.read("edit_ok"), expected)
    assert np.isnan(out.read("edit_score")).all()
    assert summary["frames_edited"] == 10
    # a frame's edit does not depend on which other episodes are edited
    augment(store, editor, tmp_path / "all.zarr")
    np.testing.assert_array_equal(
        frames_of(tmp_path / "all.zarr")[5:15], frames_of(tmp_path / "out.zarr")[5:15]
    )


def test_float_store_keeps_dtype_and_untouched_values(store: Path, editor: Editor, tmp_path: Path) -> None:
    group = zarr.open_group(str(store), mode="r+")["data"]
    frames = group["img"][:]
    del group["img"]
    floats = np.where(frames < 255, frames + 0.25, 255).astype(np.float32)
    group.create_array("img", data=floats, chunks=(CHUNK, 16, 16, 3))
    augment(store, editor, tmp_path / "out.zarr", AugmentSettings(episodes="0:2"))
    out = ReplayBuffer.open(tmp_path / "out.zarr")
    assert out.array("img").dtype == np.float32
    np.testing.assert_array_equal(out.read("img", 6), floats[6:])  # also those in the chunk that was edited
    edited = out.read("img", 0, 6)
    np.testing.assert_array_equal(edited, np.rint(edited))


@pytest.mark.parametrize("size", [(12, 12), (13, 22)])
def test_frames_of_another_size_keep_it(editor: Editor, tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_store(tmp_path / "small.zarr", size)
    chosen = AugmentSettings(episodes="0:1", precision="fp32", keep_refused=True)
    augment(path, editor, tmp_path / "out.zarr", chosen, judge=BrightnessJudge())
    edited, source = frames_of(tmp_path / "out.zarr"), frames_of(path)
    assert edited.shape == (21, *size, 3)
    noise = editor.initial_latents(1, torch_generator(0, "noise", 0)).expand(5, -1, -1, -1)
    photos = photos_of_episode(0, 0, 3)
    style = to_images(editor.photos[photos].repeat(5, axis=0))
    alone = editor.edit(resized(to_images(source[:5]), SIZE), style, noise)
    assert np.abs(edited[:5].astype(int) - to_frames(resized(alone, size))).max() <= 1


@pytest.mark.parametrize(("size", "said"), [((13, 22), "22x13 are edited at 16x16 and enlarged"), ((12, 12), "")])
def test_edits_of_larger_frames_are_said_to_be_enlarged(
    editor: Editor, tmp_path: Path, capsys: Any, size: tuple[int, int], said: str
) -> None:
    path = write_store(tmp_path / "frames.zarr", size)
    augment(path, editor, tmp_path / "out.zarr", AugmentSettings(episodes="0:1"))
    told = capsys.readouterr().err
    assert said in told
    assert bool(said) == ("enlarged" in told)


def killed(work: Callable[[], Any]) -> None:
    """Run `work` in a process that must die by SIGKILL."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL


def dying(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """`function`, that kills its process at call number `calls`, before doing anything."""
    count = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    ("name", "module", "attribute", "calls"),
    [
        ("out.zarr", "editor", "edit", 1),
        ("out.zarr", "editor", "edit", 4),
        ("out.zarr", "LocalStore", "set", 3),
        ("out.zarr", "LocalStore", "set", 24),
        ("out.zarr", "LocalStore", "set", 30),
        ("out.zarr", "Path", "replace", 20),  # inside a write: the temporary file is there, the chunk is not
        ("out.zarr.zip", "editor", "edit", 4),
        ("out.zarr.zip", "engine", "pack", 1),
    ],
)
def test_killed_and_run_again_gives_the_same_store(
    store: Path, editor: Editor, tmp_path: Path, name: str, module: str, attribute: str, calls: int
) -> None:
    settings, judge = AugmentSettings(batch_size=4), BrightnessJudge()
    (tmp_path / "whole").mkdir()
    augment(store, editor, tmp_path / "whole" / name, settings, judge=judge)
    place = {"editor": editor, "engine": engine, "LocalStore": LocalStore, "Path": Path}[module]
    out = tmp_path / "killed" / name

    def run_and_die() -> None:
        setattr(place, attribute, dying(getattr(place, attribute), calls))
        augment(store, editor, out, settings, judge=judge)

    killed(run_and_die)
    assert not out.exists()
    summary = augment(store, editor, out, settings, judge=judge)
    assert summary["frames_edited"] == 21
    assert tree_hash(tmp_path / "killed") == tree_hash(tmp_path / "whole")


def test_resuming_edits_only_what_is_missing(store: Path, editor: Editor, tmp_path: Path) -> None:
    def run_and_die() -> None:
        editor.edit = dying(editor.edit, 5)  # four passes make a chunk: the first chunk is done
        augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=2))

    killed(run_and_die)
    summary = augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=2))
    assert summary["frames_edited_now"] == 13


def test_what_was_mended_in_the_meantime_is_carried_over_anew(store: Path, editor: Editor, tmp_path: Path) -> None:
    def run_and_die() -> None:
        editor.edit = dying(editor.edit, 5)
        augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=2))

    killed(run_and_die)
    contacts = zarr.open_group(str(store), mode="r+")["data/n_contacts"]
    contacts[:] = 7
    augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=2))
    assert (ReplayBuffer.open(tmp_path / "out.zarr").read("n_contacts") == 7).all()


def test_frames_that_were_mended_since_are_edited_again(store: Path, editor: Editor, tmp_path: Path) -> None:
    edit = editor.edit

    def run_and_die() -> None:
        editor.edit = dying(edit, 5)
        augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=2))

    killed(run_and_die)
    editor.edit = edit
    frames = zarr.open_group(str(store), mode="r+")["data/img"]
    frames[1:3] = 255 - frames[1:3]
    augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=2))
    augment(store, editor, tmp_path / "anew.zarr", AugmentSettings(batch_size=2))
    resumed, anew = (ReplayBuffer.open(tmp_path / name).images() for name in ("out.zarr", "anew.zarr"))
    np.testing.assert_array_equal(resumed, anew)


@pytest.mark.parametrize("name", ["out.zarr", "out.zarr.zip"])
def test_a_finished_store_is_left_as_it_is(store: Path, editor: Editor, tmp_path: Path, name: str) -> None:
    first = augment(store, editor, tmp_path / name)
    written = (tmp_path / name).stat().st_mtime_ns
    again = augment(store, editor, tmp_path / name)
    told = {"frames_edited_now": 0, "seconds": 0.0, "frames_per_second": None}
    assert again == {**first, **told}
    assert (tmp_path / name).stat().st_mtime_ns == written
    with pytest.raises(BadInput, match=r"exists, edited with another episodes, seed \(0\); choose another path"):
        augment(store, editor, tmp_path / name, AugmentSettings(seed=1, episodes="0:1"))


def test_a_url_is_not_written_to(store: Path, editor: Editor) -> None:
    with pytest.raises(BadInput, match=r"s3://bucket/out\.zarr is a URL"):
        augment(store, editor, "s3://bucket/out.zarr")


def test_edits_are_not_edited(store: Path, editor: Editor, tmp_path: Path) -> None:
    augment(store, editor, tmp_path / "out.zarr")
    with pytest.raises(BadInput, match=r"out\.zarr was edited already; edit its source, .*source\.zarr"):
        augment(tmp_path / "out.zarr", editor, tmp_path / "twice.zarr")


def test_unfinished_run_of_other_settings_is_refused(store: Path, editor: Editor, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"

    def run_and_die() -> None:
        editor.edit = dying(editor.edit, 2)
        augment(store, editor, out, AugmentSettings(batch_size=4, seed=1))

    killed(run_and_die)
    begun = tree_hash(tmp_path / "out.zarr.partial")
    with pytest.raises(BadInput, match=r"another batch_size \(4\), seed \(1\);"):
        augment(store, editor, out, AugmentSettings(seed=2))
    assert tree_hash(tmp_path / "out.zarr.partial") == begun
    augment(store, editor, out, AugmentSettings(seed=2), overwrite=True)
    assert ReplayBuffer.open(out).attrs["augmentation"]["seed"] == 2


def test_existing_output_is_kept_until_the_new_one_is_whole(
    store: Path, editor: Editor, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    augment(store, editor, out, AugmentSettings(seed=1))
    before = tree_hash(out)
    with pytest.raises(BadInput, match="--overwrite"):
        augment(store, editor, out, AugmentSettings(seed=2))

    def run_and_die() -> None:
        editor.edit = dying(editor.edit, 2)
        augment(store, editor, out, AugmentSettings(seed=2, batch_size=8), overwrite=True)

    killed(run_and_die)
    assert tree_hash(out) == before
    summary = augment(store, editor, out, AugmentSettings(seed=2, batch_size=8), overwrite=True)
    assert summary["frames_edited_now"] == 13
    assert ReplayBuffer.open(out).attrs["augmentation"]["seed"] == 2


def test_memory_is_bounded(editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_store(tmp_path / "long.zarr", lengths=(40, 41))
    read, edited = [], []
    original_read, original_edit = ReplayBuffer.read, editor.edit

    def spy_read(self: ReplayBuffer, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        if name == "img":
            read.append((self.n_frames if stop is None else stop) - start)
        return original_read(self, name, start, stop)

    def spy_edit(source: torch.Tensor, *rest: Any) -> torch.Tensor:
        edited.append(len(source))
        return original_edit(source, *rest)

    monkeypatch.setattr(ReplayBuffer, "read", spy_read)
    monkeypatch.setattr(editor, "edit", spy_edit)
    augment(path, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=4))
    assert max(read) <= CHUNK
    assert max(edited) <= 4
    assert set(edited) == {4}  # every pass has one size, the last one being padded


def test_memory_that_ends_is_one_line_with_the_batch_size_to_try(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    edit, out = editor.edit, tmp_path / "out.zarr"
    monkeypatch.setattr(editor, "edit", full)
    for size, used, tried in ((4, 4, 2), (64, 3 * CHUNK, 12)):  # no more than the store's 21 frames, in chunks
        with pytest.raises(Fault, match=f"with batch_size={used}; try batch_size={tried} --overwrite "):
            augment(store, editor, out, AugmentSettings(batch_size=size), overwrite=True)
    monkeypatch.setattr(editor, "edit", edit)
    assert augment(store, editor, out, AugmentSettings(batch_size=2), overwrite=True)["frames_edited"] == 21


@pytest.mark.parametrize("keep_refused", [False, True])
def test_dark_edits_fail_the_gate(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: Any, keep_refused: bool
) -> None:
    bright = zarr.open_group(str(store), mode="r+")["data/img"]
    frames = np.zeros((21, 16, 16, 3), np.uint8)
    frames[:, :8] = 200  # the "block" is the upper half
    bright[:] = frames
    # edits keep the block in even frames of a batch and lose it in odd ones
    keep = (torch.arange(64) % 2 == 0)[:, None, None, None]
    monkeypatch.setattr(
        editor, "edit", lambda source, *rest: torch.where(keep[: len(source)], source, source * 0)
    )
    settings = AugmentSettings(batch_size=2, keep_refused=keep_refused)
    summary = augment(store, editor, tmp_path / "out.zarr", settings, judge=BrightnessJudge())
    out = ReplayBuffer.open(tmp_path / "out.zarr")
    ok, scores = out.read("edit_ok"), out.read("edit_score")
    expected = np.array([i % 2 == 0 for _ in range(2) for i in range(8)] + [i % 2 == 0 for i in range(5)])
    np.testing.assert_array_equal(ok, expected)
    assert scores.dtype == np.float32
    # structural: brightness 200/255 is lost over half of the frame
    np.testing.assert_allclose(scores[:, 0], np.where(expected, 0, 200 / 255 / 2), atol=1e-6)
    assert np.isfinite(scores).all()
    assert summary["frames_passed"] == 11
    stored = frames * (expected | (not keep_refused))[:, None, None, None].astype(np.uint8)
    np.testing.assert_array_equal(out.images(), stored)

    class Frames(torch.utils.data.Dataset):
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"img": frames[index], "frame_index": index}

        def __len__(self) -> int:
            return 21

    shown = AugmentedDataset(Frames(), tmp_path / "out.zarr", 1.0)
    assert all(shown[i]["img"].any() for i in range(21))  # no refused edit is ever shown


def test_a_photo_whose_edits_fail_is_named(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    photos = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (255, 0)])  # good and bad
    monkeypatch.setattr(editor, "edit", lambda source, photo, noise: source * photo[:, 0])
    monkeypatch.setattr(work, "require_object", lambda *_: None)
    frames = zarr.open_group(str(store), mode="r+")["data/img"]
    frames[:] = np.full(frames.shape, 200, np.uint8)
    summary = augment(
        store, editor, tmp_path / "out.zarr", AugmentSettings(seed=1), photos, judge=BrightnessJudge()
    )
    drawn = {int(photos_of_episode(1, episode, 2)[0]) for episode in range(len(LENGTHS))}
    assert drawn == {0, 1}, "or choose another seed"
    good, bad = as_photo_set(photos).names
    assert summary["passed_by_photo"] == {good: 1.0, bad: 0.0}
    said = capsys.readouterr().err
    assert f"{bad} (0%)" in said
    assert good not in said


def test_when_all_photos_fail_it_is_not_the_photos(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(editor, "edit", lambda source, photo, noise: source * 0)
    monkeypatch.setattr(work, "require_object", lambda *_: None)
    frames = zarr.open_group(str(store), mode="r+")["data/img"]
    frames[:] = np.full(frames.shape, 200, np.uint8)
    augment(store, editor, tmp_path / "out.zarr", AugmentSettings(seed=1), judge=BrightnessJudge())
    said = capsys.readouterr().err
    assert "whatever the photo" in said
    assert "leave such photos out" not in said


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        ({"max_structural": 0.0}, 0),
        ({"max_semantic": 0.0}, 0),
        ({"max_structural": 2.0, "max_semantic": 3.0}, 21),
    ],
)
def test_limits(store: Path, editor: Editor, tmp_path: Path, limits: dict[str, float], passed: int) -> None:
    settings = AugmentSettings(min_region_iou=None, **limits)
    assert (
        augment(store, editor, tmp_path / "o.zarr", settings, judge=BrightnessJudge())["frames_passed"]
        == passed
    )


def test_photo_masks_reach_the_semantic_score(store: Path, editor: Editor, tmp_path: Path) -> None:
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[:, :4, :, :2] = 255
    image[:, 4:, :, 1:] = 255
    mask = np.zeros((16, 16), bool)
    mask[:4] = True
    scores = []
    for name, masks in (("a", None), ("b", {"p.png": mask})):
        photos = PhotoSet(image, ("p.png",), masks)
        summary = augment(store, editor, tmp_path / f"{name}.zarr", photos=photos, judge=BrightnessJudge())
        scores.append(summary["semantic_score"])
    assert scores[0] != scores[1]


def test_photos_that_only_their_masks_make_usable_stay_so_in_a_saved_editor(store: Path, tmp_path: Path) -> None:
    class BlindToBlack(BrightnessJudge):
        def segment(self, images: torch.Tensor, phrase: str) -> torch.Tensor:
            return (images > 0).flatten(1).any(1)[:, None, None].expand_as(images[:, 0])

    photos = PhotoSet(np.zeros((1, SIZE, SIZE, 3), np.uint8), ("a.jpg",), {"a.jpg": np.eye(SIZE, dtype=bool)})
    trained = editor_with_photos()
    trained.photo_set = photos
    trained.save_pretrained(tmp_path / "editor")
    augment(store, load_editor(tmp_path / "editor"), tmp_path / "out.zarr", judge=BlindToBlack())
    record = ReplayBuffer.open(tmp_path / "out.zarr").attrs["augmentation"]
    assert record["photos"] == {"a.jpg": photos.hashes[0]}


def test_frames_of_another_task_are_refused(store: Path, editor: Editor, tmp_path: Path) -> None:
    """What the judge does not see would be painted over, and pass the gate."""
    masked = PhotoSet(np.zeros((1, SIZE, SIZE, 3), np.uint8), ("a.jpg",), {"a.jpg": np.eye(SIZE, dtype=bool)})

    class Blind(BrightnessJudge):
        def segment(self, images: torch.Tensor, phrase: str) -> torch.Tensor:
            return torch.zeros_like(images[:, 0], dtype=torch.bool)

    with pytest.raises(BadInput, match=r"finds no 'block' in any of 16 frames of .*source\.zarr: judge and editor"):
        augment(store, editor, tmp_path / "out.zarr", photos=masked, judge=Blind())
    assert [p.name for p in tmp_path.iterdir()] == ["source.zarr"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes": "5"}, "A:B"),
        ({"episodes": "4:9"}, "none of"),
        ({"episodes": "2:2"}, "none of"),
        ({"image_name": "state"}, "does not hold"),
    ],
)
def test_bad_settings_write_nothing(
    store: Path, editor: Editor, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        augment(store, editor, tmp_path / "out.zarr", AugmentSettings(**settings))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["source.zarr"]


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 0}, {"min_region_iou": 1.5}, {"max_structural": -1}, {"max_semantic": float("nan")}],
)
def test_impossible_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        AugmentSettings(**settings)


def test_bad_inputs_write_nothing(store: Path, editor: Editor, tmp_path: Path) -> None:
    without_photos = editor_with_photos()
    without_photos.photos = None
    with pytest.raises(BadInput, match="--photos"):
        augment(store, without_photos, tmp_path / "out.zarr")
    with pytest.raises(BadInput, match="dataset itself"):
        augment(store, editor, store, overwrite=True)
    with pytest.raises(BadInput, match="does not exist"):
        augment(tmp_path / "no.zarr", editor, tmp_path / "out.zarr")
    with pytest.raises(BadInput, match="no photo folder at no-photos"):
        augment(store, editor, tmp_path / "out.zarr", photos="no-photos")
    (store / "data/img/2.0.0.0").unlink()
    with pytest.raises(BadInput, match="missing"):
        augment(store, editor, tmp_path / "out.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["source.zarr"]


def test_editor_that_gives_nan_is_a_fault(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(editor, "edit", lambda source, *rest: source * float("nan"))
    with pytest.raises(Fault, match="frames 0 to 7"):
        augment(store, editor, tmp_path / "out.zarr", AugmentSettings(batch_size=8))
    assert not (tmp_path / "out.zarr").exists()


def test_black_and_empty_chunks_are_written(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(editor, "edit", lambda source, *rest: source * 0)
    augment(store, editor, tmp_path / "out.zarr")
    assert not frames_of(tmp_path / "out.zarr").any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, range(4)),
        ("0:2", range(2)),
        (":", range(4)),
        ("1:", range(1, 4)),
        (":-1", range(3)),
        ("-2:", range(2, 4)),
    ],
)
def test_episode_ranges(text: str | None, expected: range) -> None:
    assert episode_range(text, 4) == expected


def test_shipped_settings_are_the_defaults() -> None:
    from sim2real_aug.augment.settings import read_config
    from sim2real_aug.config import compose
    from sim2real_aug.judges.compact import CompactJudge

    shipped, judge, _ = read_config(compose("augment"))
    assert isinstance(judge, CompactJudge)
    assert shipped == AugmentSettings(frame_geometry="sim2real_aug.envs.redrawing.redraw_geometry")


def test_the_judge_is_put_on_the_device_that_is_asked_for() -> None:
    from sim2real_aug.augment.settings import read_config
    from sim2real_aug.config import compose

    _, judge, device = read_config(compose("augment", ["device=meta"]))
    assert device == torch.device("meta")
    assert {parameter.device for parameter in judge.parameters()} == {device}  # type: ignore[attr-defined]


def test_editor_and_judge_get_all_their_inputs_on_the_editors_device(
    store: Path, editor: Editor, tmp_path: Path, monkeypatch: Any
) -> None:
    """Of the meta device, whose tensors have no values: it is asked only where they are."""
    meta = torch.device("meta")
    seen: dict[str, set[torch.device]] = {"edit": set(), "photos": set(), "frames": set(), "judge": set()}

    def edit(*inputs: Tensor) -> Tensor:
        seen["edit"] |= {each.device for each in inputs}
        return torch.zeros(inputs[0].shape)

    def check_photos(judge: Any, photos: Tensor, masks: Tensor, *_: Any) -> None:
        seen["photos"] |= {photos.device, masks.device}

    def check_frames(judge: Any, frames: Tensor, *_: Any) -> None:
        seen["frames"] |= {frames.device}

    def judge_edits(conditions: Any, edits: Tensor, *_: Any) -> Verdict:
        parts = (conditions.source, conditions.photos, conditions.photo_masks, edits)
        seen["judge"] |= {part.device for part in parts}
        return Verdict(np.zeros((len(edits), 2), np.float32), np.ones(len(edits), bool))

    elsewhere = SimpleNamespace(
        device=meta, edit=edit, photos=editor.photos, components={}, edit_settings=editor.edit_settings,
        image_size=SIZE, initial_latents=editor.initial_latents,
    )  # fmt: skip
    monkeypatch.setattr(work, "require_object", check_photos)
    monkeypatch.setattr(work, "require_in_frames", check_frames)
    monkeypatch.setattr(units, "judge_edits", judge_edits)
    monkeypatch.setattr(units, "autocast", lambda *_: nullcontext())  # torch has none for meta
    settings = AugmentSettings(precision="fp32")
    augment(store, elsewhere, tmp_path / "out.zarr", settings, judge=BrightnessJudge())
    assert seen == {"edit": {meta}, "photos": {meta}, "frames": {meta}, "judge": {meta}}


def test_record_is_json(store: Path, editor: Editor, tmp_path: Path) -> None:
    augment(store, editor, tmp_path / "out.zarr", judge=BrightnessJudge())
    assert "NaN" not in json.dumps(ReplayBuffer.open(tmp_path / "out.zarr").attrs)


def test_published_store(shared_data: Path, editor: Editor, tmp_path: Path) -> None:
    source = ReplayBuffer.open(shared_data / "pusht_cchi_v7_replay.zarr")
    augment(source.path, editor, tmp_path / "out.zarr", AugmentSettings(episodes="0:1", batch_size=64))
    out = ReplayBuffer.open(tmp_path / "out.zarr")
    assert out.array("img").dtype == np.float32
    for name in ("action", "state", "keypoint", "n_contacts"):
        np.testing.assert_array_equal(out.read(name), source.read(name))
    np.testing.assert_array_equal(out.read("img", 161, 400), source.read("img", 161, 400))
