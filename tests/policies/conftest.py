"""A tiny store, a tiny policy and the published demonstrations, for all tests of policies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from sim2real_aug.config import compose
from sim2real_aug.data.writer import ReplayBufferWriter

TINY = (
    "device=cpu",
    "policy.model.features=8",
    "policy.model.keypoints=4",
    "policy.model.down_dims=[8,16]",
    "policy.model.step_dim=8",
    "policy.model.image_size=24",
    "policy.model.crop_size=20",
    "policy.model.num_inference_steps=10",
    "policy.training.batch_size=4",
    "policy.training.warmup_steps=2",
    "policy.training.val_items=8",
    "policy.training.log_every=2",
    "policy.training.validate_every=4",
    "policy.training.checkpoint_every=3",
    "policy.training.steps=8",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny_config() -> Callable[..., DictConfig]:
    """The training configuration of a policy that trains in a second, with more overrides."""
    return lambda *overrides: compose("train_policy", [*TINY, *overrides])


@pytest.fixture
def write_store(tmp_path: Path) -> Callable[..., Path]:
    """Write a store of random frames and states; the action is where the agent goes next."""

    def write(name: str, lengths: tuple[int, ...] = (20, 14, 17), size: int = 24, **more: np.ndarray) -> Path:
        rng = np.random.default_rng(len(name))
        with ReplayBufferWriter.create(tmp_path / name) as writer:
            start = 0
            for length in lengths:
                state = rng.uniform(50, 450, (length, 5)).astype(np.float32)
                episode: dict[str, np.ndarray] = {
                    "img": rng.integers(0, 256, (length, size, size, 3), dtype=np.uint8),
                    "state": state,
                    "action": np.roll(state[:, :2], -1, axis=0),
                }
                episode |= {key: values[start : start + length] for key, values in more.items()}
                writer.append_episode(episode)
                start += length
        return tmp_path / name

    return write


@pytest.fixture
def published() -> Path:
    folder = os.environ.get("SIM2REAL_AUG_DATA", str(Path(__file__).parents[3] / "shared" / "data"))
    path = Path(folder) / "pusht_cchi_v7_replay.zarr"
    if not path.exists():
        pytest.skip(f"the published demonstrations are not at {path}; set SIM2REAL_AUG_DATA to their folder")
    return path
