"""Materials of the photoreal twin: what a surface's colour does over its area, made by our code or an image file.

Every kind paints a sheet of so many window units, so that grain and weave keep their physical size whatever the
resolution; the sheets are drawn from the material's own seed.

Legend: a sheet is (H, W, 3) float32 sRGB in [0, 1]; a field (H, W) float32 about 0, mostly within [-1, 1];
`unit` = pixels a window unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.photos import read_photo
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.seeding import numpy_generator

Color = tuple[float, float, float]
Field = NDArray[np.float32]


@dataclass(frozen=True)
class Shading:
    """Of Disney's principled model (Burley 2012)."""

    roughness: float
    metallic: float = 0.0
    specular: float = 0.5


@dataclass(frozen=True)
class Material:
    """What something is made of.

    kind: a key of KINDS, or `image` (then `image` is the file, `scale` its width in window units).
    color, accent: sRGB, 0..1; accent is the second colour of kinds that have one (grain, lines, chips).
    contrast: of the pattern. scale: of its size. roughness, metallic: as in Disney's principled shading model
    (Burley 2012), 0..1; null = the kind's own.
    """

    kind: str = "plastic"
    color: Color = (0.5, 0.5, 0.5)
    accent: Color | None = None
    contrast: float = 1.0
    scale: float = 1.0
    roughness: float | None = None
    metallic: float | None = None
    seed: int = 0
    image: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, "image"):
            raise unknown_name("material kind", self.kind, [*KINDS, "image"])
        if (self.kind == "image") != (self.image is not None):
            raise BadInput(f"material kind '{self.kind}': `image: FILE` and `kind: image` belong together")
        if self.scale <= 0:
            raise BadInput(f"scale must be above 0; got {self.scale}")
        for name in ("color", "accent"):
            value = getattr(self, name)
            if value is not None and (len(value) != 3 or not all(0 <= part <= 1 for part in value)):
                raise BadInput(f"{name} must be three numbers in 0..1; got {value}")
        for name in ("roughness", "metallic"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise BadInput(f"{name} must lie in 0..1; got {value}")

    @property
    def shading(self) -> Shading:
        """The kind's, with what was set here."""
        own = KINDS[self.kind].shading if self.kind in KINDS else Shading(0.6)
        typed = {
            name: getattr(self, name) for name in ("roughness", "metallic") if getattr(self, name) is not None
        }
        return replace(own, **typed)


@dataclass(frozen=True)
class Sheet:
    """Where a pattern is painted: `shape` pixels (H, W), `unit` pixels a feature unit, randomness, two colours."""

    shape: tuple[int, int]
    unit: float
    rng: np.random.Generator
    color: NDArray[np.float32]
    accent: NDArray[np.float32]
    contrast: float

    def noise(self, across: float, along: float | None = None) -> Field:
        """Smooth noise whose features are `across` units high and `along` (as high) units wide."""
        along = across if along is None else along
        cells = [max(1, round(n / (c * self.unit))) for n, c in zip(self.shape, (across, along), strict=True)]
        grid = self.rng.uniform(-1.0, 1.0, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
        return cv2.resize(grid, self.shape[::-1], interpolation=cv2.INTER_CUBIC)

    def octaves(self, largest: float, count: int) -> Field:
        """Noise of features from `largest` units down by halves, ever weaker."""
        layers = [0.55**k * self.noise(largest / 2**k) for k in range(count)]
        return np.asarray(sum(layers), np.float32)

    def grain(self) -> Field:
        """White noise, a value a pixel."""
        return self.rng.standard_normal(self.shape, dtype=np.float32)

    def coordinates(self) -> tuple[Field, Field]:
        """Vertical and horizontal position in units, (H, 1) and (1, W)."""
        y, x = (np.arange(n, dtype=np.float32) / self.unit for n in self.shape)
        return y[:, None], x[None, :]

    def shade(self, field: Field) -> Field:
        """The colour made lighter and darker by a field."""
        return self.color * (1 + self.contrast * field[..., None])

    def mix(self, share: Field) -> Field:
        """From the colour (0) to the accent (1)."""
        return self.color + np.clip(self.contrast * share, 0, 1)[..., None] * (self.accent - self.color)


def paint(material: Material, width: float, height: float, unit: float) -> NDArray[np.uint8]:
    """A sheet of `width` x `height` window units at `unit` pixels each, (H, W, 3) uint8 sRGB.

    Raises BadInput for an image that cannot be read.
    """
    shape = (max(2, round(height * unit)), max(2, round(width * unit)))
    if material.image is not None:
        return _tiled(read_photo(Path(material.image)), shape, material.scale * unit)
    color = np.asarray(material.color, np.float32)
    accent = 0.6 * color if material.accent is None else np.asarray(material.accent, np.float32)
    rng = numpy_generator("material", material.kind, material.seed)
    sheet = Sheet(shape, unit * material.scale, rng, color, accent, material.contrast)
    return np.rint(KINDS[material.kind].paint(sheet).clip(0, 1) * 255).astype(np.uint8)


def _tiled(image: NDArray[np.uint8], shape: tuple[int, int], width: float) -> NDArray[np.uint8]:
    """The image repeated over `shape` pixels, each copy `width` pixels wide."""
    size = (max(1, round(width)), max(1, round(width * image.shape[0] / image.shape[1])))
    how = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR
    tile = cv2.resize(image, size, interpolation=how)
    repeats = [-(-n // t) for n, t in zip(shape, tile.shape, strict=False)]
    return np.ascontiguousarray(np.tile(tile, (*repeats, 1))[: shape[0], : shape[1]])


def _plastic(sheet: Sheet) -> Field:
    return sheet.shade(0.03 * sheet.noise(60))


def _board(sheet: Sheet) -> Field:
    """A coated board: wiped smudges and the ghosts of old marker strokes."""
    field = 0.025 * sheet.octaves(220, 4) + 0.004 * sheet.grain()
    strokes = np.zeros(sheet.shape, np.uint8)
    for _ in range(7):
        turn = np.cumsum(sheet.rng.normal(0, 0.5, 9)) + sheet.rng.uniform(0, 2 * np.pi)
        steps = sheet.rng.uniform(8, 26) * np.stack([np.cos(turn), np.sin(turn)], -1)
        start = sheet.rng.uniform(0, 1, 2) * sheet.shape[::-1]
        line = (start + np.cumsum(steps, 0) * sheet.unit).astype(np.int32)
        cv2.polylines(strokes, [line], False, int(sheet.rng.integers(60, 256)), max(1, round(2 * sheet.unit)))
    ghosts = cv2.GaussianBlur(strokes, (0, 0), max(0.5, sheet.unit)).astype(np.float32) / 255
    return sheet.shade(field) * (1 - 0.07 * sheet.contrast * ghosts[..., None])


def _foam(sheet: Sheet) -> Field:
    cells = cv2.GaussianBlur(sheet.grain(), (0, 0), max(0.6, 0.5 * sheet.unit))
    return sheet.shade(0.3 * cells + 0.12 * sheet.noise(14) + 0.06 * sheet.noise(70))


def _printed(sheet: Sheet) -> Field:
    """A 3-D print seen from above: rasters laid at 45 degrees, with a frame-wise sheen."""
    y, x = sheet.coordinates()
    lines = np.sin((x + y + 0.6 * sheet.noise(40)) * (2 * np.pi / 1.6))
    return sheet.shade(0.05 * lines + 0.05 * sheet.noise(25) + 0.01 * sheet.grain())


def _wood(sheet: Sheet) -> Field:
    """Planks along the window's x: growth rings cut lengthwise, fibres, pores, some planks darker."""
    y, _ = sheet.coordinates()
    width = 128.0
    plank = np.floor(y / width)
    count = int(plank.max()) + 1
    tone = sheet.rng.normal(0, 0.16, count).astype(np.float32)[plank.astype(int)]
    phase = sheet.rng.uniform(0, 50, count).astype(np.float32)[plank.astype(int)]
    wander = 26 * sheet.noise(150, 420) + 6 * sheet.noise(30, 160)
    rings = 0.5 + 0.5 * np.sin((y + wander + phase) * (2 * np.pi / 17))
    fibre = sheet.noise(1.4, 60) + 0.7 * sheet.noise(0.8, 18)
    pores = np.clip(sheet.noise(1.0, 9) - 0.55, 0, 1) * 2
    seam = (np.abs(y / width - np.round(y / width)) * width < 0.8) & (y > width / 2)
    share = 0.55 * rings**3 + 0.16 * fibre + 0.5 * pores + tone + 0.9 * seam
    return sheet.mix(share) * (1 + 0.05 * sheet.noise(90, 300))[..., None]


def _plywood(sheet: Sheet) -> Field:
    """Rotary-cut veneer: broad cathedral figures, small knots."""
    wander = 60 * sheet.noise(170, 500) + 9 * sheet.noise(40, 200)
    y, x = sheet.coordinates()
    figure = 0.5 + 0.5 * np.sin((y + wander) * (2 * np.pi / 34))
    fibre = sheet.noise(1.2, 45)
    share = 0.38 * figure**2 + 0.12 * fibre
    for _ in range(4):
        cx, cy = sheet.rng.uniform(0, 1, 2) * (x.max(), y.max())
        radius = np.hypot((x - cx) / 1.5, y - cy) + 3 * sheet.noise(12)
        share += np.clip(1.1 - radius / sheet.rng.uniform(5, 11), 0, 0.9)
    return sheet.mix(share)


def _cloth(sheet: Sheet) -> Field:
    """A plain weave with slubs, a few creases and stripes of the accent."""
    y, x = sheet.coordinates()
    pitch = 3.2
    over = np.sin(x * (np.pi / pitch)) * np.sin(y * (np.pi / pitch))
    slubs = sheet.noise(1.6, 26) + sheet.noise(26, 1.6)
    crease = np.abs(sheet.noise(190)) ** 0.5 - 0.5
    field = 0.10 * over + 0.07 * slubs + 0.10 * crease + 0.03 * sheet.grain()
    distance = np.abs((x + 60.0) % 190.0 - 95.0)
    stripe = ((distance < 5) | (np.abs(distance - 13) < 2)) * np.ones_like(y)
    return sheet.mix(0.8 * stripe.astype(np.float32)) * (1 + sheet.contrast * field)[..., None]


def _metal(sheet: Sheet) -> Field:
    """Brushed along the window's x, with scratches across."""
    brushed = sheet.noise(0.7, 160) + 0.6 * sheet.noise(2.5, 320)
    return sheet.shade(0.09 * brushed + 0.06 * sheet.noise(200) - 0.05 * _scratches(sheet, 40))


def _scratches(sheet: Sheet, count: int) -> Field:
    canvas = np.zeros(sheet.shape, np.uint8)
    for _ in range(count):
        start = sheet.rng.uniform(0, 1, 2) * sheet.shape[::-1]
        turn, length = sheet.rng.uniform(0, 2 * np.pi), sheet.rng.uniform(10, 90) * sheet.unit
        end = start + length * np.array([np.cos(turn), np.sin(turn)])
        ends = [tuple(int(v) for v in point) for point in (start, end)]
        cv2.line(canvas, ends[0], ends[1], int(sheet.rng.integers(50, 255)), 1, cv2.LINE_AA)
    return np.asarray(canvas / 255, np.float32)


def _marble(sheet: Sheet) -> Field:
    """Veins where warped noise crosses zero, on a cloudy ground."""
    warp = sheet.octaves(260, 5)
    vein = np.exp(-(np.abs(warp) * 14)) * np.clip(0.4 + 0.8 * sheet.noise(160), 0, 1)
    fine = np.exp(-(np.abs(sheet.octaves(110, 5)) * 26)) * np.clip(sheet.noise(120), 0, 1)
    return sheet.mix(0.75 * vein + 0.4 * fine + 0.10 * sheet.octaves(300, 3))


def _terrazzo(sheet: Sheet) -> Field:
    """Polished chips, of the accent and of shades between, in a cement of the colour."""
    image = np.broadcast_to(sheet.color, (*sheet.shape, 3)).copy()
    image *= (1 + 0.04 * sheet.noise(60) + 0.015 * sheet.grain())[..., None]
    area = sheet.shape[0] * sheet.shape[1] / sheet.unit**2
    for _ in range(int(area / 160)):
        corners = int(sheet.rng.integers(5, 8))
        turn = np.sort(sheet.rng.uniform(0, 2 * np.pi, corners))
        radius = sheet.rng.uniform(1.2, 9) * sheet.rng.uniform(0.6, 1, corners)
        middle = sheet.rng.uniform(0, 1, 2) * sheet.shape[::-1]
        chip = middle + sheet.unit * radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], -1)
        share = float(sheet.rng.choice([0.25, 0.5, 1.0, -0.35]))
        shade = sheet.color + sheet.contrast * share * (sheet.accent - sheet.color)
        cv2.fillPoly(image, [np.rint(chip * 16).astype(np.int32)], shade.tolist(), cv2.LINE_AA, 4)
    return image


def _mat(sheet: Sheet) -> Field:
    """A printed cutting mat: a fine and a bold grid, diagonals, numbers, scuffs."""
    y, x = sheet.coordinates()
    share = np.zeros(sheet.shape, np.float32)
    for pitch, width, weight in ((12.5, 0.5, 0.35), (62.5, 1.1, 0.85)):
        for axis in (y, x):
            near = np.abs(axis / pitch - np.round(axis / pitch)) * pitch
            share = np.maximum(share, weight * np.clip(width + 0.5 - near, 0, 1))
    diagonal = np.abs(((x + y) / 500) % 1 - 0.5) * 500 / np.sqrt(2)
    share = np.maximum(share, 0.6 * np.clip(1.2 - diagonal, 0, 1))
    numbers = np.zeros(sheet.shape, np.uint8)
    for k in range(1, int(x.max() / 62.5)):
        for place in ((k * 62.5 + 3, 14.0), (4.0, k * 62.5 - 3)):
            at = tuple(int(v * sheet.unit) for v in place)
            cv2.putText(numbers, str(k), at, cv2.FONT_HERSHEY_SIMPLEX, 0.35 * sheet.unit, 200, 1, cv2.LINE_AA)
    share = np.maximum(share, numbers.astype(np.float32) / 255)
    scuffed = 0.06 * sheet.octaves(120, 4) + 0.10 * _scratches(sheet, 60) + 0.012 * sheet.grain()
    return sheet.mix(share) * (1 + scuffed)[..., None]


def _cardboard(sheet: Sheet) -> Field:
    """Kraft paper over flutes along the window's y, with fibres of both shades."""
    _, x = sheet.coordinates()
    flutes = np.sin(x * (2 * np.pi / 9) + 0.4 * sheet.noise(80)) * np.ones((sheet.shape[0], 1), np.float32)
    fibres = np.clip(np.abs(sheet.noise(1.1, 10)) - 0.62, 0, 1) * np.sign(sheet.noise(9))
    return sheet.shade(0.03 * flutes + 0.35 * fibres + 0.05 * sheet.octaves(150, 3) + 0.015 * sheet.grain())


@dataclass(frozen=True)
class Kind:
    """How a kind of material is painted and shaded."""

    paint: Callable[[Sheet], Field]
    shading: Shading


KINDS = {
    "plastic": Kind(_plastic, Shading(0.4, 0.0, 0.5)),
    "board": Kind(_board, Shading(0.35, 0.0, 0.4)),
    "foam": Kind(_foam, Shading(0.95, 0.0, 0.2)),
    "printed": Kind(_printed, Shading(0.45, 0.0, 0.5)),
    "wood": Kind(_wood, Shading(0.5, 0.0, 0.4)),
    "plywood": Kind(_plywood, Shading(0.7, 0.0, 0.3)),
    "cloth": Kind(_cloth, Shading(0.95, 0.0, 0.1)),
    "metal": Kind(_metal, Shading(0.35, 1.0, 0.5)),
    "marble": Kind(_marble, Shading(0.15, 0.0, 0.5)),
    "terrazzo": Kind(_terrazzo, Shading(0.2, 0.0, 0.5)),
    "mat": Kind(_mat, Shading(0.75, 0.0, 0.3)),
    "cardboard": Kind(_cardboard, Shading(0.85, 0.0, 0.2)),
}
