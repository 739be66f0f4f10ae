"""On-policy samples: draw conditions, sample a group of trajectories for each from one x_T, decode, score.

Every draw names its place (seed, round, condition): a resumed run samples what an uninterrupted one does.

Legend: G conditions of a minibatch, K trajectories of each, N = G * K rows in group order, T denoising steps,
S pixels a side, (c, h, w) one latent; images uint8 (S, S, 3) at rest, float32 (3, S, S) in [0, 1] in tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.d3po.processes import own
from sim2real_aug.d3po.scores import Conditions, Scorer, Scores, SourceGeometry, composed_prompts
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data.geometry import GeometryReader
from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.devices import autocast
from sim2real_aug.editor.composition import Composer
from sim2real_aug.editor.editor import Conditioning, Editor
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.editor.prompts import draw_photos
from sim2real_aug.editor.trajectory import DenoisingTrajectory, sample_trajectory
from sim2real_aug.errors import BadInput
from sim2real_aug.pixels import to_images
from sim2real_aug.seeding import numpy_generator, torch_generator

FrameReader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True)
class TrainingImages:
    """What a run learns from.

    read: frame indices (n,) -> frames (n, S, S, 3) uint8. train, held_out: indices, disjoint. photo_set: at S x S.
    geometry: of the frames, by their indices, where it is known. composer: of an editor that composes its prompts.
    kept_photos: the photos as large as the store's frames, which the specialist keeps; None: `photo_set`.
    """

    read: FrameReader
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    photo_set: PhotoSet
    geometry: GeometryReader | None = None
    composer: Composer | None = None
    kept_photos: PhotoSet | None = None

    @property
    def photos(self) -> NDArray[np.uint8]:
        """(P, S, S, 3)."""
        return self.photo_set.images

    @cached_property
    def photo_masks(self) -> NDArray[np.bool_]:
        """(P, S, S), all False where a photo has no mask of its own."""
        return self.photo_set.mask_of_each


@dataclass(frozen=True)
class Task:
    """What is trained, judged by what, on what, how.

    guard: a scorer that is not trained against, which watches the held-out edits. targets: (M, S, S, 3) uint8,
    how the held-out frames really look, where that is known.
    """

    editor: Editor
    scorer: Scorer
    images: TrainingImages
    settings: D3POSettings
    guard: Scorer | None = None
    targets: NDArray[np.uint8] | None = None

    def autocast(self) -> torch.autocast:
        """The precision of the editor's passes; means, log-probabilities and judges stay in float32."""
        return autocast(self.editor.device, self.settings.precision)


@dataclass(frozen=True)
class Rollout:
    """What this process sampled: conditioning and trajectory of N rows, scores (G, K)."""

    conditioning: Conditioning
    trajectory: DenoisingTrajectory
    scores: Scores

    @staticmethod
    def join(parts: Sequence[Rollout]) -> Rollout:
        """The minibatches of a round as one."""
        return Rollout(
            Conditioning.join([part.conditioning for part in parts]),
            DenoisingTrajectory.join([part.trajectory for part in parts]),
            Scores.join([part.scores for part in parts]),
        )


