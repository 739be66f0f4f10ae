"""How near a policy comes to held-out demonstrations, without running it.

It does not tell how the policy does in closed loop: two policies of the same error may differ by half in coverage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.data.sequences import evenly_spaced
from sim2real_aug.policies.demonstrations import Demonstrations, use_edited
from sim2real_aug.policies.diffusion import DiffusionPolicy
from sim2real_aug.seeding import torch_generator

if TYPE_CHECKING:
    from sim2real_aug.policies.trainer import TrainSettings

SAMPLED_ITEMS = 64


@torch.no_grad()
def validate(policy: DiffusionPolicy, held_out: Demonstrations, settings: TrainSettings) -> dict[str, float]:
    """Loss, and mean distance (window units) of sampled to demonstrated actions, on held-out windows.

    Windows spread evenly over the held-out episodes; the draws are the same at every call.
    """
    items = evenly_spaced(len(held_out), settings.val_items)
    probability = 0.0 if held_out.edited is None else settings.augmented_probability
    edited = use_edited(items, probability, settings.seed, 0)
    losses = []
    for start in range(0, len(items), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        observation, actions = held_out.batch(items[part], edited[part])
        generator = torch_generator(settings.seed, "validation", start)
        loss = policy.loss(
            observation.to(policy.device), actions.to(policy.device), generator, random_crop=False
        )
        losses.append(loss.item() * len(actions))
    few = slice(None, None, math.ceil(len(items) / SAMPLED_ITEMS))
    errors = action_errors(policy, held_out, items[few], edited[few], settings.seed)
    return {"val_loss": sum(losses) / len(items), "val_action_error": errors.mean().item()}


def action_errors(
    policy: DiffusionPolicy,
    demonstrations: Demonstrations,
    items: NDArray[np.int64],
    edited: NDArray[np.bool_],
    seed: int,
) -> Tensor:
    """Mean distance (window units) of the actions that the policy would execute to the demonstrated ones, (B,).

    items: windows (B,). edited: (B,), which of them show edited frames.
    """
    first, errors = policy.settings.n_obs_steps - 1, []
    for start in range(0, len(items), SAMPLED_ITEMS):
        part = slice(start, start + SAMPLED_ITEMS)
        observation, actions = demonstrations.batch(items[part], edited[part])
        generators = [torch_generator(seed, "validation sample", int(item)) for item in items[part]]
        sampled = policy.act(observation, generators).cpu()
        apart = sampled - actions[:, first : first + sampled.shape[1]]
        errors.append(apart.norm(dim=-1).mean(dim=1))
    return torch.cat(errors)
