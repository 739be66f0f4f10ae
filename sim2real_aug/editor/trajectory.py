"""Sampling with memory: every latent of a denoising run and the log-probability of every step taken.

Legend: B trajectories, T denoising steps, (C, h, w) latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sim2real_aug.editor.ddim import ddim_step, log_prob, require_stochastic, sampling_timesteps
from sim2real_aug.editor.guidance import GuidanceScales

if TYPE_CHECKING:
    from sim2real_aug.editor.editor import Conditioning, Editor


@dataclass(frozen=True)
class DenoisingTrajectory:
    """latents, next_latents (B, T, C, h, w): x_t and x_{t-1}; timesteps (T,), falling; log_probs (B, T)."""

    latents: Tensor
    next_latents: Tensor
    timesteps: Tensor
    log_probs: Tensor

    def __post_init__(self) -> None:
        batch, steps = self.log_probs.shape
        if self.latents.shape != self.next_latents.shape or self.latents.shape[:2] != (batch, steps):
            raise ValueError(
                f"latents {tuple(self.latents.shape)}, next_latents {tuple(self.next_latents.shape)} and "
                f"log_probs {tuple(self.log_probs.shape)} must agree in (B, T)"
            )
        if self.timesteps.shape != (steps,):
            raise ValueError(f"timesteps must have shape ({steps},); got {tuple(self.timesteps.shape)}")

    @staticmethod
    def join(parts: Sequence[DenoisingTrajectory]) -> DenoisingTrajectory:
        """The trajectories of several batches, of the same timesteps, as one."""
        rows = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("latents", "next_latents", "log_probs")
        }
        return DenoisingTrajectory(timesteps=parts[0].timesteps, **rows)


def step_distribution(
    editor: Editor, conditioning: Conditioning, latents: Tensor, timesteps: Tensor,
    num_inference_steps: int, scales: GuidanceScales, eta: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Mean and standard deviation of the editor's step from `latents` (B, C, h, w) at `timesteps` (B,)."""
    output = editor.predict(latents, timesteps, conditioning, scales)
    return ddim_step(editor.scheduler, output, timesteps, latents, num_inference_steps, eta)


@torch.no_grad()
def sample_trajectory(
    editor: Editor,
    conditioning: Conditioning,
    initial_latents: Tensor,
    noise: Tensor,
    num_inference_steps: int,
    scales: GuidanceScales,
    eta: float = 1.0,
) -> DenoisingTrajectory:
    """Denoise `initial_latents` (B, C, h, w) and keep everything. noise: (B, T, C, h, w), standard normal.

    Raises BadInput where a step would have no variance (eta = 0, or an unsuitable scheduler).
    """
    require_stochastic(editor.scheduler, num_inference_steps, eta)
    timesteps = sampling_timesteps(editor.scheduler, num_inference_steps).to(initial_latents.device)
    latents, log_probs = [initial_latents.float()], []
    for t, own in zip(timesteps, noise.to(initial_latents.device).unbind(1), strict=True):
        at = t.expand(len(initial_latents))
        mean, std = step_distribution(editor, conditioning, latents[-1], at, num_inference_steps, scales, eta)
        latents.append(mean + std * own)
        log_probs.append(log_prob(latents[-1], mean, std))
    path = torch.stack(latents, dim=1)
    return DenoisingTrajectory(path[:, :-1], path[:, 1:], timesteps, torch.stack(log_probs, dim=1))
