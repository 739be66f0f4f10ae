"""The DDIM step as a Gaussian policy: its mean, its standard deviation, the log-density of a taken step.

Source: DDIM (Song et al. 2021), equations 12 and 16; D3PO's `ddim_step_with_logprob` (yk7333/d3po@40d3175).
Legend: ā is the scheduler's `alphas_cumprod`; B trajectories; latents (B, C, H, W); timesteps (B,) or a number.
"""

from __future__ import annotations

import math

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from sim2real_aug.errors import BadInput


def sampling_timesteps(scheduler: DDIMScheduler, num_inference_steps: int) -> Tensor:
    """The timesteps of a sampling run, (T,), falling. Raises BadInput for a count the scheduler cannot do."""
    trained = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= trained:
        raise BadInput(f"num_inference_steps must lie in 1..{trained}; got {num_inference_steps}")
    scheduler.set_timesteps(num_inference_steps)
    return scheduler.timesteps.clone()


def _alphas(scheduler: DDIMScheduler, timesteps: Tensor, num_inference_steps: int) -> tuple[Tensor, Tensor]:
    """ā at the timesteps and at the ones before them, shaped to broadcast over latents, in float32."""
    alphas = _table(scheduler, timesteps.device)
    before = timesteps - scheduler.config.num_train_timesteps // num_inference_steps
    previous = torch.where(before >= 0, alphas[before.clamp(min=0)], float(scheduler.final_alpha_cumprod))
    return alphas[timesteps].reshape(-1, 1, 1, 1), previous.reshape(-1, 1, 1, 1)


def _table(scheduler: DDIMScheduler, device: torch.device) -> Tensor:
    """ā of every timestep, float32. The scheduler keeps it where it was asked for last, as its own `add_noise` does: a
    copy at every step would wait for the device."""
    if scheduler.alphas_cumprod.device != device:
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    return scheduler.alphas_cumprod.float()


def _std(alpha: Tensor, previous: Tensor, eta: float) -> Tensor:
    """σ = η √((1 − ā_prev)/(1 − ā_t)) √(1 − ā_t/ā_prev); DDIM equation 16."""
    variance = (1 - previous) / (1 - alpha) * (1 - alpha / previous)
    return eta * variance.clamp(min=0).sqrt()


def _x0_and_noise(
    scheduler: DDIMScheduler, output: Tensor, sample: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """What the model's output says of the clean latents and of the noise."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return (sample - (1 - alpha).sqrt() * output) / alpha.sqrt(), output
    if kind == "v_prediction":
        return (
            alpha.sqrt() * sample - (1 - alpha).sqrt() * output,
            alpha.sqrt() * output + (1 - alpha).sqrt() * sample,
        )
    raise BadInput(f"prediction_type must be 'epsilon' or 'v_prediction'; the scheduler has '{kind}'")


def velocity_of(scheduler: DDIMScheduler, latents: Tensor, timesteps: Tensor) -> Tensor:
    """-√(1 − ā) x, like `latents` (B, C, H, W): the part of v = √ā ε − √(1 − ā) x that clean latents x make.

    A network whose output this is added to predicts clean latents less x.
    """
    alphas = _table(scheduler, latents.device)[timesteps].reshape(-1, 1, 1, 1)
    return -(1 - alphas).sqrt() * latents


def ddim_step(
    scheduler: DDIMScheduler,
    output: Tensor,
    timesteps: Tensor,
    sample: Tensor,
    num_inference_steps: int,
    eta: float,
) -> tuple[Tensor, Tensor]:
    """Mean, like `sample`, and standard deviation, (B or 1, 1, 1, 1), of p(x_{t-1} | x_t); DDIM equation 12.

    In float32 whatever the inputs: a log-density of a step with σ = 0.02 has no digits to lose.
    """
    alpha, previous = _alphas(
        scheduler, torch.as_tensor(timesteps, device=sample.device), num_inference_steps
    )
    sample, output = sample.float(), output.float()
    x0, noise = _x0_and_noise(scheduler, output, sample, alpha)
    std = _std(alpha, previous, eta)
    mean = previous.sqrt() * x0 + (1 - previous - std**2).clamp(min=0).sqrt() * noise
    return mean, std


def log_prob(next_latents: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Log-density of the step taken, (B,): the MEAN over latent elements, as D3PO and DDPO take it.

    β and the clip range of the loss only have their published meaning with the mean. `next_latents` is data:
    no gradient flows into it.
    """
    deviation = (next_latents.detach().float() - mean) / std
    density = -0.5 * deviation**2 - std.log() - 0.5 * math.log(2 * math.pi)
    return density.mean(dim=(1, 2, 3))


def require_stochastic(scheduler: DDIMScheduler, num_inference_steps: int, eta: float) -> None:
    """Refuse a sampling run that has a step without variance: its log-density would be infinite.

    Raises BadInput that says which setting of the scheduler to change.
    """
    timesteps = sampling_timesteps(scheduler, num_inference_steps)
    alpha, previous = _alphas(scheduler, timesteps, num_inference_steps)
    std = _std(alpha, previous, eta).flatten()
    if (std > 0).all():
        return
    worst = int(timesteps[std.argmin()])
    raise BadInput(
        f"the step at timestep {worst} has standard deviation 0, so no log-probability; sample with eta > 0 "
        "(got {:g}) and a scheduler with set_alpha_to_one=False, clip_sample=False, steps_offset=1".format(
            eta
        )
    )
