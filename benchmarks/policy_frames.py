"""How soon the policy's encoder learns where the block is: what normalised frames and keypoints in the whole frame do.

    python benchmarks/policy_frames.py [DATASET.zarr] [--steps 900] [--seeds 0 1 2] [--json OUT.json]

The encoder and one hidden layer learn the block's nine keypoints (`data/keypoint`) by regression, 32 random crops a
step; the error is the root mean square over both coordinates on episodes that were held out, centre crop, in window
units 0..512. Without a dataset: episodes that ship, drawn flat.

Arms: `ours`; `scaled`, frames in [-1, 1] instead of normalised; `crop`, keypoints where they are in the crop, as in
diffusion_policy. One thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sim2real_aug.config import compose, settings
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.policies import observation
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.observation import FrameEncoder
from sim2real_aug.seeding import torch_generator

ARMS = ("ours", "scaled", "crop")
EPISODES = 80  # drawn where no dataset is given
HELD_OUT = 10  # episodes, the last ones
BATCH, LEARNING_RATE, WIDTH = 32, 2e-3, 128
HALF_WINDOW = 256.0


def load(dataset: Path | None) -> tuple[Tensor, Tensor, int]:
    """Frames (N, H, W, 3) uint8, keypoints (N, 18) from -1 to 1, and the row where the held-out episodes start."""
    with tempfile.TemporaryDirectory() as folder:
        if dataset is None:
            dataset = Path(folder) / "flat.zarr"
            simulate(dataset, SimulateSettings(episodes=EPISODES))
        store = ReplayBuffer.open(dataset)
        keypoints = torch.from_numpy(store.read("keypoint").astype(np.float32)).flatten(1) / HALF_WINDOW - 1
        return torch.from_numpy(store.images()), keypoints, store.episode(store.n_episodes - HELD_OUT).start


def learn(arm: str, frames: Tensor, keypoints: Tensor, first_held_out: int, steps: int, seed: int) -> float:
    """Train one arm; its error on the held-out episodes."""
    model = settings(PolicySettings, compose("train_policy").policy.model)
    torch.manual_seed(seed)
    encoder = FrameEncoder(model.encoder, model.keypoints, model.features, model.crop_size)
    if arm != "scaled":
        encoder.normalizer.fit(frames[:first_held_out:50])
    head = nn.Sequential(
        nn.SiLU(), nn.Linear(model.features, WIDTH), nn.SiLU(), nn.Linear(WIDTH, keypoints.shape[1])
    )
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.05)
    generator = torch_generator(seed, "policy frames")
    for _ in range(steps):
        rows = torch.randint(first_held_out, (BATCH,), generator=generator)
        loss = F.mse_loss(head(encoder(frames[rows, None], generator)[:, 0]), keypoints[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        squares = [
            (head(encoder(shown[:, None])[:, 0]) - truth).square().mean(1)
            for shown, truth in zip(
                frames[first_held_out:].split(256), keypoints[first_held_out:].split(256), strict=True
            )
        ]
    return float(torch.cat(squares).mean().sqrt()) * HALF_WINDOW


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load(arguments.dataset)
    errors: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in arguments.seeds:
        for arm in ARMS:
            with patch.object(
                observation,
                "in_frame",
                (lambda places, *_: places) if arm == "crop" else observation.in_frame,
            ):
                errors[arm].append(round(learn(arm, *data, arguments.steps, seed), 1))
            print(arm, seed, errors[arm][-1], flush=True)
    result = json.dumps({"steps": arguments.steps, "error": errors}, indent=2)
    print(result)
    if arguments.json:
        arguments.json.write_text(result + "\n")


if __name__ == "__main__":
    main()
