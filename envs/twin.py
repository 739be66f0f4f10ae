"""Scenes of the photoreal twin: everything about how `pathtraced/NAME` draws a state but the state itself.

A scene is a file `scene/NAME.yaml`, ours in configs/ or yours in a folder given with --config-dir; it may start
from another one with hydra's defaults list (`defaults: [whiteboard, _self_]`). Files that it names (an image as
a texture, an HDRI as light) are looked for beside it.

Legend: points are x, y of the window and height above the table, window units (512 = the workspace; think of
millimetres); colours are sRGB, 0..1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sim2real_aug.config import compose, settings
from sim2real_aug.envs.materials import Color, Material
from sim2real_aug.envs.sensor import Sensor
from sim2real_aug.errors import BadInput, unknown_name

SPLITS = ("development", "claims", "user")
GOALS = ("none", "filled", "outline")
FILE_KEYS = ("image", "hdri")
FARTHEST = 5000.0  # window units from the workspace's corner that a camera may stand or look


@dataclass(frozen=True)
class Table:
    """The board that the block lies on. x, y: from where to where it reaches; thickness: above the ground."""

    material: Material
    x: tuple[float, float] = (-400.0, 912.0)
    y: tuple[float, float] = (-400.0, 912.0)
    thickness: float = 8.0

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            low, high = getattr(self, name)
            if not (low <= 0 and high >= 512):
                raise BadInput(f"{name} must reach over the workspace, 0..512; got {low}..{high}")
        _above_zero(self, "thickness")


@dataclass(frozen=True)
class Goal:
    """The marker on the table. style: none, filled or outline; width: of the outline."""

    style: str = "outline"
    color: Color = (0.3, 0.3, 0.3)
    opacity: float = 0.8
    width: float = 4.0

    def __post_init__(self) -> None:
        if self.style not in GOALS:
            raise unknown_name("goal style", self.style, GOALS)
        if not 0 <= self.opacity <= 1:
            raise BadInput(f"opacity must lie in 0..1; got {self.opacity}")
        _above_zero(self, "width")


@dataclass(frozen=True)
class Block:
    """The T. bevel: of its upper edges."""

    material: Material
    height: float = 28.0
    bevel: float = 1.0

    def __post_init__(self) -> None:
        _above_zero(self, "height", "bevel")
        if self.bevel > min(self.height, 15.0) / 2:
            raise BadInput(f"bevel must be at most half of the height, and 7.5; got {self.bevel}")


@dataclass(frozen=True)
class Part:
    """A turned part of the pusher: (radius, height) pairs from the table upwards."""

    profile: tuple[tuple[float, float], ...]
    material: Material

    def __post_init__(self) -> None:
        radii = [radius for radius, _ in self.profile]
        if len(radii) < 2 or min(min(pair) for pair in self.profile) < 0 or max(radii) == 0:
            rule = "two or more pairs [radius, height], none negative and not all of radius 0"
            raise BadInput(f"profile must be {rule}; got {self.profile}")


@dataclass(frozen=True)
class Link:
    """A tapered tube of the arm, to `share` of the way from the pusher to the shoulder, at `height`."""

    share: float
    height: float
    radii: tuple[float, float]
    material: Material

    def __post_init__(self) -> None:
        if min(self.radii) <= 0:
            raise BadInput(f"radii must be above 0; got {self.radii}")
        if not 0 <= self.share <= 1:
            raise BadInput(f"share must lie in 0..1; got {self.share}")


@dataclass(frozen=True)
class Arm:
    """What carries the pusher: tubes one after the other from `wrist` (a height) over the pusher."""

    shoulder: tuple[float, float]
    wrist: float
    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        joints = [(0.0, self.wrist), *((link.share, link.height) for link in self.links)]
        if any(before == after for before, after in itertools.pairwise(joints)):
            raise BadInput("links must each lead to another place: change share or height")


@dataclass(frozen=True)
class Pusher:
    """What pushes: turned parts that move with it (the lowest with the physics' radius, 15), and an arm or none."""

    parts: tuple[Part, ...]
    arm: Arm | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise BadInput("parts must hold one part at least")


@dataclass(frozen=True)
class Lamp:
    """A rectangle of light.

    strength: how light a white sheet in the workspace's middle is by this lamp alone (1 = full exposure).
    tint: colour of the light, linear.
    """

    position: tuple[float, float, float]
    size: tuple[float, float]
    strength: float
    tint: Color = (1.0, 1.0, 1.0)
    look_at: tuple[float, float] = (256.0, 256.0)

    def __post_init__(self) -> None:
        if self.position[2] <= 0 or min(self.size) <= 0 or self.strength < 0:
            raise BadInput("a lamp needs a height and a size above 0, and no negative strength")


@dataclass(frozen=True)
class Surroundings:
    """Light from everywhere: an even tint, or an HDRI file (.exr, .hdr) turned by `rotation` degrees.

    strength: the mean light of the upper half, in the measure of Lamp.strength.
    """

    strength: float = 0.3
    tint: Color = (1.0, 1.0, 1.0)
    hdri: str | None = None
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise BadInput(f"strength must not be negative; got {self.strength}")


@dataclass(frozen=True)
class Camera:
    """position, look_at: see the legend. focal_length: mm on a full-frame camera; resolution: of photos.

    aperture: diameter of the lens' opening, window units (0 = all is sharp); it is focused on the table.
    """

    position: tuple[float, float, float] = (256.0, 256.0, 1200.0)
    look_at: tuple[float, float] = (256.0, 256.0)
    focal_length: float = 50.0
    resolution: tuple[int, int] = (640, 480)
    aperture: float = 0.0

    def __post_init__(self) -> None:
        _above_zero(self, "focal_length")
        if self.aperture < 0:
            raise BadInput(f"aperture must not be negative; got {self.aperture}")
        if not all(abs(value) < FARTHEST for value in (*self.position, *self.look_at)):
            raise BadInput(
                f"position and look_at must be nearer than {FARTHEST:g}; got {self.position}, {self.look_at}"
            )
        if min(self.resolution) < 16:
            raise BadInput(f"resolution must be 16 pixels at least; got {self.resolution}")


@dataclass(frozen=True)
class Samples:
    """Light paths a pixel of a frame and of a photo, and how often a path may bounce.

    A count is a power of two: such sums come out the same to the last bit on any number of threads. Powers of four
    are best: squares are multijittered, which has a third of the noise of independent samples.
    """

    frame: int = 64
    photo: int = 64
    bounces: int = 4

    def __post_init__(self) -> None:
        for name in ("frame", "photo"):
            count = getattr(self, name)
            if count < 1 or count & (count - 1):
                raise BadInput(f"{name} must be a power of two, best of four, such as 16; got {count}")
        if self.bounces < 1:
            raise BadInput(f"bounces must be at least 1; got {self.bounces}")


@dataclass(frozen=True)
class TwinScene:
    """A whole scene; split: development (for tuning), claims (for figures only) or user."""

    table: Table
    ground: Material
    block: Block
    pusher: Pusher
    lamps: tuple[Lamp, ...]
    description: str = ""
    split: str = "user"
    goal: Goal = field(default_factory=Goal)
    surroundings: Surroundings = field(default_factory=Surroundings)
    camera: Camera = field(default_factory=Camera)
    sensor: Sensor = field(default_factory=Sensor)
    samples: Samples = field(default_factory=Samples)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown_name("split", self.split, SPLITS)
        low, high = self.highest, self.camera.position[2]
        if high < low + 50:
            raise BadInput(
                f"camera.position must be 50 above all it sees ({low:g} high); its height is {high:g}"
            )

    @property
    def highest(self) -> float:
        """Height of the tallest thing that moves."""
        parts = [height for part in self.pusher.parts for _, height in part.profile]
        links = (
            []
            if self.pusher.arm is None
            else [link.height + max(link.radii) for link in self.pusher.arm.links]
        )
        return max(self.block.height, *parts, *links)


def scene_names(config_dir: str | Path | None = None) -> list[str]:
    """Names of the scenes that ship, and of those in `config_dir`, sorted."""
    shipped = files("sim2real_aug.configs").joinpath("scene").iterdir()
    names = {Path(file.name).stem for file in shipped if file.name.endswith(".yaml")}
    if config_dir is not None:
        names |= {file.stem for file in (Path(config_dir) / "scene").glob("*.yaml")}
    return sorted(names)


@lru_cache(maxsize=32)
def load_scene(name: str, config_dir: str | Path | None = None) -> TwinScene:
    """The scene `name`, looked for in `config_dir` first.

    Raises BadInput for an unknown scene, and for any key or value in it that makes no sense.
    """
    if name not in scene_names(config_dir):
        raise unknown_name(
            "scene", f"pathtraced/{name}", [f"pathtraced/{n}" for n in scene_names(config_dir)]
        )
    config = compose(f"scene/{name}", config_dir=None if config_dir is None else Path(config_dir))
    values = OmegaConf.to_container(config.scene, resolve=True)
    try:
        _find_files(values, None if config_dir is None else Path(config_dir) / "scene")
        return settings(TwinScene, values)  # type: ignore[arg-type]
    except BadInput as error:
        raise BadInput(f"scene '{name}': {error}") from error


def scene_record(name: str, config_dir: str | Path | None = None) -> dict[str, Any]:
    """What a store keeps to say how `pathtraced/NAME` looked: the scene's content, files by their hashes."""

    def without_paths(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: _digest(item) if key in FILE_KEYS and item else without_paths(item)
                for key, item in value.items()
            }
        return [without_paths(item) for item in value] if isinstance(value, list | tuple) else value

    record = without_paths(dataclasses.asdict(load_scene(name, config_dir)))
    assert isinstance(record, dict)
    return record


def _digest(file: str) -> str:
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()


def _find_files(values: Any, beside: Path | None) -> None:
    """Make the paths of files in a scene's mapping absolute, in place."""
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if key in FILE_KEYS and isinstance(value, str):
            path = Path(value).expanduser() if beside is None else beside / Path(value).expanduser()
            if not path.is_file():
                raise BadInput(f"{key}: there is no file {path}")
            values[key] = str(path.resolve())
        elif isinstance(value, dict | list):
            _find_files(value, beside)


def _above_zero(record: Any, *names: str) -> None:
    for name in names:
        if getattr(record, name) <= 0:
            raise BadInput(f"{name} must be above 0; got {getattr(record, name)}")
