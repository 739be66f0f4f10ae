"""A tiny random editor, a reward that needs no judge, and a run small enough for CI."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sim2real_aug.d3po.rollouts import Task, TrainingImages
from sim2real_aug.d3po.scores import Conditions, Scores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data.photos import as_photo_set
from sim2real_aug.envs import make_renderer

from ..tiny_editor import SIZE, build_editor


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small run slower on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def darkness(conditions: Conditions, edits: Tensor) -> Scores:
    """A Scorer whose reward is brightness: the structural distance is 1 - mean of the edit."""
    dark = 1 - edits.flatten(2).mean(-1)
    return Scores(dark, torch.zeros_like(dark))


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """make_task(**settings) -> Task on 8 random frames and 2 photos, 2 of the frames held out."""

    def make(**settings: object) -> Task:
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
        images = TrainingImages(
            read=lambda indices: frames[indices],
            train=np.arange(6),
            held_out=np.arange(6, 8),
            photo_set=as_photo_set(rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)),
        )
        small = {
            "rounds": 2,
            "conditions_per_round": 2,
            "trajectories_per_condition": 3,
            "num_inference_steps": 4,
            "train_timesteps": 2,
            "batch_size": 3,
            "learning_rate": 1e-3,
            "lora_rank": 2,
            "shared_noise": False,
            "weigh_steps": False,
            "train_conditioning": True,
            "alpha": 1.0,
            "evaluate_every": 1,
            "sample_grid_every": 1,
        }
        return Task(build_editor(), darkness, images, D3POSettings(**{**small, **settings}))  # type: ignore[arg-type]

    return make


@pytest.fixture
def editor_folder(tmp_path: Path) -> Path:
    """A tiny editor on disk, with two photos."""
    editor = build_editor()
    editor.photos = np.stack([make_renderer("flat").image([450, 60, 256, 220, turn], SIZE) for turn in range(2)])
    editor.save_pretrained(tmp_path / "editor")
    return tmp_path / "editor"
