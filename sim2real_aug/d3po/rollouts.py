"""On-policy samples: draw conditions, sample a group of trajectories for each from one x_T, decode, score.

Every draw names its place (seed, round, condition): a resumed run samples what an uninterrupted one does.

Legend: G conditions of a minibatch, K trajectories of each, N = G * K rows in group order, T denoising steps,
S pixels a side, (c, h, w) one latent; images uint8 (S, S, 3) at rest, float32 (3, S, S) in [0, 1] in tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.d3po.scores import Scorer, Scores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.editor import Conditioning, Editor, to_images
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.editor.trajectory import DenoisingTrajectory, sample_trajectory
from sim2real_aug.errors import BadInput
from sim2real_aug.seeding import numpy_generator, torch_generator

FrameReader = Callable[[NDArray[np.int64]], NDArray[np.uint8]]


@dataclass(frozen=True)
class TrainingImages:
    """What a run learns from.

    read: frame indices (n,) -> frames (n, S, S, 3) uint8. train, held_out: indices, disjoint.
    photos: (P, S, S, 3) uint8. photo_masks: (P, S, S) bool, all False where a photo has no mask of its own.
    """

    read: FrameReader
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    photos: NDArray[np.uint8]
    photo_masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """What is trained, judged by what, on what, how."""

    editor: Editor
    scorer: Scorer
    images: TrainingImages
    settings: D3POSettings


@dataclass(frozen=True)
class Conditions:
    """source, photos: (G, 3, S, S). photo_masks: (G, S, S) bool. numbers: (G,) place of each in its round."""

    source: Tensor
    photos: Tensor
    photo_masks: Tensor
    numbers: range


@dataclass(frozen=True)
class Rollout:
    """One minibatch: conditioning and trajectory of N rows, scores (G, K)."""

    conditioning: Conditioning
    trajectory: DenoisingTrajectory
    scores: Scores


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
    task: Task, frames: NDArray[np.int64], photos: NDArray[np.int64], batch: int
) -> Iterator[Conditions]:
    """Frames and photos in pairs, `batch` at a time."""
    images, device = task.images, task.editor.device
    for start in range(0, len(frames), batch):
        numbers = range(start, min(start + batch, len(frames)))
        chosen = photos[numbers.start : numbers.stop]
        yield Conditions(
            source=to_images(images.read(frames[numbers.start : numbers.stop]), device),
            photos=to_images(images.photos[chosen], device),
            photo_masks=torch.from_numpy(images.photo_masks[chosen]).to(device),
            numbers=numbers,
        )


def draw_conditions(task: Task, round_number: int) -> Iterator[Conditions]:
    """The conditions of one round in minibatches: random training frames, each with a random photo."""
    settings, train = task.settings, task.images.train
    generator = numpy_generator(settings.seed, "conditions", round_number)
    count = settings.conditions_per_round
    frames = generator.choice(train, count, replace=count > len(train))
    photos = generator.integers(len(task.images.photos), size=count)
    return make_conditions(task, frames, photos, settings.groups_per_batch)


def initial_latents(task: Task, *place: int | str, numbers: range) -> Tensor:
    """x_T of each condition, (G, c, h, w), from its own place and number: independent of the batching."""
    seed = task.settings.seed
    drawn = [task.editor.initial_latents(1, torch_generator(seed, *place, number)) for number in numbers]
    return torch.cat(drawn)


def guidance_scales(task: Task) -> GuidanceScales:
    """The scales to train with: the settings' own, else those that the editor edits with."""
    settings, own = task.settings, task.editor.edit_settings
    image, style = settings.image_guidance_scale, settings.style_guidance_scale
    return GuidanceScales(
        image=own.image_guidance_scale if image is None else image,
        style=own.style_guidance_scale if style is None else style,
        text=own.guidance_scale if settings.guidance_scale is None else settings.guidance_scale,
    )


@torch.no_grad()
def sample_rollout(task: Task, conditions: Conditions, round_number: int) -> Rollout:
    """Sample K trajectories of each condition with the editor as it is now, and score their images.

    The trajectories of a group share x_T and the conditioning; only the noise of the steps differs (D3PO).
    """
    editor, settings = task.editor, task.settings
    group, instruction = settings.trajectories_per_condition, editor.edit_settings.instruction
    latents = initial_latents(task, "initial latents", round_number, numbers=conditions.numbers)
    conditioning = editor.condition(conditions.source, conditions.photos, instruction).repeat(group)
    trajectory = sample_trajectory(
        editor,
        conditioning,
        latents.repeat_interleave(group, 0),
        torch_generator(settings.seed, "step noise", round_number, conditions.numbers.start),
        num_inference_steps=settings.num_inference_steps,
        scales=guidance_scales(task),
        eta=settings.eta,
    )
    edits = editor.decode(trajectory.next_latents[:, -1]).unflatten(0, (-1, group))
    scores = task.scorer(conditions.source, conditions.photos, edits, conditions.photo_masks)
    return Rollout(conditioning, trajectory, scores)
