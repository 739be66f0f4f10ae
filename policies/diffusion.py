"""Image diffusion policy: two frames and agent positions in, a chunk of target positions out.

Follows real-stanford/diffusion_policy's image Push-T policy: DDPM training on whole action sequences with the
observation as global condition; at inference DDPM, or DDIM in fewer steps.

Legend: B batch; O observation steps; P horizon (actions predicted); N actions executed; A action dimensions;
S state dimensions; D features; H W pixels; frames uint8 (B, O, H, W, 3); positions in window units 0..512.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from sim2real_aug.errors import BadInput, below_least, unknown_name
from sim2real_aug.policies.encoders import ENCODERS
from sim2real_aug.policies.network import ConditionalUnet1D
from sim2real_aug.policies.normalizer import MinMaxNormalizer
from sim2real_aug.policies.observation import FrameEncoder, Observation
from sim2real_aug.policies.runner import PolicyRunner

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
SAMPLERS = ("ddim", "ddpm")
LEAST_FRAME = 4  # pixels: a patch of the compact encoder
PREDICTIONS = ("epsilon", "sample", "v_prediction")
MOST_CLEAN = 0.03  # alpha-bar of the step that inference starts at: it starts from noise alone


@dataclass(frozen=True)
class PolicySettings:
    """What the policy is; `configs/policy/*.yaml` says what each key means. Defaults: the compact policy.

    Raises BadInput that lists every contradiction.
    """

    encoder: str = "compact"
    features: int = 64
    keypoints: int = 32
    down_dims: tuple[int, ...] = (32, 64, 128)
    kernel_size: int = 5
    groups: int = 8
    step_dim: int = 128
    image_size: int = 96
    crop_size: int = 84
    state_dim: int = 2
    action_dim: int = 2
    horizon: int = 16
    n_obs_steps: int = 2
    n_action_steps: int = 8
    prediction_type: str = "v_prediction"
    sampler: str = "ddim"
    num_train_timesteps: int = 100
    num_inference_steps: int = 10

    def __post_init__(self) -> None:
        for kind, name, accepted in (
            ("encoder", self.encoder, ENCODERS),
            ("prediction_type", self.prediction_type, PREDICTIONS),
            ("sampler", self.sampler, SAMPLERS),
        ):
            if name not in accepted:
                raise unknown_name(f"policy.model.{kind}", name, accepted)
        counts = ("features", "keypoints", "groups", "state_dim", "action_dim", "n_obs_steps", "num_train_timesteps")
        broken = below_least(self, **dict.fromkeys(counts, 1), image_size=LEAST_FRAME)
        multiple = 2 ** max(0, len(self.down_dims) - 1)
        rules = {
            f"down_dims must be one or more positive multiples of groups {self.groups}; got {list(self.down_dims)}": (
                bool(self.down_dims) and all(dim > 0 and dim % max(1, self.groups) == 0 for dim in self.down_dims)
            ),
            f"kernel_size must be odd and at least 1; got {self.kernel_size}": (
                self.kernel_size >= 1 and self.kernel_size % 2 == 1
            ),
            f"step_dim must be even and at least 4; got {self.step_dim}": (
                self.step_dim >= 4 and self.step_dim % 2 == 0
            ),
            f"horizon must be a multiple of {multiple} (2 ** (len(down_dims) - 1)); got {self.horizon}": (
                self.horizon > 0 and self.horizon % multiple == 0
            ),
            f"n_obs_steps - 1 + n_action_steps must be at most horizon {self.horizon}; got "
            f"{self.n_obs_steps} - 1 + {self.n_action_steps}": (
                1 <= self.n_action_steps <= self.horizon - self.n_obs_steps + 1
            ),
            f"crop_size must lie in {LEAST_FRAME}..image_size {self.image_size}; got {self.crop_size}": (
                LEAST_FRAME <= self.crop_size <= self.image_size
            ),
            f"num_inference_steps must lie in 1..num_train_timesteps {self.num_train_timesteps}; got "
            f"{self.num_inference_steps}": 1 <= self.num_inference_steps <= self.num_train_timesteps,
        }
        broken += [rule for rule, holds in rules.items() if not holds]
        if 1 <= self.num_inference_steps <= self.num_train_timesteps:
            broken += _half_clean_start(self.num_inference_steps, self.num_train_timesteps)
        if broken:
            raise BadInput("policy.model: " + "; ".join(broken))


def starts_from_noise(count: int, steps: int) -> bool:
    """Whether denoising in `count` of `steps` starts where training had nearly pure noise.

    diffusers' "leading" spacing, of DDIM and DDPM, starts at (count - 1) * (steps // count): at 59 for 60 of 100,
    where a third of the variance is clean. alpha-bar: Nichol and Dhariwal, arXiv:2102.09672, equation 17.
    """
    first = (count - 1) * (steps // count)
    return math.cos(((first + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2 <= MOST_CLEAN


def _half_clean_start(count: int, steps: int) -> list[str]:
    """What is wrong with denoising in `count` of `steps`, with the nearest counts that work; mostly nothing."""
    if starts_from_noise(count, steps):
        return []
    fewer = [other for other in range(1, count) if starts_from_noise(other, steps)][-1:]
    more = [other for other in range(count + 1, steps + 1) if starts_from_noise(other, steps)][:1]
    return [
        f"num_inference_steps {count} of num_train_timesteps {steps} would start from half-clean actions; "
        f"take {' or '.join(map(str, fewer + more))}"
    ]


class DiffusionPolicy(nn.Module):
    """The whole policy; `loss` trains it, `act` runs it."""

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = FrameEncoder(
            settings.encoder, settings.keypoints, settings.features, settings.crop_size
        )
        self.unet = ConditionalUnet1D(
            settings.action_dim,
            settings.n_obs_steps * (settings.features + settings.state_dim),
            settings.step_dim,
            settings.down_dims,
            settings.kernel_size,
            settings.groups,
        )
        self.state_normalizer = MinMaxNormalizer(settings.state_dim)
        self.action_normalizer = MinMaxNormalizer(settings.action_dim)
        self.noise_schedule = _scheduler(DDPMScheduler, settings)

    @property
    def device(self) -> torch.device:
        return self.state_normalizer.scale.device

    def encode(self, observation: Observation, crop_generator: Generator | None = None) -> Tensor:
        """The global condition (B, O * (D + S)); frames are cropped at random with a generator, else in the centre."""
        features = self.encoder(observation.frames, crop_generator)
        states = self.state_normalizer.normalize(observation.states)
        return torch.cat([features, states], dim=-1).flatten(1)

    def loss(
        self, observation: Observation, actions: Tensor, generator: Generator, random_crop: bool = True
    ) -> Tensor:
        """The denoising loss of one noise a window. `generator` (CPU) draws crops, noise and steps, in this order."""
        condition = self.encode(observation, generator if random_crop else None)
        return self.denoising_loss(condition, actions, generator)

    def denoising_loss(
        self, condition: Tensor, actions: Tensor, generator: Generator, noise_draws: int = 1
    ) -> Tensor:
        """Mean squared error of the prediction: of the noise (Ho et al., arXiv:2006.11239, equation 14), of the clean
        actions, or of v = sqrt(a) noise - sqrt(1 - a) clean (Salimans and Ho, arXiv:2202.00512, appendix D).

        condition: what `encode` gave. actions: (B, P, A) in window units. Each window is learned from at `noise_draws`
        pairs of noise and step.
        """
        condition = condition.repeat(noise_draws, 1)
        clean = self.action_normalizer.normalize(actions).repeat(noise_draws, 1, 1)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        steps = torch.randint(self.settings.num_train_timesteps, (len(clean),), generator=generator)
        steps = steps.to(clean.device)
        noisy = self.noise_schedule.add_noise(clean, noise, steps)
        target = {
            "epsilon": noise,
            "sample": clean,
            "v_prediction": self.noise_schedule.get_velocity(clean, noise, steps),
        }[self.settings.prediction_type]
        return nn.functional.mse_loss(self.unet(noisy, steps, condition), target)

    @torch.no_grad()
    def sample(self, observation: Observation, generators: Sequence[Generator]) -> Tensor:
        """Denoised action sequences (B, P, A), window units; row b draws from generators[b] (CPU) only."""
        settings = self.settings
        condition = self.encode(observation)
        shape = (len(condition), settings.horizon, settings.action_dim)
        actions = randn_tensor(shape, generator=list(generators), device=self.device)
        scheduler = _scheduler(DDIMScheduler if settings.sampler == "ddim" else DDPMScheduler, settings)
        scheduler.set_timesteps(settings.num_inference_steps)
        for step in scheduler.timesteps:
            steps = step.expand(len(actions)).to(self.device)
            predicted = self.unet(actions, steps, condition)
            actions = scheduler.step(predicted, int(step), actions, generator=list(generators)).prev_sample
        return self.action_normalizer.unnormalize(actions)

    def act(self, observation: Observation, generators: Sequence[Generator]) -> Tensor:
        """The actions to execute, (B, N, A): the first is that of the newest observation step."""
        first = self.settings.n_obs_steps - 1
        return self.sample(observation.to(self.device), generators)[
            :, first : first + self.settings.n_action_steps
        ]

    def runner(self, seed: int = 0) -> PolicyRunner:
        """The policy in a control loop of one episode: `runner.step(observation)` gives the action to take."""
        return PolicyRunner(self, seed)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS_FILE
        )
        (folder / CONFIG_FILE).write_text(json.dumps(dataclasses.asdict(self.settings), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DiffusionPolicy:
        """Read what `save_pretrained` wrote; BadInput when the files are missing or do not fit each other."""
        folder = Path(folder)
        try:
            values = json.loads((folder / CONFIG_FILE).read_text())
            settings = PolicySettings(**{**values, "down_dims": tuple(values["down_dims"])})
            policy = cls(settings)
            policy.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(
                f"{folder} is not a saved policy ({CONFIG_FILE} and {WEIGHTS_FILE}): {reason}"
            ) from error
        return policy.eval()


def load_policy(path: str | Path) -> DiffusionPolicy:
    """The policy of a training run (RUN/policy) or of a saved policy folder, in evaluation mode.

    Raises BadInput for a path that is neither.
    """
    path = Path(path)
    for folder in (path / "policy", path):
        if (folder / CONFIG_FILE).is_file():
            return DiffusionPolicy.from_pretrained(folder)
    if (path / "config.yaml").is_file():
        raise BadInput(f"{path} holds no policy: give a run of train-policy, finished by its command run again")
    raise BadInput(f"{path} is not a policy run: no policy/{CONFIG_FILE} in it; make one with train-policy")


def _scheduler(kind: type, settings: PolicySettings) -> DDPMScheduler | DDIMScheduler:
    return kind(
        num_train_timesteps=settings.num_train_timesteps,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=settings.prediction_type,
        clip_sample=True,
    )
