"""The pretraining set: groups of states, each drawn flat and in two scenes of the `randomized` domain.

A group supplies every kind of example: source and target are the same state in two looks, the visual prompt is
another state in the target's look, and masks and depth are exact. Scene numbers start at FIRST_SCENE, so that
scenes below it stay unseen. Groups are drawn one by one from (seed, group) and stored in chunks, so that an
interrupted build goes on where it stopped.

Legend: G groups, K states a group, V = 3 looks (flat, scene A, scene B), S pixels a side.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from hydra.utils import get_method
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.errors import BadInput, below_least
from sim2real_aug.progress import progress
from sim2real_aug.runs import save_atomically
from sim2real_aug.seeding import derive_seed, numpy_generator

FIRST_SCENE = 1_000_000
GROUPS_PER_FILE = 50


class _Rendering(Protocol):
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth: NDArray[np.float32]


@dataclass(frozen=True)
class FrameGroups:
    """images (G, V, K, S, S, 3) uint8; labels (G, V, K, S, S) uint8; depth (G, V, K, S, S) float16, 0..1 of the
    camera's height; scenes (G, 2): numbers of scene A and scene B."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth: NDArray[np.float16]
    scenes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ExampleIndex:
    """Where a batch's examples lie in the frames: B groups, looks and states."""

    groups: NDArray[np.integer]
    source_looks: NDArray[np.integer]
    target_looks: NDArray[np.integer]
    states: NDArray[np.integer]
    style_states: NDArray[np.integer]


@dataclass(frozen=True)
class FrameSettings:
    """What to draw. `renderer` is the dotted name of a function (domain, seed) -> renderer."""

    groups: int
    states_per_group: int
    image_size: int
    renderer: str
    seed: int

    def __post_init__(self) -> None:
        if wrong := below_least(self, groups=1, states_per_group=2, image_size=8):
            raise BadInput("; ".join(wrong))


def sample_states(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """States as a demonstration visits them: half with the agent near the block, some with the block near the
    goal. (count, 5)."""
    block = rng.uniform(80, 432, (count, 2))
    angle = rng.uniform(-np.pi, np.pi, (count, 1))
    near_goal = rng.random((count, 1)) < 0.3
    block = np.where(near_goal, 256 + rng.normal(0, 40, (count, 2)), block)
    angle = np.where(near_goal, np.pi / 4 + rng.normal(0, 0.5, (count, 1)), angle)
    close = block + rng.normal(0, 75, (count, 2))
    agent = np.where(rng.random((count, 1)) < 0.5, close, rng.uniform(20, 492, (count, 2)))
    return np.concatenate([agent.clip(20, 492), block, angle], axis=1)


def _draw_group(settings: FrameSettings, group: int) -> list[list[_Rendering]]:
    make_renderer = get_method(settings.renderer)
    rng = numpy_generator(settings.seed, "pretraining states", group)
    states = sample_states(rng, settings.states_per_group)
    looks = [make_renderer("flat"), *(make_renderer(f"randomized/{scene}") for scene in group_scenes(settings, group))]
    return [[look.render(state, settings.image_size) for state in states] for look in looks]


def group_scenes(settings: FrameSettings, group: int) -> tuple[int, int]:
    """Numbers of the two scenes of a group: another seed has other scenes."""
    first = FIRST_SCENE + derive_seed(settings.seed, "pretraining scenes") // 4  # fits int64
    return first + 2 * group, first + 2 * group + 1


def _draw_file(settings: FrameSettings, path: Path, first: int, last: int) -> int:
    drawn = [_draw_group(settings, group) for group in range(first, last)]
    temporary = path.with_suffix(".partial.npz")
    np.savez(
        temporary,
        images=np.array([[[f.image for f in look] for look in group] for group in drawn]),
        labels=np.array([[[f.labels for f in look] for look in group] for group in drawn]),
        depth=np.array(
            [[[f.depth / f.depth.max() for f in look] for look in group] for group in drawn], np.float16
        ),
        scenes=np.array([group_scenes(settings, group) for group in range(first, last)]),
    )
    temporary.replace(path)
    return last - first


def build_frames(settings: FrameSettings, cache: Path, workers: int | None = None) -> FrameGroups:
    """Draw the groups, or read those that an earlier call left in `cache`."""
    cache = cache / f"frames-{derive_seed(repr(settings)):016x}"
    cache.mkdir(parents=True, exist_ok=True)
    starts = range(0, settings.groups, GROUPS_PER_FILE)
    paths = [cache / f"{start:06d}.npz" for start in starts]
    missing = [(path, start) for path, start in zip(paths, starts, strict=True) if not path.exists()]
    with (
        progress(
            "drawing frames", settings.groups, settings.groups - len(missing) * GROUPS_PER_FILE, "groups"
        ) as bar,
        ProcessPoolExecutor(workers or os.cpu_count()) as pool,
    ):
        jobs = [
            pool.submit(_draw_file, settings, path, start, min(start + GROUPS_PER_FILE, settings.groups))
            for path, start in missing
        ]
        for job in jobs:
            bar.advance(job.result())
    files = [np.load(path) for path in paths]
    return FrameGroups(**{name: np.concatenate([file[name] for file in files]) for name in files[0].files})


@torch.no_grad()
def of_all_frames(
    frames: FrameGroups, path: Path, name: str, read: Callable[[NDArray[np.uint8]], Tensor], batch_size: int = 64
) -> Tensor:
    """What `read` makes of frames (B, S, S, 3), of all of them: (G, V, K, ...), kept at `path` for a resumed training.

    name: of the work, for its progress.
    """
    if path.exists():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    images = frames.images.reshape(-1, *frames.images.shape[3:])
    parts = []
    with progress(name, len(images), unit="frames") as bar:
        for start in range(0, len(images), batch_size):
            parts.append(read(images[start : start + batch_size]).cpu())
            bar.advance(len(parts[-1]))
    made = torch.cat(parts).unflatten(0, frames.images.shape[:3])
    save_atomically(made, path)
    return made
