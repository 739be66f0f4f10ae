"""What a run starts from: geometry beside the frames, photos that show nothing, several photos an edit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sim2real_aug.d3po.held_out import edit_held_out
from sim2real_aug.d3po.inputs import checked_composer, training_images
from sim2real_aug.d3po.rollouts import Task, draw_conditions, sample_rollout
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data import ReplayBufferWriter
from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.photos import PhotoSet, load_photos
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import load_judge

from ..tiny_editor import SIZE, build_editor

MakeTask = Callable[..., Task]


def photo_set(*levels: int) -> PhotoSet:
    names = tuple(f"{level}.png" for level in levels)
    return PhotoSet(np.stack([np.full((32, 32, 3), level, np.uint8) for level in levels]), names)


@pytest.mark.parametrize("exact", [True, False])
def test_geometry_is_that_of_the_frames(tmp_path: Path, exact: bool) -> None:
    settings = SimulateSettings(episodes=2, max_steps=3, workers=1, size=48, geometry=exact)
    simulate(tmp_path / "s.zarr", settings)
    buffer = ReplayBuffer.open(tmp_path / "s.zarr")
    redraw = None if exact else "sim2real_aug.envs.redrawing.redraw_geometry"
    images = training_images(buffer, photo_set(0), 24, 2, 0, redraw)
    assert images.geometry is not None
    frames = np.array([5, 1])
    geometry, pictures = images.geometry(frames), images.read(frames)
    assert geometry.labels.shape == pictures.shape[:3] == (2, 24, 24)
    goal, block = (pictures[geometry.labels == label].mean(0) for label in (2, 1))
    assert goal[1] > goal[0] + 30, "the goal is green"
    assert block[2] > block[0] + 10, "the block is bluish grey"


def test_wide_frames_are_squeezed_as_photos_of_their_shape_are(tmp_path: Path) -> None:
    """A stripe on the left edge: a central square would cut it off one of the two, or off both."""
    frame = np.zeros((32, 48, 3), np.uint8)
    frame[:, :6] = 255
    with ReplayBufferWriter.create(tmp_path / "wide.zarr") as writer:
        for _ in range(2):
            writer.append_episode({"img": np.stack([frame] * 3), "state": np.zeros((3, 5), np.float32)})
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.kron(frame, np.ones((4, 4, 1), np.uint8))).save(tmp_path / "photos" / "a.png")
    buffer = ReplayBuffer.open(tmp_path / "wide.zarr")
    photos = load_photos(tmp_path / "photos", 16, 48 / 32)
    read = training_images(buffer, photos, 16, 2, 0).read
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[:, :2] = 255
    np.testing.assert_array_equal(photos.images[0], expected)
    np.testing.assert_allclose(read(np.array([0]))[0], expected, atol=40)  # resampled with some of the neighbours


def test_without_a_way_to_know_it_is_left_to_the_judge(tmp_path: Path) -> None:
    simulate(tmp_path / "s.zarr", SimulateSettings(episodes=2, max_steps=3, workers=1, size=32))
    buffer = ReplayBuffer.open(tmp_path / "s.zarr")
    assert training_images(buffer, photo_set(0), 32, 2, 0, None).geometry is None


def test_photos_of_nothing_are_refused_by_the_shipped_judge() -> None:
    regions, editor = D3POSettings().regions, build_editor()
    with pytest.raises(BadInput, match=r"no 'block' in any of the photos: 90\.png, 200\.png"):
        checked_composer(editor, photo_set(90, 200), load_judge(), regions)
    with pytest.raises(BadInput, match="unknown phrase for a region 'mug'"):
        checked_composer(editor, photo_set(90), load_judge(), [*regions, "mug"])


@pytest.mark.parametrize(("asked", "count"), [(1, 1), (0, 2)])
def test_conditions_hold_the_photos_of_each_edit(make_task: MakeTask, asked: int, count: int) -> None:
    task = make_task()
    task.editor.edit_settings = replace(task.editor.edit_settings, photos_per_edit=asked)
    labels = np.arange(8, dtype=np.uint8)[:, None, None].repeat(SIZE, 1).repeat(SIZE, 2)
    known = replace(
        task.images,
        geometry=lambda frames: FrameGeometry(labels[frames], labels[frames].astype(np.float32)),
    )
    task = replace(task, images=known)
    conditions = next(iter(draw_conditions(task, 1)))
    assert conditions.photos.shape[1:] == (count, 3, SIZE, SIZE)
    assert conditions.photo_masks.shape[1:] == (count, SIZE, SIZE)
    assert conditions.geometry is not None
    for source, label in zip(conditions.source, conditions.geometry.labels[:, 0, 0], strict=True):
        frame = known.read(np.array([int(label)]))[0]
        np.testing.assert_array_equal((255 * source).round().permute(1, 2, 0).numpy(), frame)
    assert len(sample_rollout(task, conditions, 1).scores.structural) == len(conditions.source)
    assert len(edit_held_out(task).scores.structural) == 2
