"""The D3PO loss: numbers worked by hand, an independent numpy version, and properties."""

import math

import numpy as np
import pytest
import torch

from sim2real_aug.d3po.loss import clamp_log_ratio, d3po_loss, gaussian_kl, weighed_by_std
from sim2real_aug.editor.ddim import log_prob


def numpy_loss(winner: np.ndarray, loser: np.ndarray, beta: float, clip: float) -> float:
    """yk7333/d3po's lines, in numpy: ratios, clamped, logged, weighted +1 and -1."""
    ratio_0 = np.clip(np.exp(winner), 1 - clip, 1 + clip)
    ratio_1 = np.clip(np.exp(loser), 1 - clip, 1 + clip)
    margin = beta * (1 * np.log(ratio_0) + -1 * np.log(ratio_1))
    return float(np.mean(np.log1p(np.exp(-margin))))


def test_loss_of_unmoved_policy_is_log_two() -> None:
    zero = torch.zeros(3)
    result = d3po_loss(zero, zero, beta=0.1, clip_ratio=0.1)
    assert result.value.item() == pytest.approx(math.log(2))
    assert result.implicit_accuracy.item() == 0.5
    assert result.clamped_share.item() == 0.0


def test_weighed_by_its_std_every_step_pulls_at_its_mean_with_the_noise() -> None:
    """d log pi / d mean = noise / std, a mean over 4 elements: times std it is noise / 4 at every step."""
    noise, std = torch.randn(2, 1, 2, 2), torch.tensor([0.6, 0.02]).reshape(2, 1, 1, 1)
    mean = torch.zeros(2, 1, 2, 2, requires_grad=True)
    weighed_by_std(log_prob(std * noise, mean, std), std).sum().backward()
    torch.testing.assert_close(mean.grad, noise / 4)


def test_hand_worked_loss() -> None:
    # beta (0.05 - (-0.02)) = 0.007; -log sigmoid(0.007) = log(1 + e^-0.007) = 0.693147 - 0.0035 + 0.007^2 / 8
    result = d3po_loss(torch.tensor([0.05]), torch.tensor([-0.02]), beta=0.1, clip_ratio=0.1)
    assert result.value.item() == pytest.approx(0.6896533, abs=1e-6)
    assert result.margin.item() == pytest.approx(0.07)
    assert result.implicit_accuracy.item() == 1.0


def test_loss_is_bounded_by_the_clamp() -> None:
    # log 1.1 - log 0.9 = 0.2006707; log(1 + e^-0.02006707) = 0.6831640, log(1 + e^+0.02006707) = 0.7032310
    far = torch.tensor([50.0])
    assert d3po_loss(far, -far, 0.1, 0.1).value.item() == pytest.approx(0.6831640, abs=1e-6)
    assert d3po_loss(-far, far, 0.1, 0.1).value.item() == pytest.approx(0.7032310, abs=1e-6)
    assert d3po_loss(far, -far, 0.1, 0.1).clamped_share.item() == 1.0


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("clip", [0.1, 0.2])
def test_loss_equals_numpy(beta: float, clip: float) -> None:
    rng = np.random.default_rng(0)
    winner, loser = rng.normal(0, 0.15, 64), rng.normal(0, 0.15, 64)
    ours = d3po_loss(torch.from_numpy(winner), torch.from_numpy(loser), beta, clip)
    assert ours.value.item() == pytest.approx(numpy_loss(winner, loser, beta, clip), abs=1e-12)
    assert ours.clamped_share.item() == pytest.approx(
        np.mean([np.mean((np.exp(x) > 1 + clip) | (np.exp(x) < 1 - clip)) for x in (winner, loser)])
    )


def test_gradient_raises_the_winner_and_lowers_the_loser() -> None:
    winner, loser = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    d3po_loss(winner, loser, beta=0.1, clip_ratio=0.1).value.backward()
    # d/dx -log sigmoid(beta x) at 0 = -beta / 2, over a mean of two pairs
    torch.testing.assert_close(winner.grad, torch.full((2,), -0.025))
    torch.testing.assert_close(loser.grad, torch.full((2,), 0.025))


def test_a_clamped_ratio_carries_no_gradient() -> None:
    winner, loser = torch.tensor([0.5], requires_grad=True), torch.tensor([0.05], requires_grad=True)
    d3po_loss(winner, loser, beta=0.1, clip_ratio=0.1).value.backward()
    assert winner.grad is not None
    assert loser.grad is not None
    assert winner.grad.item() == 0
    assert loser.grad.item() > 0


def test_clamp_survives_ratios_that_overflow() -> None:
    extreme = torch.tensor([1e4, -1e4])
    torch.testing.assert_close(clamp_log_ratio(extreme, 0.1), torch.tensor([math.log(1.1), math.log(0.9)]))


def test_gaussian_kl_by_hand() -> None:
    # two elements differ by 0.2 and 0 at std 0.5: (0.04 / 0.5 + 0) / 2 = 0.04
    mean = torch.zeros(1, 1, 1, 2)
    reference = torch.tensor([[[[0.2, 0.0]]]])
    assert gaussian_kl(mean, reference, torch.tensor(0.5)).item() == pytest.approx(0.04)
    assert gaussian_kl(mean, mean, torch.tensor(0.5)).item() == 0


def test_gaussian_kl_equals_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, 5, 5, generator=generator).unbind(0)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(a, 0.3), torch.distributions.Normal(b, 0.3)
    )
    torch.testing.assert_close(gaussian_kl(a, b, torch.tensor(0.3)), expected.flatten(1).mean(1))
