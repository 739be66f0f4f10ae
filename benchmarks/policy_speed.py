"""Policy training in samples per second, against a straightforward reading of diffusion_policy's own loop.

    python benchmarks/policy_speed.py [--json OUT.json] [--rounds 6] [--policy compact]

Both train the same network on the same windows of episodes that ship, to predict the noise of one noise a window and
without landmarks, so that a sample is the same work for the network and the losses are of one kind. The reading
(real-stanford/diffusion_policy@5ba07ac: `pusht_image_dataset`, `sampler`, `train_diffusion_unet_hybrid_workspace`,
`ema_model`) keeps frames as float32, copies all 16 frames of a window to look at two, one window at a time through a
DataLoader, normalises all 16, and averages weights one by one.

One thread, DataLoader without workers; seconds are the processor's, which other work on the machine moves little. Both
take turns, a few steps each; the result is the ratio of the medians and the mean losses of the last steps, which must
show that both learn, and the same.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sim2real_aug.config import compose, settings
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.policies.demonstrations import BatchOrder, Demonstrations, load_demonstrations
from sim2real_aug.policies.diffusion import DiffusionPolicy, PolicySettings
from sim2real_aug.policies.trainer import Training, TrainSettings, learning_rate_factor, train_step
from sim2real_aug.seeding import torch_generator

LEAST_SPEED = 1.5
STEPS = 3  # of each in a round
BATCH = 64
EPISODES = 40
LAST = 9  # steps whose losses are compared
LEARNED = 0.8  # the loss of who has learned nothing is 1
SAME_LOSS = 0.15  # relative: other draws, and few of them
Batch = dict[str, Any]
Step = Callable[[], float]


@dataclass(frozen=True)
class PlainWindows(Dataset[Batch]):
    """diffusion_policy's `PushTImageDataset` over its `SequenceSampler`: float frames in memory, whole windows out."""

    frames: NDArray[np.float32]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    windows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, item: int) -> Batch:
        rows = self.windows[item]
        image = np.moveaxis(self.frames[rows], -1, 1) / 255
        observation = {"image": image, "agent_pos": self.states[rows]}
        data = {"obs": observation, "action": self.actions[rows]}
        return torch.utils._pytree.tree_map(torch.from_numpy, data)


class PlainEMA:
    """diffusion_policy's `EMAModel.step`: one parameter after the other."""

    def __init__(self, policy: nn.Module, power: float) -> None:
        self.averaged, self.power, self.step_number = copy.deepcopy(policy), power, 0

    @torch.no_grad()
    def step(self, policy: nn.Module) -> None:
        self.step_number += 1
        decay = max(0.0, 1 - self.step_number**-self.power)
        for mean, value in zip(self.averaged.parameters(), policy.parameters(), strict=True):
            mean.mul_(decay)
            mean.add_(value.data, alpha=1 - decay)


def plain_loss(policy: DiffusionPolicy, batch: Batch, generator: torch.Generator) -> Tensor:
    """`DiffusionUnetHybridImagePolicy.compute_loss`: all of the window is normalised, two steps of it are encoded.

    Its keypoints are those of the crop, as there.
    """
    chosen = policy.settings
    images, positions = (
        batch["obs"]["image"] * 2 - 1,
        policy.state_normalizer.normalize(batch["obs"]["agent_pos"]),
    )
    actions = policy.action_normalizer.normalize(batch["action"])
    seen = images[:, : chosen.n_obs_steps].flatten(0, 1)
    room, size = chosen.image_size - chosen.crop_size + 1, chosen.crop_size
    corners = torch.randint(room, (len(seen), 2), generator=generator).tolist()
    crops = torch.stack(
        [frame[:, y : y + size, x : x + size] for frame, (y, x) in zip(seen, corners, strict=True)]
    )
    keypoints = policy.encoder.encoder(crops)
    features = policy.encoder.project(keypoints.flatten(1)).unflatten(0, (len(images), -1))
    condition = torch.cat([features, positions[:, : chosen.n_obs_steps]], dim=-1).flatten(1)
    noise = torch.randn(actions.shape, generator=generator)
    steps = torch.randint(chosen.num_train_timesteps, (len(actions),), generator=generator)
    noisy = policy.noise_schedule.add_noise(actions, noise, steps)
    return nn.functional.mse_loss(policy.unet(noisy, steps, condition), noise)


def plain_arm(model: PolicySettings, chosen: TrainSettings, data: Demonstrations) -> Step:
    """The reading's loop, one optimiser step a call."""
    policy = Training.start(model, chosen, data).policy
    optimizer = torch.optim.AdamW(
        policy.parameters(), chosen.learning_rate, chosen.adam_betas, chosen.adam_eps, chosen.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, chosen.warmup_steps, chosen.steps)
    )
    ema, generator = PlainEMA(policy, chosen.ema_power), torch_generator(chosen.seed, "plain")
    windows = PlainWindows(data.frames.astype(np.float32), data.states, data.actions, data.windows)
    batches = iter(DataLoader(windows, BATCH, shuffle=True, generator=generator))

    def step() -> float:
        loss = plain_loss(policy, next(batches), generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.step(policy)
        return loss.item()

    return step


def our_arm(model: PolicySettings, chosen: TrainSettings, data: Demonstrations) -> Step:
    """`train_policy`'s loop, one optimiser step a call."""
    training = Training.start(model, chosen, data)
    order = BatchOrder(len(data), BATCH, 0.0, chosen.seed)
    return lambda: train_step(training, chosen, data.batch(*order.batch(training.step)))


def load(model: PolicySettings) -> Demonstrations:
    """The first episodes that ship, drawn flat."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "flat.zarr"
        simulate(store, SimulateSettings(episodes=EPISODES, workers=1))
        return load_demonstrations(ReplayBuffer.open(store), None, model, None, 0.0, seed=0)[0]


def measure(policy: str, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    alike = ("model.prediction_type=epsilon", "training.noise_draws=1", "training.landmark_weight=0")
    alike += ("training.warmup_steps=0",)  # both learn from the first step, so that equal losses say something
    overrides = [f"policy={policy}", *(f"policy.{setting}" for setting in alike), "device=cpu"]
    config = compose("train_policy", overrides)
    model = settings(PolicySettings, config.policy.model)
    chosen = settings(
        TrainSettings, {**config.policy.training, "batch_size": BATCH, "seed": 0, "device": "cpu"}
    )
    data = load(model)
    arms = {"reading": plain_arm(model, chosen, data), "ours": our_arm(model, chosen, data)}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    losses: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds + 1):
        for name, step in arms.items():
            start = time.process_time()
            losses[name] += [step() for _ in range(STEPS)]
            seconds[name].append((time.process_time() - start) / STEPS)
    rates = {
        name: BATCH / float(np.median(values[1:])) for name, values in seconds.items()
    }  # the first warms up
    means = {name: float(np.mean(values[-LAST:])) for name, values in losses.items()}
    ratio = rates["ours"] / rates["reading"]
    return {
        "policy": policy,
        "samples_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "loss": means,
        "ratio": round(ratio, 2),
        "ok": ratio >= LEAST_SPEED and learn_alike(means["ours"], means["reading"]),
    }


def learn_alike(ours: float, reading: float) -> bool:
    """Whether two mean losses are of policies that have learned something, and as much."""
    return max(ours, reading) < LEARNED and abs(ours / reading - 1) < SAME_LOSS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--policy", default="compact")
    arguments = parser.parse_args()
    result = measure(arguments.policy, arguments.rounds)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
