"""Recorded states drawn in the flat look and as they really look, once: what other benchmarks measure on.

Legend: M states = (agent x, agent y, block x, block y, angle), window units and radians; S pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator
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
class Drawn:
    """images (M, S, S, 3) uint8; labels (M, S, S) uint8, index into REGIONS; depth (M, S, S) float32, distance
    along the camera's axis in window units."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class PairedFrames:
    """states: (M, 5), each drawn in the flat look and as it really looks."""

    states: NDArray[np.float32]
    flat: Drawn
    real: Drawn

    def __len__(self) -> int:
        return len(self.states)


def domains_of(split: str) -> list[str]:
    """The path-traced scenes that ship for tuning (`development`) or for figures only (`claims`)."""
    return [f"pathtraced/{name}" for name in scene_names() if load_scene(name).split == split]


def held_out_states(count: int, seed: int) -> NDArray[np.float32]:
    """`count` different states (M, 5) of recorded episodes that training stores do not hold."""
    recordings = load_recordings()
    first = int(recordings.episode_ends[FIRST_EPISODE - 1])
    steps = numpy_generator(seed, "held-out states").choice(
        len(recordings.state) - first, count, replace=False
    )
    return recordings.state[first + np.sort(steps)]


def paired_frames(domain: str, count: int, seed: int, cache: Path) -> PairedFrames:
    """The held-out states of `seed`, flat and in `domain`; each is drawn once, then read from `cache`."""
    states = held_out_states(count, seed)
    drawn = [_drawn(look, states, seed, cache) for look in ("flat", domain)]
    return PairedFrames(states, *drawn)


def _drawn(domain: str, states: NDArray[np.float32], seed: int, cache: Path) -> Drawn:
    """Another scene file, path tracer, number of states or seed makes another file."""
    key = derive_seed(domain, repr(scene_records([domain])), len(states), seed)
    file = cache / f"{domain.replace('/', '-')}-{key:016x}.npz"
    if not file.exists():
        pictures = list(_draw(domain, states))
        columns = {name: np.stack([getattr(p, name) for p in pictures]) for name in ("labels", "depth")}
        drawn = Drawn(np.stack([picture.image for picture in pictures]), **columns)
        cache.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part.npz")
        np.savez_compressed(temporary, **asdict(drawn))
        temporary.replace(file)
    with np.load(file) as content:
        return Drawn(**content)


def _draw(domain: str, states: NDArray[np.float32]) -> Iterator[Rendering]:
    renderer = make_renderer(domain)
    with progress(f"draw {domain}", len(states), unit="frames") as bar:
        for state in states:
            yield renderer.render(state, SIZE)
            bar.advance()
