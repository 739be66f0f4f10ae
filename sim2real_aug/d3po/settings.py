"""Settings of a D3PO run, under the names that D3PO's public code uses; `configs/d3po/` holds the values."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from sim2real_aug.errors import BadInput

COUNTS = (
    "rounds",
    "conditions_per_round",
    "num_inference_steps",
    "train_timesteps",
    "inner_epochs",
    "batch_size",
    "updates_per_round",
    "lora_rank",
    "held_out_frames",
    "evaluate_every",
    "checkpoint_every",
    "sample_grid_every",
    "guard_patience",
)
POSITIVE = ("beta", "learning_rate", "max_grad_norm", "max_kl", "adam_epsilon", "lora_alpha")
SCALES = ("image_guidance_scale", "style_guidance_scale", "guidance_scale")
NOT_NEGATIVE = ("alpha", "lambda_outside", "weight_decay", "guard_tolerance")


@dataclass(frozen=True)
class D3POSettings:
    """Each field is explained in `configs/d3po/compact.yaml`, which has the same values. Raises BadInput that lists
    every mistake."""

    rounds: int = 12
    conditions_per_round: int = 8
    trajectories_per_condition: int = 6
    num_inference_steps: int = 8
    eta: float = 1.0
    image_guidance_scale: float | None = None
    style_guidance_scale: float | None = None
    guidance_scale: float | None = None
    train_timesteps: int = 1
    shared_noise: bool = True
    weigh_steps: bool = True
    inner_epochs: int = 1
    batch_size: int = 24
    updates_per_round: int = 1
    beta: float = 0.1
    clip_ratio: float = 0.1
    precision: str = "fp32"
    ema_decay: float = 0.0
    learning_rate: float = 3e-3
    adam_betas: tuple[float, float] = (0.9, 0.999)
    adam_epsilon: float = 1e-8
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    max_kl: float = 1000.0
    alpha: float = 4.0
    lambda_outside: float = 0.05
    regions: tuple[str, ...] = ("table", "block", "goal", "pusher")
    train: str = "lora"
    lora_rank: int = 8
    lora_alpha: float = 8.0
    lora_target_modules: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    train_conditioning: bool = False
    held_out_frames: int = 12
    evaluate_every: int = 4
    checkpoint_every: int = 1
    sample_grid_every: int = 4
    keep: str = "best"
    guard_tolerance: float = 0.1
    guard_patience: int = 2
    photos_per_edit: int | None = None
    instruction: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        mistakes = [message for broken, message in self._rules() if broken]
        if mistakes:
            raise BadInput("d3po: " + "; ".join(mistakes))

    def _rules(self) -> list[tuple[bool, str]]:
        """(broken, message) of each rule."""
        rules = [(getattr(self, n) < 1, f"{n} must be at least 1; got {getattr(self, n)}") for n in COUNTS]
        group, steps = self.trajectories_per_condition, self.num_inference_steps
        rules += [(not getattr(self, n) > 0, f"{n} must be positive; got {getattr(self, n)}") for n in POSITIVE]
        rules += [(not getattr(self, n) >= 0, f"{n} must be at least 0; got {getattr(self, n)}") for n in NOT_NEGATIVE]
        rules += [(not isfinite(getattr(self, n) or 0), f"{n} must be finite; got {getattr(self, n)}") for n in SCALES]
        return [
            *rules,
            (group < 2, f"trajectories_per_condition must be at least 2 to make a pair; got {group}"),
            (
                self.train_timesteps > steps,
                f"train_timesteps must be at most num_inference_steps, {steps}; got {self.train_timesteps}",
            ),
            (not 0 < self.clip_ratio < 1, f"clip_ratio must be between 0 and 1; got {self.clip_ratio}"),
            (
                self.precision not in ("fp32", "bf16"),
                f"precision must be 'fp32' or 'bf16'; got '{self.precision}'",
            ),
            (not 0 <= self.ema_decay < 1, f"ema_decay must be at least 0 and below 1; got {self.ema_decay}"),
            (not 0 < self.eta <= 1, f"eta must be above 0 (0 has no density) and at most 1; got {self.eta}"),
            (self.train not in ("lora", "full"), f"train must be 'lora' or 'full'; got '{self.train}'"),
            (
                not all(0 <= beta < 1 for beta in self.adam_betas),
                f"adam_betas must be at least 0 and below 1; got {list(self.adam_betas)}",
            ),
            (self.keep not in ("best", "last"), f"keep must be 'best' or 'last'; got '{self.keep}'"),
            (
                self.photos_per_edit is not None and self.photos_per_edit < 0,
                f"photos_per_edit must be at least 1, 0 for all, or null; got {self.photos_per_edit}",
            ),
            (not self.regions, "regions must name at least one region"),
        ]

    @property
    def groups_per_batch(self) -> int:
        """Conditions in one minibatch: whole groups, so that the pairs of a group share forward passes."""
        return max(1, self.batch_size // self.trajectories_per_condition)
