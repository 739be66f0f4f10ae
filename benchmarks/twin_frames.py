"""Recorded states drawn in the flat look and in a path-traced scene, once: what other benchmarks measure on.

Legend: M states = (agent x, agent y, block x, block y, angle), window units and radians; S pixels a side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.recordings import load_recordings
from sim2real_aug.envs.rendering import Rendering, make_renderer, scene_records
from sim2real_aug.envs.twin import load_scene, scene_names
from sim2real_aug.progress import progress
from sim2real_aug.seeding import derive_seed, numpy_generator

SIZE = 96
FIRST_EPISODE = 300  # of the recordings; training stores hold the first ones


@dataclass(frozen=True)
class TwinFrames:
    """states (M, 5); flat, images (M, S, S, 3) uint8; flat_labels, labels (M, S, S) uint8, index into REGIONS;
    depth (M, S, S) float32, distance along the camera's axis in window units. labels and depth are the scene's."""

    states: NDArray[np.float32]
    flat: NDArray[np.uint8]
    flat_labels: NDArray[np.uint8]
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.states)


def scenes_of(split: str) -> list[str]:
    """The scenes that ship for tuning (`development`) or for figures only (`claims`)."""
    return [name for name in scene_names() if load_scene(name).split == split]


def held_out_states(count: int, seed: int) -> NDArray[np.float32]:
    """`count` different states (M, 5) of recorded episodes that training stores do not hold."""
    recordings = load_recordings()
    first = int(recordings.episode_ends[FIRST_EPISODE - 1])
    steps = numpy_generator(seed, "held-out states").choice(
        len(recordings.state) - first, count, replace=False
    )
    return recordings.state[first + np.sort(steps)]


def draw_frames(scene: str, count: int, seed: int, cache: Path) -> TwinFrames:
    """The held-out states of `seed` in the flat look and in `scene`; drawn once, then read from `cache`.

    Another scene file, path tracer, count or seed makes another file.
    """
    domain = f"pathtraced/{scene}"
    key = derive_seed(repr(scene_records([domain])), count, seed)
    file = cache / f"{scene}-{key:016x}.npz"
    if not file.exists():
        states = held_out_states(count, seed)
        flat, twin = make_renderer("flat"), make_renderer(domain)
        drawn: list[tuple[Rendering, Rendering]] = []
        with progress(f"draw {scene}", count, unit="frames") as bar:
            for state in states:
                drawn.append((flat.render(state, SIZE), twin.render(state, SIZE)))
                bar.advance()
        frames = TwinFrames(
            states=states,
            flat=np.stack([source.image for source, _ in drawn]),
            flat_labels=np.stack([source.labels for source, _ in drawn]),
            images=np.stack([target.image for _, target in drawn]),
            labels=np.stack([target.labels for _, target in drawn]),
            depth=np.stack([target.depth for _, target in drawn]),
        )
        cache.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part.npz")
        np.savez_compressed(temporary, **asdict(frames))
        temporary.replace(file)
    with np.load(file) as content:
        return TwinFrames(**content)
