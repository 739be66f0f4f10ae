"""The DDIM step and its log-probability, against diffusers' scheduler, numpy and hand-worked numbers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from sim2real_aug.editor.ddim import ddim_step, log_prob, require_stochastic, sampling_timesteps
from sim2real_aug.errors import BadInput


def scheduler(**options: object) -> DDIMScheduler:
    defaults = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
    }  # fmt: skip
    return DDIMScheduler(**{**defaults, **options})


def draw(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_step_equals_diffusers(prediction: str, spacing: str, eta: float) -> None:
    ours = scheduler(prediction_type=prediction, timestep_spacing=spacing)
    steps = sampling_timesteps(ours, 20)
    for t in (steps[0], steps[7], steps[-1]):
        output, sample, noise = draw(1), draw(2), draw(3)
        mean, std = ddim_step(ours, output, t.expand(2), sample, 20, eta)
        expected = ours.step(output, int(t), sample, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(mean + std * noise, expected, atol=2e-5, rtol=1e-5)


def test_each_sample_may_be_at_its_own_timestep() -> None:
    ours = scheduler()
    steps = sampling_timesteps(ours, 20)
    output, sample = draw(1), draw(2)
    mean, std = ddim_step(ours, output, steps[[3, 11]], sample, 20, 1.0)
    for i, t in enumerate(steps[[3, 11]]):
        one_mean, one_std = ddim_step(ours, output[i : i + 1], t, sample[i : i + 1], 20, 1.0)
        torch.testing.assert_close(mean[i : i + 1], one_mean)
        torch.testing.assert_close(std[i : i + 1], one_std)


def test_standard_deviations_of_stable_diffusion() -> None:
    """The first and the last of 20 steps, as D3PO's code has them."""
    ours = scheduler()
    steps = sampling_timesteps(ours, 20)
    assert steps[0] == 951
    assert steps[-1] == 1
    zero = torch.zeros(1, 4, 1, 1)
    stds = [ddim_step(ours, zero, t, zero, 20, 1.0)[1].item() for t in (steps[0], steps[-1])]
    assert stds == pytest.approx([0.644, 0.02065], rel=1e-3)


def test_log_prob_by_hand() -> None:
    """Two elements, one at the mean and one two deviations off: the mean of -log σ - ½ log 2π - {0, 2}."""
    taken = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1)
    mean = torch.tensor([1.0, 1.0]).reshape(1, 2, 1, 1)
    expected = -math.log(0.5) - 0.5 * math.log(2 * math.pi) - 1.0
    assert log_prob(taken, mean, torch.tensor(0.5)).item() == pytest.approx(expected, rel=1e-6)


def test_log_prob_equals_numpy_and_peaks_at_the_mean() -> None:
    taken, mean, std = draw(1), draw(2), torch.tensor([0.3, 0.02]).reshape(2, 1, 1, 1)
    x, m, s = (a.double().numpy() for a in (taken, mean, std))
    density = np.exp(-((x - m) ** 2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi))
    with np.errstate(divide="ignore"):
        expected = np.log(density)
    assert np.isfinite(expected[0]).all()
    np.testing.assert_allclose(log_prob(taken, mean, std)[0], expected[0].mean(), rtol=1e-5)
    assert (log_prob(mean, mean, std) > log_prob(taken, mean, std)).all()


def test_no_gradient_flows_into_the_step_taken() -> None:
    taken = draw(1).requires_grad_()
    mean = draw(2).requires_grad_()
    log_prob(taken, mean, torch.tensor(0.5)).sum().backward()
    assert taken.grad is None
    assert mean.grad is not None


@pytest.mark.parametrize(
    ("options", "eta"),
    [({}, 0.0), ({"set_alpha_to_one": True}, 1.0), ({"steps_offset": 0}, 1.0)],
)
def test_a_step_without_variance_is_refused(options: dict[str, object], eta: float) -> None:
    with pytest.raises(BadInput, match="standard deviation 0"):
        require_stochastic(scheduler(**options), 20, eta)


def test_settings_with_variance_pass() -> None:
    require_stochastic(scheduler(), 20, 1.0)
    require_stochastic(scheduler(timestep_spacing="trailing", steps_offset=0), 8, 1.0)
    pure_noise = scheduler(
        timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    require_stochastic(pure_noise, 4, 1.0)


def test_first_step_from_pure_noise_by_hand() -> None:
    """With nothing of x_0 in x_T the velocity is -x_0 and, at eta = 1, the step draws x_{t-1} anew around it."""
    pure_noise = scheduler(
        timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True
    )
    t = sampling_timesteps(pure_noise, 4)[0]
    alpha_before = pure_noise.alphas_cumprod[int(t) - 250]
    velocity = draw(1)
    mean, std = ddim_step(pure_noise, velocity, t, draw(2), 4, 1.0)
    torch.testing.assert_close(mean, -velocity * alpha_before.sqrt(), atol=2e-3, rtol=0)
    assert std.item() == pytest.approx((1 - alpha_before).sqrt().item(), rel=1e-4)


def test_impossible_step_counts_are_refused() -> None:
    with pytest.raises(BadInput, match=r"num_inference_steps must lie in 1\.\.1000; got 0"):
        sampling_timesteps(scheduler(), 0)
