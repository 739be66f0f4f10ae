"""Training of the diffusion policy on a replay buffer, plain or with edited frames mixed in.

As real-stanford/diffusion_policy trains its image policy (AdamW, cosine schedule with warm-up, EMA of the
weights), but the budget is counted in steps, not epochs, so that arms with unlike data are comparable. All
draws of a step come from (seed, step): the same command run again continues, and ends where an uninterrupted
run would have.

    sim2real-aug train-policy DATASET.zarr --augmented EDITED.zarr --out RUN
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from omegaconf import DictConfig, open_dict
from torch import Tensor

from sim2real_aug.config import settings as read_settings
from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.data.sequences import split_episodes
from sim2real_aug.devices import memory_advice, resolve_device
from sim2real_aug.errors import BadInput, Fault, below_least
from sim2real_aug.policies.demonstrations import (
    LANDMARKS,
    BatchOrder,
    Demonstrations,
    input_hash,
    load_demonstrations,
    open_stores,
)
from sim2real_aug.policies.diffusion import DiffusionPolicy, PolicySettings
from sim2real_aug.policies.jitter import jittered
from sim2real_aug.policies.landmarks import LandmarkHead, make_landmark_head
from sim2real_aug.policies.observation import Observation
from sim2real_aug.policies.starts import save_starts, starts_of
from sim2real_aug.policies.validation import validate
from sim2real_aug.progress import progress, say
from sim2real_aug.runs import RunFolder, save_atomically
from sim2real_aug.seeding import derive_seed, torch_generator

CHECKPOINT = "last.pt"


@dataclass(frozen=True)
class TrainSettings:
    """How long and how to train; each field is explained in `configs/policy/compact.yaml`, which has the defaults."""

    steps: int = 16000
    batch_size: int = 16
    noise_draws: int = 4
    landmark_weight: float = 10.0
    learning_rate: float = 1e-3
    adam_betas: tuple[float, float] = (0.95, 0.999)
    adam_eps: float = 1e-8
    weight_decay: float = 1e-6
    warmup_steps: int = 200
    ema_power: float = 0.75
    ema_max_decay: float = 0.9999
    max_train_episodes: int | None = None
    val_fraction: float = 0.02
    augmented_probability: float = 0.5
    use_gate: bool = True
    color_jitter: bool = False
    val_items: int = 512
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 500
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "noise_draws", "val_items", "log_every", "validate_every")
        positive = ("checkpoint_every", "max_train_episodes")
        zero = ("landmark_weight", "weight_decay", "warmup_steps", "ema_power")
        broken = below_least(self, **dict.fromkeys((*counts, *positive), 1), **dict.fromkeys(zero, 0))
        rules = {
            f"learning_rate must be above 0; got {self.learning_rate}": self.learning_rate > 0,
            f"adam_betas must both lie in 0..1, below 1; got {list(self.adam_betas)}": (
                all(0 <= beta < 1 for beta in self.adam_betas)
            ),
            f"adam_eps must be above 0; got {self.adam_eps}": self.adam_eps > 0,
            f"ema_max_decay must lie in 0..1; got {self.ema_max_decay}": 0 <= self.ema_max_decay <= 1,
            f"val_fraction must lie in 0..1, below 1; got {self.val_fraction}": 0 <= self.val_fraction < 1,
            f"augmented_probability must lie in 0..1; got {self.augmented_probability}": (
                0 <= self.augmented_probability <= 1
            ),
        }
        broken += [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise BadInput("policy.training: " + "; ".join(broken))


@dataclass
class Training:
    """All that changes during a run; what `save` keeps of it is enough to continue exactly."""

    policy: DiffusionPolicy
    landmark_head: LandmarkHead | None
    optimizer: torch.optim.AdamW
    ema: EMAModel
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of all sessions, up to the last checkpoint

    @classmethod
    def start(
        cls, model: PolicySettings, settings: TrainSettings, demonstrations: Demonstrations
    ) -> Training:
        """A fresh policy: weights from the seed, normalisers from the training demonstrations."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(settings.seed, "weights"))
            policy = DiffusionPolicy(model)
        policy.encoder.normalizer.fit(demonstrations.frame_sample(settings.augmented_probability))
        policy.state_normalizer.fit(torch.from_numpy(demonstrations.states))
        policy.action_normalizer.fit(torch.from_numpy(demonstrations.actions))
        policy.to(resolve_device(settings.device))
        head = None
        if settings.landmark_weight:
            head = make_landmark_head(policy, demonstrations.landmarks, settings.seed)
        optimizer = torch.optim.AdamW(
            [*policy.parameters(), *(head.parameters() if head else ())],
            lr=settings.learning_rate,
            betas=settings.adam_betas,
            eps=settings.adam_eps,
            weight_decay=settings.weight_decay,
        )
        return cls(policy, head, optimizer, make_ema(policy, settings))

    def save(self, path: Path) -> None:
        """Write the state; a crash leaves the former file whole."""
        state = {
            "policy": self.policy.state_dict(),
            "landmark_head": self.landmark_head and self.landmark_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "seconds": self.seconds,
        }
        save_atomically(state, path)

    def load(self, path: Path) -> None:
        """Take up the state of `save`; BadInput for a file that is damaged or of another policy."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)  # AdamW counts its steps there
            self.policy.load_state_dict(state["policy"])
            if self.landmark_head is not None:
                self.landmark_head.load_state_dict(state["landmark_head"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise BadInput(f"{path} cannot be resumed ({reason}); --overwrite starts again") from error
        self.ema.to(self.policy.device)
        self.step, self.losses = int(state["step"]), list(state["losses"])
        self.seconds = float(state["seconds"])

    @contextmanager
    def averaged(self) -> Iterator[DiffusionPolicy]:
        """The policy with the EMA weights, in evaluation mode, for the length of the block."""
        self.ema.store(self.policy.parameters())
        self.ema.copy_to(self.policy.parameters())
        self.policy.eval()
        try:
            yield self.policy
        finally:
            self.ema.restore(self.policy.parameters())
            self.policy.train()


def make_ema(policy: torch.nn.Module, settings: TrainSettings) -> EMAModel:
    """Average with decay 1 - step ** -power, at most `ema_max_decay`; the first step copies the weights."""
    return EMAModel(
        policy.parameters(),
        decay=settings.ema_max_decay,
        use_ema_warmup=True,
        inv_gamma=1.0,
        power=settings.ema_power,
        foreach=True,
    )


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Linear from 0 over the warm-up, then half a cosine to 0 (diffusers' `get_scheduler("cosine")`)."""
    if step < warmup_steps:
        return step / max(1, warmup_steps)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def train_step(
    training: Training,
    settings: TrainSettings,
    batch: tuple[Observation, Tensor],
    landmarks: Tensor | None = None,
) -> float:
    """One optimiser step; returns the denoising loss. Raises Fault when it is not finite, before the weights change.

    landmarks: (B, O, L) of the batch's frames; not looked at without a head for them.
    """
    policy, observation, actions = training.policy, batch[0].to(training.policy.device), batch[1]
    if settings.color_jitter:
        observation = jittered(observation, settings.seed, training.step)
    factor = learning_rate_factor(training.step, settings.warmup_steps, settings.steps)
    for group in training.optimizer.param_groups:
        group["lr"] = settings.learning_rate * factor
    generator = torch_generator(settings.seed, "step", training.step)
    condition = policy.encode(observation, generator)
    loss = denoising = policy.denoising_loss(
        condition, actions.to(policy.device), generator, settings.noise_draws
    )
    if training.landmark_head is not None and landmarks is not None:
        seen = training.landmark_head.loss(condition, landmarks.to(policy.device))
        loss = loss + settings.landmark_weight * seen
    if not math.isfinite(loss.item()):
        raise Fault(
            f"the loss became {loss.item()} at step {training.step}; start again with a lower "
            "policy.training.learning_rate and --overwrite"
        )
    training.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    training.optimizer.step()
    training.ema.step(policy.parameters())
    training.step += 1
    training.losses.append(denoising.item())
    return training.losses[-1]