def split_frames(
    episode_ends: NDArray[np.int64], held_out_frames: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(train, held_out) frame indices. A tenth of the episodes, at least one, is held out whole.

    Of these, `held_out_frames` evenly spaced frames are kept, or all where there are fewer. A store of one
    episode holds out its last tenth instead. Raises BadInput for a store too short to split.
    """
    episodes, frames = len(episode_ends), int(episode_ends[-1])
    if frames < 2:
        raise BadInput(f"the dataset has {frames} frame; at least 2 are needed, one of them held out")
    held = np.zeros(frames, bool)
    if episodes == 1:
        held[frames - max(1, frames // 10) :] = True
    else:
        starts = np.concatenate([[0], episode_ends[:-1]])
        chosen = numpy_generator(seed, "held-out").choice(episodes, max(1, episodes // 10), replace=False)
        for episode in chosen:
            held[starts[episode] : episode_ends[episode]] = True
    kept = np.flatnonzero(held)
    spaced = np.linspace(0, len(kept) - 1, min(held_out_frames, len(kept))).round().astype(np.int64)
    return np.flatnonzero(~held), kept[spaced]


def make_conditions(
    images: TrainingImages, device: torch.device, frames: NDArray[np.int64], photos: NDArray[np.int64], batch: int
) -> Iterator[Conditions]:
    """This process's share of a list of frames (N,), each with its photos (N, n), `batch` at a time on `device`."""
    mine = own(len(frames))
    for start in range(0, len(mine), batch):
        numbers = mine[start : start + batch]
        chosen = photos[numbers]
        exact = None if images.geometry is None else images.geometry(frames[numbers])
        geometry = None if exact is None else SourceGeometry.on(device, exact)
        source, drawn = to_images(images.read(frames[numbers]), device), torch.from_numpy(chosen).to(device)
        looks = to_images(images.photos[chosen.flatten()], device)
        composer = images.composer  # None of an editor that takes photos as they are
        yield Conditions(
            source=source,
            photos=looks.unflatten(0, chosen.shape),
            photo_masks=torch.from_numpy(images.photo_masks[chosen]).to(device),
            numbers=numbers,
            geometry=geometry,
            prompts=None if composer is None else composed_prompts(composer, drawn, source, geometry),
        )


def draw_conditions(task: Task, round_number: int) -> Iterator[Conditions]:
    """This process's conditions of a round in minibatches: random training frames, each with random photos."""
    settings, train = task.settings, task.images.train
    generator = numpy_generator(settings.seed, "conditions", round_number)
    count = settings.conditions_per_round
    frames = generator.choice(train, count, replace=count > len(train))
    photos = draw_photos(generator, len(task.images.photos), count, task.editor.edit_settings.photos_per_edit)
    return make_conditions(task.images, task.editor.device, frames, photos, settings.groups_per_batch)


def initial_latents(task: Task, *place: int | str, numbers: NDArray[np.int64]) -> Tensor:
    """x_T of each condition, (G, c, h, w), from its own place and number: independent of the batching."""
    seed = task.settings.seed
    generators = [torch_generator(seed, *place, int(number)) for number in numbers]
    return torch.cat([task.editor.initial_latents(1, generator) for generator in generators])


def draw_steps(settings: D3POSettings, round_number: int, conditions: NDArray[np.int64]) -> Tensor:
    """The random subset of denoising steps that each condition of a round trains on, (G, S), rising.

    D3PO shuffles the steps of every sample on its own, too.
    """
    places = [("train timesteps", round_number, int(condition)) for condition in conditions]
    drawn = [
        numpy_generator(settings.seed, *place).choice(
            settings.num_inference_steps, settings.train_timesteps, replace=False
        )
        for place in places
    ]
    return torch.from_numpy(np.sort(np.stack(drawn), axis=1))


def step_noise(task: Task, round_number: int, numbers: NDArray[np.int64], size: torch.Size) -> Tensor:
    """Noise (G, K, T, c, h, w) of the steps of each trajectory, latents of `size` (c, h, w).

    With `shared_noise` a group's trajectories differ in the steps that are learned from only: whatever the judges
    prefer, these steps made it. Without (D3PO), the noise of all other steps speaks in the preference as well.
    """
    settings, group = task.settings, range(task.settings.trajectories_per_condition)
    shape = (settings.num_inference_steps, *size)
    places = [[("step noise", round_number, int(number), member) for member in group] for number in numbers]
    noise = torch.stack(
        [
            torch.stack([torch.randn(shape, generator=torch_generator(settings.seed, *place)) for place in members])
            for members in places
        ]
    )
    if not settings.shared_noise:
        return noise
    learned = torch.zeros(len(numbers), settings.num_inference_steps, dtype=torch.bool)
    learned.scatter_(1, draw_steps(settings, round_number, numbers), True)
    return torch.where(learned[:, None, :, None, None, None], noise, noise[:, :1])


def guidance_scales(task: Task) -> GuidanceScales:
    """The scales to train with: the settings' own, else those that the editor edits with."""
    settings, default = task.settings, task.editor.edit_settings
    image, style = settings.image_guidance_scale, settings.style_guidance_scale
    return GuidanceScales(
        image=default.image_guidance_scale if image is None else image,
        style=default.style_guidance_scale if style is None else style,
        text=default.guidance_scale if settings.guidance_scale is None else settings.guidance_scale,
    )


@torch.no_grad()
def sample_rollout(task: Task, conditions: Conditions, round_number: int) -> Rollout:
    """Sample K trajectories of each condition with the editor as it is now, and score their images.

    The trajectories of a group share x_T and the conditioning; the noise of the steps differs (`step_noise`).
    """
    editor, settings = task.editor, task.settings
    group, instruction = settings.trajectories_per_condition, editor.edit_settings.instruction
    latents = initial_latents(task, "initial latents", round_number, numbers=conditions.numbers)
    noise = step_noise(task, round_number, conditions.numbers, latents.shape[1:])
    with task.autocast():
        conditioning = editor.condition(conditions.source, conditions.visual_prompts, instruction).repeat(group)
        trajectory = sample_trajectory(
            editor,
            conditioning,
            latents.repeat_interleave(group, 0),
            noise.flatten(0, 1),
            num_inference_steps=settings.num_inference_steps,
            scales=guidance_scales(task),
            eta=settings.eta,
        )
        edits = editor.draw(trajectory.next_latents[:, -1], conditioning).unflatten(0, (-1, group))
    return Rollout(conditioning, trajectory, task.scorer(conditions, edits))


def sample_round(task: Task, round_number: int) -> Rollout:
    """This process's share of a round's samples."""
    drawn = draw_conditions(task, round_number)
    return Rollout.join([sample_rollout(task, conditions, round_number) for conditions in drawn])
