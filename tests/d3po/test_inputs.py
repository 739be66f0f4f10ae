"""What a run starts from: geometry beside the frames, photos that show nothing, several photos an edit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.d3po.held_out import edit_held_out
from sim2real_aug.d3po.inputs import check_photos, training_images
from sim2real_aug.d3po.rollouts import Task, draw_conditions, sample_rollout
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import load_judge

from ..tiny_editor import SIZE

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
    images = training_images(buffer, photo_set(0), 24, D3POSettings(held_out_frames=2), redraw)
    assert images.geometry is not None
    frames = np.array([5, 1])
    geometry, pictures = images.geometry(frames), images.read(frames)
    assert geometry.labels.shape == pictures.shape[:3] == (2, 24, 24)
    goal, block = (pictures[geometry.labels == label].mean(0) for label in (2, 1))
    assert goal[1] > goal[0] + 30, "the goal is green"
    assert block[2] > block[0] + 10, "the block is bluish grey"


def test_without_a_way_to_know_it_is_left_to_the_judge(tmp_path: Path) -> None:
    simulate(tmp_path / "s.zarr", SimulateSettings(episodes=2, max_steps=3, workers=1, size=32))
    buffer = ReplayBuffer.open(tmp_path / "s.zarr")
    assert training_images(buffer, photo_set(0), 32, D3POSettings(held_out_frames=2), None).geometry is None


def test_photos_of_nothing_are_refused_by_the_shipped_judge() -> None:
    regions = D3POSettings().regions
    with pytest.raises(BadInput, match=r"no 'block' in any of the photos: 90\.png, 200\.png"):
        check_photos(photo_set(90, 200), load_judge(), regions, torch.device("cpu"))
    with pytest.raises(BadInput, match="unknown phrase for a region 'mug'"):
        check_photos(photo_set(90), load_judge(), [*regions, "mug"], torch.device("cpu"))


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