def train_policy(
    config: DictConfig,
    dataset: str | Path,
    augmented: str | Path | None = None,
    out: str | Path = "runs/policy",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a policy (`configs/train_policy.yaml`), or go on with an interrupted run; returns its summary.

    The run folder ends with policy/ (EMA weights and the starts of the training episodes) beside metrics.jsonl and
    summary.json. Raises BadInput for data that does not fit the policy or is not that of the run in `out`, Fault when
    the loss is not finite.
    """
    config = config.copy()
    config.dataset, config.augmented = str(dataset), None if augmented is None else str(augmented)
    model = read_settings(PolicySettings, config.policy.model)
    settings = read_settings(
        TrainSettings, {**config.policy.training, "seed": config.seed, "device": config.device}
    )
    resolve_device(settings.device)
    stores = open_stores(dataset, augmented, model, settings.val_fraction)
    has_landmarks = LANDMARKS in stores[0].names
    if settings.landmark_weight and has_landmarks:
        stores[0].check_finite(LANDMARKS)
    with open_dict(config):  # places do not say what was learned from, and may be others when a run goes on
        config.dataset_hash, config.augmented_hash = (store and input_hash(store) for store in stores)
    run = RunFolder.open(out, config, overwrite, free=("device", "dataset", "augmented"))
    finished = run.already_done()
    if finished is not None:
        return finished
    if settings.landmark_weight and not has_landmarks:
        say(f"{dataset} has no data/{LANDMARKS}: the encoder learns without it (policy.training.landmark_weight)")
    if stores[1] is not None and not settings.use_gate and _lacks_refused_edits(stores[1]):
        say(f"{augmented} has original frames where the gate refused an edit, whatever policy.training.use_gate says")
    share, most = settings.val_fraction, settings.max_train_episodes
    data = load_demonstrations(*stores, model, most, share, settings.seed, settings.use_gate)
    episodes, _ = split_episodes(stores[0].n_episodes, share, most, settings.seed)
    save_starts(starts_of(stores[0], episodes), run.path / "policy")
    training = Training.start(model, settings, data[0])
    checkpoint = run.checkpoint(CHECKPOINT)
    if checkpoint.exists():
        training.load(checkpoint)
        say(f"resuming {run.path} at step {training.step}")
    run.rewind(training.step)
    return _train(run, training, settings, *data)


def _lacks_refused_edits(edits: ReplayBuffer) -> bool:
    """Whether `augment` left out the edits that its gate refused; it stored them before it recorded a choice."""
    return edits.attrs.get(ATTRIBUTE, {}).get("keep_refused") is False


def _train(
    run: RunFolder,
    training: Training,
    settings: TrainSettings,
    train: Demonstrations,
    held_out: Demonstrations,
) -> dict[str, Any]:
    probability = 0.0 if train.edited is None else settings.augmented_probability
    order = BatchOrder(len(train), settings.batch_size, probability, settings.seed)
    began = time.monotonic() - training.seconds
    training.policy.train()
    with progress("training policy", settings.steps, training.step, "steps") as bar:
        while training.step < settings.steps:
            items, edited = order.batch(training.step)
            batch, landmarks = train.batch(items, edited), train.seen_landmarks(items)
            with memory_advice("policy.training.batch_size", settings.batch_size, also="--overwrite"):
                loss = train_step(training, settings, batch, landmarks)
            training.seconds = time.monotonic() - began
            _report(run, training, settings, held_out)
            bar.advance(1, f"loss {loss:.4f}")
    seconds = time.monotonic() - began
    with training.averaged() as policy:
        policy.save_pretrained(run.path / "policy")
    last = {key: value for line in run.metrics() for key, value in line.items()}
    summary = {
        "policy": str(run.path / "policy"),
        **last,
        "train_windows": len(train),
        "parameters": sum(p.numel() for p in training.policy.parameters()),
        "seconds": round(seconds, 1),
        "samples_per_second": round(training.step * settings.batch_size / max(seconds, 1e-9), 1),
    }
    run.write_summary(summary)
    return summary


def _report(run: RunFolder, training: Training, settings: TrainSettings, held_out: Demonstrations) -> None:
    """Log, validate and checkpoint when it is time to; always at the last step."""
    step, last = training.step, training.step == settings.steps
    metrics: dict[str, float] = {}
    if step % settings.log_every == 0 or last:
        metrics = {"loss": math.fsum(training.losses) / len(training.losses)}
        metrics["learning_rate"] = training.optimizer.param_groups[0]["lr"]
        training.losses.clear()
    if len(held_out) and (step % settings.validate_every == 0 or last):
        with training.averaged() as policy:
            metrics |= validate(policy, held_out, settings)
    if metrics:
        run.log(step, metrics)
    if step % settings.checkpoint_every == 0 or last:
        training.save(run.checkpoint(CHECKPOINT))
