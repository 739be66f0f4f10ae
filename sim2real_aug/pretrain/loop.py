"""The one training loop that every pretrained part, and what is distilled, goes through.

AdamW, linear warm-up, cosine decay to zero, gradient clipping, a moving average of the weights. The random numbers
of a step come from (seed, part, step), so a run that is stopped and started again draws the same examples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from sim2real_aug.devices import autocast
from sim2real_aug.errors import BadInput, Fault, below_least
from sim2real_aug.progress import progress
from sim2real_aug.runs import RunFolder, save_atomically
from sim2real_aug.seeding import numpy_generator, torch_generator

PARTS = ("autoencoder", "decoder", "reader", "embedder", "editor")  # reader and embedder are the judge
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to train one part."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    ema_decay: float = 0.999
    checkpoint_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "checkpoint_every": 1, "log_every": 1}
        wrong = below_least(self, steps=0, warmup_steps=0, weight_decay=0, **least)
        if not self.learning_rate > 0:
            wrong.append(f"learning_rate must be positive; got {self.learning_rate}")
        if not 0 <= self.ema_decay < 1:
            wrong.append(f"ema_decay must be at least 0 and below 1; got {self.ema_decay}")
        if wrong:
            raise BadInput("; ".join(wrong))


@dataclass(frozen=True)
class Draw:
    """The random numbers of one step."""

    numpy: np.random.Generator
    torch: torch.Generator


Loss = Callable[[Draw], tuple[Tensor, dict[str, Tensor]]]


def fit(
    part: str,
    module: nn.Module,
    loss: Loss,
    settings: FitSettings,
    run: RunFolder,
    seed: int,
    bf16: bool = False,
) -> None:
    """Train `module` in place and leave the averaged weights in it. Takes up its own checkpoint in `run`.

    `loss` maps a step's random numbers to the loss and to the figures to log. Raises Fault on a non-finite loss;
    the last checkpoint stays.
    """
    checkpoint = run.checkpoint(f"{part}.pt")
    trained = [p for p in module.parameters() if p.requires_grad]
    device = trained[0].device
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    average = EMAModel(trained, decay=settings.ema_decay, use_ema_warmup=True, power=0.75)
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, settings.steps)
    start, seconds = _restore(checkpoint, module, optimizer, schedule, average)
    run.rewind(start, part=part)
    precision = autocast(device, "bf16" if bf16 else "fp32")
    began = time.monotonic() - seconds
    with progress(f"training the {part}", settings.steps, start, "steps") as bar:
        for step in range(start, settings.steps):
            draw = Draw(numpy_generator(seed, part, step), torch_generator(seed, part, step))
            with precision:
                value, figures = loss(draw)
            if not torch.isfinite(value):
                raise Fault(
                    f"training the {part}: the loss is {value.item()} at step {step}; lower the learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            norm = nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
            optimizer.step()
            schedule.step()
            average.step(trained)
            last = step + 1 == settings.steps
            if (step + 1) % settings.log_every == 0 or last:
                logged = {name: round(figure.item(), 6) for name, figure in figures.items()}
                line = {
                    "part": part,
                    "loss": value.item(),
                    "grad_norm": norm.item(),
                    **logged,
                    "seconds": round(time.monotonic() - began, 1),
                }
                run.log(step + 1, line)
            if (step + 1) % settings.checkpoint_every == 0 or last:
                seconds = time.monotonic() - began
                _save(checkpoint, step + 1, seconds, module, optimizer, schedule, average)
            bar.advance(note=f"loss {value.item():.4f}")
    average.copy_to(trained)


def _save(
    path: Path, step: int, seconds: float, module: nn.Module, optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler, average: EMAModel,
) -> None:  # fmt: skip
    state = {
        "step": step,
        "seconds": seconds,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "average": average.state_dict(),
    }
    save_atomically(state, path)


def _restore(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler, average: EMAModel,
) -> tuple[int, float]:  # fmt: skip
    """The step to go on from and the seconds that it took to get there: 0 without a checkpoint."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location="cpu")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    average.load_state_dict(state["average"])
    average.to(next(module.parameters()).device)
    return int(state["step"]), float(state.get("seconds", 0.0))  # not in checkpoints of before
