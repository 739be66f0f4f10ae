"""Landmarks train the encoder, and only it; a store without them trains without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from sim2real_aug.config import settings
from sim2real_aug.errors import BadInput
from sim2real_aug.policies.demonstrations import load_demonstrations, open_stores
from sim2real_aug.policies.diffusion import PolicySettings, load_policy
from sim2real_aug.policies.landmarks import LandmarkHead, make_landmark_head
from sim2real_aug.policies.trainer import Training, TrainSettings, train_policy

Write = Callable[..., Path]
Compose = Callable[..., DictConfig]
POINTS = np.random.default_rng(1).uniform(0, 512, (51, 9, 2)).astype(np.float32)


def start(config: DictConfig, store: Path) -> tuple[Training, TrainSettings]:
    model = settings(PolicySettings, config.policy.model)
    chosen = settings(TrainSettings, {**config.policy.training, "seed": 0, "device": "cpu"})
    data, _ = load_demonstrations(*open_stores(store, None, model, 0.0), model, None, 0.0, seed=0)
    return Training.start(model, chosen, data), chosen


def test_loss_by_hand() -> None:
    """Landmarks 10 and 30 of a range 10..30 are -1 and 1; the head says 0.5 of both: (1.5^2 + 0.5^2) / 2."""
    head = LandmarkHead(3, torch.tensor([[10.0], [30.0]]))
    torch.nn.init.zeros_(head.read.weight)
    torch.nn.init.constant_(head.read.bias, 0.5)
    loss = head.loss(torch.rand(1, 2 * 3), torch.tensor([[[10.0], [30.0]]]))
    assert loss.item() == pytest.approx(1.25)


def test_landmarks_are_those_of_the_frames_that_a_window_shows(
    write_store: Write, tiny_config: Compose
) -> None:
    model = settings(PolicySettings, tiny_config().policy.model)
    stores = open_stores(write_store("sim.zarr", keypoint=POINTS), None, model, 0.0)
    data, _ = load_demonstrations(*stores, model, None, 0.0, seed=0)
    rows = {state.tobytes(): row for row, state in enumerate(stores[0].read("state")[:, :2])}
    items = np.array([0, 7, 29])
    observation, _ = data.batch(items, np.zeros(3, bool))
    seen = data.seen_landmarks(items)
    assert seen is not None
    for states, points in zip(observation.states.flatten(0, 1), seen.flatten(0, 1), strict=True):
        assert np.array_equal(points.numpy(), POINTS[rows[states.numpy().tobytes()]].ravel())


def test_the_encoder_learns_from_landmarks_and_the_denoiser_does_not(
    write_store: Write, tiny_config: Compose
) -> None:
    training, _ = start(tiny_config(), write_store("sim.zarr", keypoint=POINTS))
    policy, head = training.policy, training.landmark_head
    assert head is not None
    data, _ = load_demonstrations(
        *open_stores(write_store("again.zarr", keypoint=POINTS), None, policy.settings, 0.0),
        policy.settings, None, 0.0, seed=0,
    )  # fmt: skip
    items = np.arange(4)
    observation, _ = data.batch(items, np.zeros(4, bool))
    landmarks = data.seen_landmarks(items)
    assert landmarks is not None
    head.loss(policy.encode(observation), landmarks).backward()
    assert all(
        weight.grad is not None and weight.grad.any() for weight in policy.encoder.project.parameters()
    )
    assert all(weight.grad is None for weight in policy.unet.parameters())


def test_without_landmarks_a_store_trains_as_with_weight_0(
    write_store: Write, tiny_config: Compose, tmp_path: Path
) -> None:
    """Stores of the same name have the same random frames."""
    (tmp_path / "other").mkdir()
    bare = write_store("sim.zarr").rename(tmp_path / "other" / "sim.zarr")
    marked = write_store("sim.zarr", keypoint=POINTS)
    runs = {
        "bare": train_policy(tiny_config(), bare, out=tmp_path / "bare"),
        "off": train_policy(tiny_config("policy.training.landmark_weight=0"), marked, out=tmp_path / "off"),
        "on": train_policy(tiny_config(), marked, out=tmp_path / "on"),
    }
    weights = {name: load_policy(tmp_path / name).state_dict() for name in runs}
    same = [torch.equal(weights["bare"][key], weights["off"][key]) for key in weights["bare"]]
    assert all(same)
    assert not all(torch.equal(weights["off"][key], weights["on"][key]) for key in weights["off"])
    assert weights["on"].keys() == weights["off"].keys(), "the head is left behind"


def test_the_head_follows_from_the_seed(write_store: Write, tiny_config: Compose) -> None:
    training, _ = start(tiny_config(), write_store("sim.zarr"))
    assert training.landmark_head is None
    heads = [make_landmark_head(training.policy, POINTS.reshape(51, 18), seed) for seed in (0, 0, 1)]
    first, again, other = (head.read.weight for head in heads if head is not None)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(BadInput, match="landmark_weight must be at least 0; got -1"):
        TrainSettings(landmark_weight=-1)
