"""A fast proxy of the closed loop: how well a network reads real-looking frames when it learned from an arm's frames.

It predicts where the block is and the chunk of actions to execute from what the policy sees, by regression, in
minutes; it is tested on the scene's own frames of episodes that it has not learned from.

Legend: B windows; O observation steps; N actions executed; positions in window units 0..512; pose (B, 4) = block's x
and y as shares of the window from -1 to 1, cosine and sine of its angle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from sim2real_aug.devices import resolve_device
from sim2real_aug.errors import BadInput, below_least
from sim2real_aug.policies.demonstrations import (
    HELD_OUT,
    TRAIN,
    BatchOrder,
    Demonstrations,
    load_demonstrations,
    open_stores,
)
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.jitter import jittered
from sim2real_aug.policies.observation import FrameEncoder, Observation
from sim2real_aug.policies.trainer import TrainSettings
from sim2real_aug.progress import progress
from sim2real_aug.seeding import derive_seed, torch_generator

AGENT, BLOCK = slice(0, 2), slice(2, 5)  # columns of a state
HALF_WINDOW = 256.0


@dataclass(frozen=True)
class ProxySettings:
    """How the proxy is trained. test_fraction: of the episodes. width: of its hidden layer."""

    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-3
    test_fraction: float = 0.1
    width: int = 256

    def __post_init__(self) -> None:
        if wrong := below_least(self, steps=1, batch_size=1, width=1):
            raise BadInput("; ".join(wrong))
        if not 0 < self.test_fraction < 1:
            raise BadInput(f"test_fraction must lie between 0 and 1; got {self.test_fraction}")


class ProxyNetwork(nn.Module):
    """The policy's encoder with a regression head in place of the diffusion U-Net."""

    def __init__(self, policy: PolicySettings, width: int) -> None:
        super().__init__()
        self.policy = policy
        self.encoder = FrameEncoder(policy.encoder, policy.keypoints, policy.features, policy.crop_size)
        self.head = nn.Sequential(
            nn.Linear(policy.n_obs_steps * (policy.features + 2), width),
            nn.SiLU(),
            nn.Linear(width, 4 + 2 * policy.n_action_steps),
        )

    def forward(self, seen: Observation, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Pose (B, 4) and actions (B, N, 2) scaled to -1..1; crops at random with a generator, else the centre."""
        features, agent = self.encoder(seen.frames, generator), _scaled(seen.states[..., AGENT])
        pose, actions = self.head(torch.cat([features, agent], -1).flatten(1)).split(
            [4, 2 * self.policy.n_action_steps], 1
        )
        return pose, actions.unflatten(1, (-1, 2))


def measure_proxy(
    sources: tuple[str | Path, str | Path | None],
    real: str | Path,
    policy: PolicySettings,
    training: TrainSettings,
    settings: ProxySettings,
) -> dict[str, float]:
    """Errors on frames of `real`, the same episodes drawn as the scene looks, of a network that learned from `sources`.

    sources: a dataset and its edits, mixed as `training` says. Returns means over windows: block_position (window
    units), block_angle (degrees), action (window units, distance to the demonstrated chunk).
    """
    whole, share = replace(policy, state_dim=5), settings.test_fraction
    mixed, alone = open_stores(*sources, whole, share), open_stores(real, None, whole, share)
    train, _ = load_demonstrations(*mixed, whole, None, share, training.seed, training.use_gate, (TRAIN,))
    _, test = load_demonstrations(*alone, whole, None, share, training.seed, wanted=(HELD_OUT,))
    return _test(_train(train, policy, training, settings), test, settings.batch_size)


def _train(
    data: Demonstrations, policy: PolicySettings, training: TrainSettings, settings: ProxySettings
) -> ProxyNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(training.seed, "proxy weights"))
        network = ProxyNetwork(policy, settings.width)
    network.encoder.normalizer.fit(data.frame_sample(training.augmented_probability))
    device = resolve_device(training.device)
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.steps)
    probability = 0.0 if data.edited is None else training.augmented_probability
    order = BatchOrder(len(data), settings.batch_size, probability, training.seed)
    with progress("training the proxy", settings.steps, unit="steps") as bar:
        for step in range(settings.steps):
            seen, actions = _to_device(data.batch(*order.batch(step)), device)
            if training.color_jitter:
                seen = jittered(seen, training.seed, step)
            pose, plan = network(seen, torch_generator(training.seed, "proxy crop", step))
            loss = F.mse_loss(pose, _pose(seen)) + F.mse_loss(plan, _scaled(_chunk(actions, policy)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.advance(1, f"loss {loss.item():.4f}")
    return network.eval()


@torch.no_grad()
def _test(network: ProxyNetwork, data: Demonstrations, batch_size: int) -> dict[str, float]:
    errors: dict[str, list[Tensor]] = {"block_position": [], "block_angle": [], "action": []}
    order = torch.arange(len(data)).split(batch_size)
    for items in order:
        batch = data.batch(items.numpy(), torch.zeros(len(items), dtype=torch.bool).numpy())
        seen, actions = _to_device(batch, next(network.parameters()).device)
        (pose, plan), truth = network(seen), _pose(seen)
        errors["block_position"].append((pose - truth)[:, :2].norm(dim=1) * HALF_WINDOW)
        turned = torch.atan2(pose[:, 3], pose[:, 2]) - torch.atan2(truth[:, 3], truth[:, 2])
        errors["block_angle"].append(torch.atan2(turned.sin(), turned.cos()).abs().rad2deg())
        apart = plan - _scaled(_chunk(actions, network.policy))
        errors["action"].append(apart.norm(dim=-1).mean(1) * HALF_WINDOW)
    return {name: float(torch.cat(parts).mean()) for name, parts in errors.items()}


def _to_device(batch: tuple[Observation, Tensor], device: torch.device) -> tuple[Observation, Tensor]:
    return batch[0].to(device), batch[1].to(device)


def _scaled(positions: Tensor) -> Tensor:
    return positions / HALF_WINDOW - 1


def _pose(seen: Observation) -> Tensor:
    block = seen.states[:, -1, BLOCK]
    return torch.cat([_scaled(block[:, :2]), block[:, 2:].cos(), block[:, 2:].sin()], dim=1)


def _chunk(actions: Tensor, policy: PolicySettings) -> Tensor:
    """The actions (B, N, 2) that the policy would execute of the window's (B, P, 2)."""
    first = policy.n_obs_steps - 1
    return actions[:, first : first + policy.n_action_steps]
