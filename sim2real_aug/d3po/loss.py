"""The D3PO loss of preference pairs, and what to watch beside it.

The loss itself is no measure of progress: with beta 0.1 and clip_ratio 0.1 it can only lie between 0.683 and
0.703. Watch the margin, the implicit accuracy, the clamped share and the scores.

Legend: P preference pairs of one denoising step, B rows, (c, h, w) one latent; log-probabilities are MEANS
over the latent's elements, in float32: beta and clip_ratio have their meaning only with that reduction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairLoss:
    """value: scalar, differentiable. The others are scalars without gradient.

    margin: mean of log-ratio(winner) - log-ratio(loser), before any clamp.
    implicit_accuracy: share of pairs that the policy, compared with the reference, puts in the judges' order;
        a pair that it does not move counts one half.
    clamped_share: share of the 2 P log-ratios that the clamp changed, which then carry no gradient.
    """

    value: Tensor
    margin: Tensor
    implicit_accuracy: Tensor
    clamped_share: Tensor


def clamp_log_ratio(log_ratio: Tensor, clip_ratio: float) -> Tensor:
    """log clamp(pi_theta / pi_ref, 1 - clip_ratio, 1 + clip_ratio), computed without leaving log space.

    D3PO's code (yk7333/d3po) exponentiates, clamps and takes the logarithm again, which overflows for large
    ratios; the value is the same.
    """
    return log_ratio.clamp(math.log1p(-clip_ratio), math.log1p(clip_ratio))


def weighed_by_std(log_ratio: Tensor, std: Tensor) -> Tensor:
    """Log ratios (B,) times the steps' standard deviations (B or 1, 1, 1, 1).

    Ours: a step that was taken at mean + std * noise has d log pi / d mean = noise / std. Times std, every step pulls
    at its mean with the same force and leaves the clamp after the same shift. Without it the last steps, whose std is
    a twentieth of the first ones', have all the gradient until the clamp takes it, which Adam then remembers.
    """
    return log_ratio * std.flatten()


def d3po_loss(winner_log_ratio: Tensor, loser_log_ratio: Tensor, beta: float, clip_ratio: float) -> PairLoss:
    """-log sigma(beta log-ratio(winner) - beta log-ratio(loser)), mean over the pairs. The paper's eq. 7.

    winner_log_ratio, loser_log_ratio: (P,), P >= 1, log pi_theta(a|s) - log pi_ref(a|s) of each side, each
    at its own state: the paper's last term prints pi_ref(a_l|s_w), a slip. Both are clamped on both sides.
    Clamping only the side that is already won does not do: the loser's term then pushes without an end (KL
    per element above 10 after 15 toy rounds, and the reward fell).
    """
    winner, loser = (clamp_log_ratio(ratio, clip_ratio) for ratio in (winner_log_ratio, loser_log_ratio))
    margin = (winner_log_ratio - loser_log_ratio).detach()
    clamped = torch.cat([winner != winner_log_ratio, loser != loser_log_ratio])
    return PairLoss(
        value=-F.logsigmoid(beta * (winner - loser)).mean(),
        margin=margin.mean(),
        implicit_accuracy=((margin > 0).float() + 0.5 * (margin == 0).float()).mean(),
        clamped_share=clamped.float().mean(),
    )


def gaussian_kl(mean: Tensor, reference_mean: Tensor, std: Tensor) -> Tensor:
    """KL(pi_theta || pi_ref) of one denoising step, per latent element: (B, c, h, w) twice -> (B,).

    std: (B or 1, 1, 1, 1). Both policies are Gaussians with the sampler's std, so that the divergence is
    (mean - reference_mean)^2 / (2 std^2) exactly, averaged over the elements as the log-probabilities are.
    """
    return ((mean.float() - reference_mean.float()) ** 2 / (2 * std**2)).flatten(1).mean(1)
