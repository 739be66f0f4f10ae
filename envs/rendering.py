"""How a state is drawn: the one interface that every domain implements, one file a domain.

Legend: state = (agent x, agent y, block x, block y, angle), window units 0..512 and radians;
H = W = size pixels; pixel (row, column) sees the window point ((column + 0.5), (row + 0.5)) * 512 / size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.data.regions import REGIONS
from sim2real_aug.errors import unknown_name
from sim2real_aug.seeding import derive_seed


@dataclass(frozen=True)
class Rendering:
    """One drawn state.

    image: (H, W, 3) uint8 RGB.
    labels: (H, W) uint8, index into REGIONS of what is visible at each pixel.
    depth: (H, W) float32, distance from the camera's plane along its axis, window units; smaller is nearer.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    depth: NDArray[np.float32]

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The visible region of each name in REGIONS, (H, W) bool; together they cover every pixel once."""
        return {name: self.labels == index for index, name in enumerate(REGIONS)}


@dataclass(frozen=True)
class Photo:
    """A picture as a camera beside the table takes it.

    image: (h, w, 3) uint8 RGB. corners: (4, 2) float32, the workspace's corners in pixels, clockwise from its top
    left, (0, 0) being the outer corner of the first pixel: what `photos.yaml` holds.
    """

    image: NDArray[np.uint8]
    corners: NDArray[np.float32]


class Renderer(Protocol):
    def image(self, state: ArrayLike, size: int = 96) -> NDArray[np.uint8]:
        """The picture alone, (size, size, 3) uint8 RGB, of a state (5,). The same call gives the same pixels."""

    def render(self, state: ArrayLike, size: int = 96) -> Rendering:
        """The picture with labels and depth."""


def make_renderer(domain: str, seed: int = 0, config_dir: str | Path | None = None) -> Renderer:
    """The renderer of a domain: `flat`, `randomized` (a scene drawn from `seed`), `randomized/N` (scene N) or
    `pathtraced/SCENE` (configs/scene/SCENE.yaml, in `config_dir` first).

    Raises BadInput for an unknown domain or scene, MissingExtra for one whose extra is not installed.
    """
    name, slash, scene = domain.partition("/")
    if name == "flat" and not slash:
        from sim2real_aug.envs.flat import FlatRenderer

        return FlatRenderer()
    if name == "randomized":
        from sim2real_aug.envs.randomized import RandomizedRenderer
        from sim2real_aug.envs.scenes import sample_scene

        if slash and not scene.isdecimal():
            raise unknown_name("scene", domain, ["randomized", "randomized/0", "randomized/1"])
        return RandomizedRenderer(sample_scene(int(scene) if scene else seed))
    if name == "pathtraced":
        from sim2real_aug.envs.pathtraced import pathtraced_renderer

        return pathtraced_renderer(scene, config_dir)
    raise unknown_name("domain", domain, ["flat", "randomized", "randomized/N", "pathtraced/SCENE"])


def episode_renderer(
    domains: Sequence[str], seed: int, episode: int, config_dir: str | Path | None = None
) -> Renderer:
    """The renderer of episode number `episode` of a store made with `domains`, by turns, and `seed`."""
    domain = domains[episode % len(domains)]
    return make_renderer(domain, derive_seed(seed, "scene", episode), config_dir)


def is_pathtraced(domain: str) -> bool:
    return domain.startswith("pathtraced/")


def scene_records(domains: Iterable[str], config_dir: str | Path | None = None) -> dict[str, Any]:
    """What the path-traced scenes among `domains` hold, by name, as JSON has it: for what is made with them.

    The variant of the path tracer is among it: another one gives the same picture with other noise.
    """
    names = [domain.removeprefix("pathtraced/") for domain in domains if is_pathtraced(domain)]
    if not names:
        return {}
    from sim2real_aug.envs.mitsuba_variant import variant
    from sim2real_aug.envs.twin import scene_record

    return {name: {**scene_record(name, config_dir), "variant": variant()} for name in names}
