"""What watches a run besides the judges that it is trained against: a guard, and the real look where it is known."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from omegaconf import DictConfig

from sim2real_aug.augment.provenance import judge_hash
from sim2real_aug.d3po.scores import JudgedScores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import open_judge
from sim2real_aug.judges.base import Judge


class StateRenderer(Protocol):
    """Draws a state in the look that the editor is to learn; `sim2real_aug.envs.make_renderer` makes one."""

    def image(self, state: ArrayLike, size: int) -> NDArray[np.uint8]:
        """The picture of a row of `data/state`, (size, size, 3) uint8."""


def open_guard(
    config: DictConfig, judge: Judge, settings: D3POSettings, device: torch.device
) -> JudgedScores | None:
    """The scores of the judge that `config.guard` makes, by the same formulas; None without one.

    judge: what `config.judge` made, which is trained against. Raises BadInput where the guard is the same one, by
    its configuration or by its weights, and where it does not know a region.
    """
    node = config.get("guard")
    if node is None:
        return None
    guard = open_judge(node, device)
    networks = all(isinstance(each, torch.nn.Module) for each in (guard, judge))
    if node == config.judge or (networks and judge_hash(guard) == judge_hash(judge)):
        raise BadInput(
            "the guard is the judge that is trained against; give another one, such as guard.path=DIR"
        )
    for region in settings.regions:
        guard.segment(torch.zeros(1, 3, 64, 64, device=device), region)
    return JudgedScores(guard, settings.regions, settings.lambda_outside)


def held_out_targets(
    renderer: StateRenderer | None, buffer: ReplayBuffer, frames: NDArray[np.int64], size: int
) -> NDArray[np.uint8] | None:
    """How the states of `frames` really look, (M, size, size, 3). Raises BadInput for a store without states."""
    if renderer is None:
        return None
    return np.stack([renderer.image(state, size) for state in buffer.take("state", frames)])
