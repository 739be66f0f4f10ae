"""Scenes of the `randomized` domain: what a table-top looks like, drawn at random from wide ranges.

Colours are linear-looking RGB in [0, 1]; lengths are window units (the workspace is 512 wide); angles are
radians. The camera's table plane is rectified to the top-down view, so a state's ground-plane geometry is
the same in every scene and only heights shift with the camera (parallax).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from sim2real_aug.seeding import numpy_generator

Color = tuple[float, float, float]

# name: hue range, saturation range, value range
COLORS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "black": ((0.0, 1.0), (0.0, 0.3), (0.04, 0.16)),
    "grey": ((0.0, 1.0), (0.0, 0.12), (0.3, 0.65)),
    "white": ((0.0, 1.0), (0.0, 0.08), (0.82, 0.97)),
    "red": ((-0.03, 0.02), (0.6, 0.95), (0.45, 0.9)),
    "orange": ((0.04, 0.09), (0.65, 0.98), (0.6, 0.98)),
    "yellow": ((0.12, 0.16), (0.6, 0.95), (0.7, 0.98)),
    "green": ((0.25, 0.42), (0.35, 0.9), (0.25, 0.75)),
    "blue": ((0.55, 0.67), (0.4, 0.95), (0.3, 0.85)),
    "purple": ((0.72, 0.82), (0.3, 0.8), (0.3, 0.75)),
    "brown": ((0.04, 0.09), (0.45, 0.75), (0.25, 0.5)),
    "beige": ((0.07, 0.13), (0.15, 0.4), (0.65, 0.9)),
}
TABLE_MATERIALS = ("board", "wood", "cloth", "metal", "stone", "mat")
BLOCK_MATERIALS = ("plastic", "wood", "foam")
TABLE_COLORS = (
    "white",
    "white",
    "grey",
    "beige",
    "brown",
    "black",
    "green",
    "blue",
    "red",
    "orange",
    "yellow",
)
BLOCK_COLORS = tuple(name for name in COLORS if name != "beige")
ARM_COLORS = ("white", "white", "white", "grey", "grey", "black", "orange", "blue", "yellow", "red")
GOALS = ("none", "filled", "outline")


@dataclass(frozen=True)
class Surface:
    """What something is made of. `grain` in [0, 1] is the texture's contrast."""

    material: str
    color_name: str
    color: Color
    grain: float
    seed: int


@dataclass(frozen=True)
class Light:
    """One lamp over the table. `azimuth`: towards the lamp; `softness`: blur of the shadow, window units."""

    azimuth: float
    elevation: float
    shadow: float
    softness: float
    ambient: float
    falloff: float
    tint: Color


@dataclass(frozen=True)
class Camera:
    """A pinhole at (`x`, `y`, `height`) above the rectified table; `blur` in pixels of a 96-pixel image."""

    x: float
    y: float
    height: float
    blur: float
    noise: float
    gain: float
    vignette: float


@dataclass(frozen=True)
class Arm:
    """A robot's arm over the table: round, at `height`, it widens from the pusher to `shoulder`, outside.

    radii: half its width at the pusher and at the shoulder; colors: of its links, which meet at `joints`, shares
    of the way from the pusher; gloss: brightness that a highlight adds.
    """

    shoulder: tuple[float, float]
    height: float
    radii: tuple[float, float]
    joints: tuple[float, ...]
    colors: tuple[Color, ...]
    gloss: float


@dataclass(frozen=True)
class Scene:
    """Everything about how a state is drawn but the state itself."""

    seed: int
    table: Surface
    block: Surface
    pusher: Surface
    goal_color: Color
    goal: str
    goal_opacity: float
    goal_width: float
    block_height: float
    pusher_height: float
    pusher_taper: float
    light: Light
    camera: Camera
    arm: Arm | None


def _color(rng: np.random.Generator, name: str) -> Color:
    (h0, h1), saturation, value = COLORS[name]
    return colorsys.hsv_to_rgb(rng.uniform(h0, h1) % 1.0, rng.uniform(*saturation), rng.uniform(*value))


def _distance(a: Color, b: Color) -> float:
    return float(np.linalg.norm(np.subtract(a, b)))


