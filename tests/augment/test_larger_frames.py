"""Frames larger than the editor: prompts are composed in their size, and only what is changed of them is enlarged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.augment.classical import ComposedPrompts
from sim2real_aug.augment.engine import augment
from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.composition import prompt_size, with_change
from sim2real_aug.envs.rendering import make_renderer

SIDE = 192
RNG = np.random.default_rng(0)


def draw(count: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Random states (n, 5) and flat frames of them (n, side, side, 3)."""
    states = RNG.uniform((60, 60, 130, 130, 0), (450, 450, 380, 380, 6), (count, 5))
    renderer = make_renderer("flat")
    return states, np.stack([renderer.render(state, side).image for state in states])


PHOTOS = draw(5)[1]


def write(path: Path, states: np.ndarray, frames: np.ndarray) -> Path:
    with ReplayBufferWriter.create(path) as writer:
        episode = {"img": frames, "state": states.astype(np.float32), "action": np.zeros((len(states), 2), np.float32)}
        writer.append_episode(episode)
    return path


def sharpness(frames: np.ndarray) -> float:
    return float(np.abs(np.diff(frames.astype(float), axis=2)).max(axis=2).mean())


def test_what_is_changed_is_added_to_the_prompt_by_hand() -> None:
    prompts = torch.tensor([[0.2, 0.6], [0.4, 0.8]]).view(1, 1, 1, 2, 2).expand(1, 1, 3, 2, 2)
    small = torch.full((1, 1, 3, 1, 1), 0.5)
    torch.testing.assert_close(with_change(prompts, small, small[:, 0]), prompts[:, 0])
    brighter = torch.tensor([[0.5, 0.9], [0.7, 1.0]]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    torch.testing.assert_close(with_change(prompts, small, small[:, 0] + 0.3), brighter, msg="1.1 is cut off")


def test_prompts_are_as_large_as_the_frames_and_no_smaller_than_the_editor() -> None:
    assert prompt_size(ComposedPrompts(), 120, 160) == (120, 160)
    assert prompt_size(ComposedPrompts(), 64, 80) == (96, 96)
    assert prompt_size(ComposedPrompts(), 96, 96) == (96, 96)


@pytest.mark.parametrize("rows", [SIDE, 150])
def test_composed_prompts_of_larger_frames_are_sharp(
    tmp_path: Path, rows: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Photos of the simulator itself: the edit is the frame. One that is no square has no geometry but the judge's."""
    states, frames = draw(3)
    store = write(tmp_path / "sim.zarr", states, frames[:, :rows])
    augment(store, ComposedPrompts(), tmp_path / "out.zarr", photos=PHOTOS[:, :rows])
    edits = ReplayBuffer.open(tmp_path / "out.zarr").images()
    assert np.abs(edits.astype(float) - frames[:, :rows]).mean() < 4
    assert sharpness(edits) > 0.6 * sharpness(frames[:, :rows])
    assert "sharper" not in capsys.readouterr().err


def test_edits_of_larger_frames_are_sharp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states, frames = draw(2)
    store, editor = write(tmp_path / "sim.zarr", states, frames), load_editor()
    for name, photos in (("sharp", PHOTOS), ("soft", draw(5, 96)[1])):
        augment(store, editor, tmp_path / f"{name}.zarr", photos=photos)
    sharp, soft = (ReplayBuffer.open(tmp_path / f"{name}.zarr").images() for name in ("sharp", "soft"))
    assert sharpness(sharp) > 0.6 * sharpness(frames)
    assert sharpness(sharp) > sharpness(soft)
    assert "192x192 take after photos of 96x96: edits are no sharper" in capsys.readouterr().err
    called = editor(frames, PHOTOS)
    assert called.shape == frames.shape
    assert sharpness(called) > 0.6 * sharpness(frames)