def _surface(rng: np.random.Generator, materials: tuple[str, ...], names: tuple[str, ...]) -> Surface:
    name = str(rng.choice(names))
    return Surface(
        material=str(rng.choice(materials)),
        color_name=name,
        color=_color(rng, name),
        grain=float(rng.uniform(0.1, 1.0)),
        seed=int(rng.integers(2**31)),
    )


def _surface_unlike(
    rng: np.random.Generator, materials: tuple[str, ...], names: tuple[str, ...], others: list[Color]
) -> Surface:
    """A surface that can be told from `others`: a real bench is set up so that the block can be seen."""
    while True:
        surface = _surface(rng, materials, names)
        if all(_distance(surface.color, other) > 0.25 for other in others):
            return surface


def _light(rng: np.random.Generator) -> Light:
    warmth = rng.uniform(-0.08, 0.1)
    return Light(
        azimuth=float(rng.uniform(-np.pi, np.pi)),
        elevation=float(rng.uniform(0.5, 1.4)),
        shadow=float(rng.uniform(0.15, 0.75)),
        softness=float(rng.uniform(2.0, 16.0)),
        ambient=float(rng.uniform(0.45, 0.8)),
        falloff=float(rng.uniform(0.0, 0.35)),
        tint=(1.0 + warmth, 1.0, 1.0 - warmth),
    )


def _camera(rng: np.random.Generator) -> Camera:
    return Camera(
        x=float(rng.uniform(56, 456)),
        y=float(rng.uniform(56, 456)),
        height=float(rng.uniform(700, 2400)),
        blur=float(rng.uniform(0.0, 0.7)),
        noise=float(rng.uniform(0.0, 0.025)),
        gain=float(rng.uniform(0.85, 1.1)),
        vignette=float(rng.uniform(0.0, 0.25)),
    )


def _arm(rng: np.random.Generator, pusher_height: float, camera: Camera, taken: Color) -> Arm | None:
    """In every other scene an arm of one to four links, whose colours can be told from the block's, `taken`."""
    if rng.random() > 0.5:
        return None
    turn = rng.uniform(-np.pi, np.pi)
    reach = rng.uniform(450, 800)
    radius = float(rng.uniform(18, 80))
    links = int(rng.integers(1, 5))
    return Arm(
        shoulder=(256 + reach * float(np.cos(turn)), 256 + reach * float(np.sin(turn))),
        height=min(pusher_height + float(rng.uniform(20, 160)), 0.6 * camera.height),
        radii=(radius, radius * float(rng.uniform(1.0, 2.2))),
        joints=tuple(np.sort(0.6 * rng.random(links - 1) ** 1.5)),
        colors=tuple(_surface_unlike(rng, ("plastic",), ARM_COLORS, [taken]).color for _ in range(links)),
        gloss=float(rng.uniform(0, 0.3)),
    )


def _goal_color(rng: np.random.Generator, table: Color, block: Color) -> Color:
    """A goal may be nearly the table's colour, as a pencil's outline on a board is; it is not the block's."""
    while True:
        color = _surface_unlike(rng, ("mat",), tuple(COLORS), [block]).color
        if _distance(color, table) > 0.1:
            return color


def sample_scene(seed: int) -> Scene:
    """The scene with number `seed`; any non-negative number is a scene of its own."""
    rng = numpy_generator("randomized scene", seed)
    table = _surface(rng, TABLE_MATERIALS, TABLE_COLORS)
    block = _surface_unlike(rng, BLOCK_MATERIALS, BLOCK_COLORS, [table.color])
    pusher = _surface_unlike(rng, BLOCK_MATERIALS, tuple(COLORS), [table.color, block.color])
    goal_color = _goal_color(rng, table.color, block.color)
    camera = _camera(rng)
    pusher_height = min(float(np.exp(rng.uniform(*np.log([20, 400])))), 0.45 * camera.height)
    return Scene(
        seed=seed,
        table=table,
        block=block,
        pusher=pusher,
        goal_color=goal_color,
        goal=str(rng.choice(GOALS, p=[0.3, 0.35, 0.35])),
        goal_opacity=float(rng.uniform(0.5, 1.0)),
        goal_width=float(rng.uniform(3, 10)),
        block_height=float(rng.uniform(10, 45)),
        pusher_height=pusher_height,
        pusher_taper=float(rng.uniform(0.7, 1.1)),
        light=_light(rng),
        camera=camera,
        arm=_arm(rng, pusher_height, camera, block.color),
    )
