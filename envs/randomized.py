"""The `randomized` domain: a cheap procedural 2.5-D renderer, about a millisecond a frame.

Solids are prisms over the ground-plane outlines, drawn back to front with anti-aliased coverage: table and
goal, soft shadows, side walls, tops, then the camera (vignette, blur, sensor noise). Labels and depth do not
come from the picture: they are evaluated exactly at the pixel centres.

A pinhole camera at c = (camera.x, camera.y), `camera.height` H above the table, sees a point p at height z
where the table's point c + (p - c) * H / (H - z) lies: heights move outwards, the table stays top-down.

Legend: S = size; points (n, 2) window units; coverage (S, S) float32 in [0, 1]; image (S, S, 3) float32.
"""

from __future__ import annotations

import functools
import math
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import AGENT_RADIUS, GOAL_POSE, WINDOW_SIZE, block_polygons, rotation
from sim2real_aug.envs.rendering import REGIONS, Rendering
from sim2real_aug.envs.scenes import Arm, Camera, Scene
from sim2real_aug.envs.textures import texture

Points = NDArray[np.float64]
Plane = NDArray[np.float32]

SUBPIXELS = 4
FIXED_POINT_BITS = 4
CIRCLE_CORNERS = 24
BLOCK_TEXTURE_SIZE = 64
HIGHLIGHT = 12  # Blinn-Phong exponent of an arm's gloss
TABLE, BLOCK, GOAL, PUSHER = (REGIONS.index(name) for name in ("table", "block", "goal", "pusher"))


@dataclass(frozen=True)
class Prism:
    """A convex solid: its corners on the ground, its top's corners as the camera sees them, its height."""

    base: Points
    top: Points
    height: float


def project(points: Points, height: float, camera: Camera) -> Points:
    """Where the camera sees `points` at `height`, on the table's plane."""
    centre = np.array([camera.x, camera.y])
    return centre + (points - centre) * camera.height / (camera.height - height)


def coverage(polygons: list[Points], size: int) -> Plane:
    """The share of each pixel that the union of convex `polygons` covers, (S, S).

    OpenCV paints the outline too, so shapes come out an eighth of a pixel wider on each side.
    """
    canvas = np.zeros((size * SUBPIXELS, size * SUBPIXELS), np.uint8)
    scale = size * SUBPIXELS / WINDOW_SIZE
    for polygon in polygons:
        fixed = np.round((polygon * scale - 0.5) * (1 << FIXED_POINT_BITS)).astype(np.int32)
        cv2.fillConvexPoly(canvas, fixed, 255, lineType=cv2.LINE_8, shift=FIXED_POINT_BITS)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


@functools.lru_cache(maxsize=8)
def pixel_centres(size: int) -> Points:
    """(S, S, 2) window points at the pixel centres."""
    axis = (np.arange(size) + 0.5) * (WINDOW_SIZE / size)
    centres = np.stack(np.meshgrid(axis, axis), -1)
    centres.setflags(write=False)
    return centres


def inside(polygon: Points, points: Points) -> NDArray[np.bool_]:
    """Which of `points` (..., 2) lie in the convex `polygon`, whichever way round it is given."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    cross = edges[:, 0] * (points[..., 1, None] - polygon[:, 1]) - edges[:, 1] * (
        points[..., 0, None] - polygon[:, 0]
    )
    return np.all(cross >= 0, axis=-1) | np.all(cross <= 0, axis=-1)


def hull(points: Points) -> Points:
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)


def circle(centre: Points, radius: float) -> Points:
    angles = np.arange(CIRCLE_CORNERS) * (2 * np.pi / CIRCLE_CORNERS)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], -1)


def outline(polygons: list[Points], width: float) -> list[Points]:
    """Strips of `width` along the inner side of the edges of convex `polygons`."""
    strips = []
    for polygon in polygons:
        for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            inward = np.array([a[1] - b[1], b[0] - a[0]]) * width / np.linalg.norm(b - a)
            inward *= np.sign(inward @ (polygon.mean(0) - a))
            strips.append(np.stack([a, b, b + inward, a + inward]))
    return strips


@dataclass(frozen=True)
class Sleeve:
    """How pixels lie to an arm: `along` its axis, 0 at the pusher and 1 at the shoulder; `across`, their offset
    from the axis (S, S, 2) in radii of that place; `alpha`, the share of each that the arm covers; all (S, S)."""

    along: Plane
    across: Plane
    alpha: Plane


def sleeve(arm: Arm, agent: Points, camera: Camera, size: int) -> Sleeve:
    """A round arm of growing radius, as the camera sees it."""
    centre = np.array([camera.x, camera.y])
    points = centre + (pixel_centres(size) - centre) * (1 - arm.height / camera.height)
    axis = np.asarray(arm.shoulder) - agent
    along = ((points - agent) @ axis / (axis @ axis)).clip(0, 1)
    radius = arm.radii[0] + along * (arm.radii[1] - arm.radii[0])
    offset = points - agent - along[..., None] * axis
    room = radius - np.linalg.norm(offset, axis=-1)
    alpha = (room * size / WINDOW_SIZE + 0.5).clip(0, 1)
    return Sleeve(*(np.asarray(f, np.float32) for f in (along, offset / radius[..., None], alpha)))


def plate(arm: Arm, agent: Points) -> Points:
    """The arm's outline (n, 2)."""
    return hull(np.concatenate([circle(agent, arm.radii[0]), circle(np.asarray(arm.shoulder), arm.radii[1])]))


def blend(image: Plane, alpha: Plane, color: ArrayLike) -> None:
    """Lay `color`, (3,) or (S, S, 3), over `image` in place."""
    image += alpha[..., None] * (np.asarray(color, np.float32) - image)


class RandomizedRenderer:
    """Draws states in one `Scene`. Fields of the table and the camera are computed once a size."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._tables: dict[int, Plane] = {}
        self._vignettes: dict[int, Plane] = {}
        self._goal = [*block_polygons(GOAL_POSE)]

    def image(self, state: ArrayLike, size: int = 96) -> NDArray[np.uint8]:
        state = np.asarray(state, np.float64)
        return self._draw(state, *self._solids(state), size)

    def render(self, state: ArrayLike, size: int = 96) -> Rendering:
        state = np.asarray(state, np.float64)
        blocks, pusher = self._solids(state)
        image = self._draw(state, blocks, pusher, size)
        return Rendering(image, *self._measure(state, blocks, pusher, size))

    def _draw(
        self, state: NDArray[np.float64], blocks: list[Prism], pusher: Prism, size: int
    ) -> NDArray[np.uint8]:
        if size not in self._tables:
            self._tables[size] = self._draw_table(size)
            self._vignettes[size] = self._draw_vignette(size)
        image = self._tables[size].copy()
        self._draw_shadows(image, blocks, pusher, state[:2])
        self._draw_block(image, blocks, state[2:])
        self._draw_pusher(image, pusher)
        if self.scene.arm is not None:
            self._draw_arm(image, self.scene.arm, sleeve(self.scene.arm, state[:2], self.scene.camera, size))
        return self._photograph(image, state)

    def _solids(self, state: NDArray[np.float64]) -> tuple[list[Prism], Prism]:
        scene = self.scene
        blocks = [
            Prism(base, project(base, scene.block_height, scene.camera), scene.block_height)
            for base in block_polygons(state[2:])
        ]
        tip = circle(state[:2], AGENT_RADIUS)
        handle = circle(state[:2], AGENT_RADIUS * scene.pusher_taper)
        return blocks, Prism(tip, project(handle, scene.pusher_height, scene.camera), scene.pusher_height)

    def _draw_table(self, size: int) -> Plane:
        surface, light = self.scene.table, self.scene.light
        field = texture(surface.material, surface.seed, size)
        towards = (pixel_centres(size) / WINDOW_SIZE - 0.5) @ (
            math.cos(light.azimuth),
            math.sin(light.azimuth),
        )
        lit = (1 + 0.22 * surface.grain * field) * (1 + light.falloff * towards)
        image = np.asarray(lit[..., None] * np.asarray(surface.color), np.float32)
        if self.scene.goal != "none":
            shapes = self._goal if self.scene.goal == "filled" else outline(self._goal, self.scene.goal_width)
            blend(image, coverage(shapes, size) * self.scene.goal_opacity, self.scene.goal_color)
        return image

    def _draw_vignette(self, size: int) -> Plane:
        camera = self.scene.camera
        radius = np.linalg.norm(pixel_centres(size) / WINDOW_SIZE - 0.5, axis=-1)
        tint = np.asarray(self.scene.light.tint) * camera.gain
        return np.asarray((1 - camera.vignette * 2 * radius**2)[..., None] * tint, np.float32)

    def _draw_shadows(self, image: Plane, blocks: list[Prism], pusher: Prism, agent: Points) -> None:
        light, size = self.scene.light, len(image)
        away = -np.array([math.cos(light.azimuth), math.sin(light.azimuth)]) / math.tan(light.elevation)
        cast = [
            hull(np.concatenate([solid.base, solid.base + away * solid.height]))
            for solid in (*blocks, pusher)
        ]
        if self.scene.arm is not None:
            cast.append(plate(self.scene.arm, agent) + away * self.scene.arm.height)
        sigma = light.softness * size / WINDOW_SIZE
        shade = cv2.GaussianBlur(coverage(cast, size), (0, 0), sigma)
        image *= 1 - light.shadow * shade[..., None]

    def _wall_shade(self, normal: NDArray[np.float64]) -> float:
        """Brightness of an upright wall that faces `normal` (2,), with the table's as 1."""
        light = self.scene.light
        facing = float(normal @ (math.cos(light.azimuth), math.sin(light.azimuth)))
        direct = 1 - light.ambient
        wall = light.ambient + direct * max(facing, 0.0) * math.cos(light.elevation)
        return wall / (light.ambient + direct * math.sin(light.elevation))

    def _draw_block(self, image: Plane, blocks: list[Prism], pose: NDArray[np.float64]) -> None:
        size, color = len(image), np.asarray(self.scene.block.color)
        for solid in blocks:
            middle = solid.base.mean(0)
            for i, j in zip(range(4), (1, 2, 3, 0), strict=True):
                edge = solid.base[j] - solid.base[i]
                normal = np.array([edge[1], -edge[0]]) / np.linalg.norm(edge)
                normal *= np.sign(normal @ (solid.base[i] - middle))
                if normal @ (np.array([self.scene.camera.x, self.scene.camera.y]) - solid.base[i]) <= 0:
                    continue
                wall = np.stack([solid.base[i], solid.base[j], solid.top[j], solid.top[i]])
                blend(image, coverage([wall], size), color * self._wall_shade(normal))
        grain = 1 + 0.25 * self.scene.block.grain * self._block_texture(pose, size)
        blend(image, coverage([solid.top for solid in blocks], size), grain[..., None] * color)

    def _block_texture(self, pose: NDArray[np.float64], size: int) -> Plane:
        """The block's texture where its top is seen, turned and moved with it, (S, S)."""
        surface, camera = self.scene.block, self.scene.camera
        field = texture(surface.material, surface.seed, BLOCK_TEXTURE_SIZE)
        zoom = camera.height / (camera.height - self.scene.block_height)
        scale = size / WINDOW_SIZE
        turn = rotation(float(pose[2])) * zoom * scale
        origin = project(pose[None, :2], self.scene.block_height, camera)[0] * scale - 0.5
        unit = 120 / BLOCK_TEXTURE_SIZE
        corner = origin + turn @ (-60 + unit / 2, unit / 2)
        return cv2.warpAffine(
            field, np.column_stack([turn * unit, corner]), (size, size), borderMode=cv2.BORDER_REFLECT
        )

    def _draw_pusher(self, image: Plane, pusher: Prism) -> None:
        size, color = len(image), np.asarray(self.scene.pusher.color)
        side = min(float(self._wall_shade(np.array([0.0, 1.0]))), 0.85)
        blend(image, coverage([hull(np.concatenate([pusher.base, pusher.top]))], size), color * side)
        blend(image, coverage([pusher.top], size), color)

    def _draw_arm(self, image: Plane, arm: Arm, seen: Sleeve) -> None:
        """Lit as a cylinder is, with a highlight, in its links' colours."""
        light = self.scene.light
        lamp = np.array([math.cos(light.azimuth), math.sin(light.azimuth), math.tan(light.elevation)])
        lamp /= np.linalg.norm(lamp)
        between = lamp + np.array([0, 0, 1])  # lamp and camera
        between /= np.linalg.norm(between)
        upright = np.sqrt((1 - np.square(seen.across).sum(-1)).clip(0, 1))
        normal = np.concatenate([seen.across, upright[..., None]], axis=-1)
        direct = (1 - light.ambient) * (normal @ lamp).clip(0) / lamp[2]
        gloss = arm.gloss * (normal @ between).clip(0) ** HIGHLIGHT
        links = np.searchsorted(arm.joints, seen.along)
        color = np.asarray(arm.colors, np.float32)[links]
        shade = (light.ambient * (0.6 + 0.4 * upright) + direct).clip(0, 1.3)
        blend(image, seen.alpha, color * shade[..., None] + gloss[..., None])

    def _measure(
        self, state: NDArray[np.float64], blocks: list[Prism], pusher: Prism, size: int
    ) -> tuple[NDArray[np.uint8], Plane]:
        """Labels and depth at the pixel centres; a nearer surface hides a farther one."""
        camera, points = self.scene.camera, pixel_centres(size)
        labels = np.full((size, size), TABLE, np.uint8)
        depth = np.full((size, size), camera.height)
        if self.scene.goal != "none":
            labels[inside(self._goal[0], points) | inside(self._goal[1], points)] = GOAL
        for label, solid in ((BLOCK, blocks[0]), (BLOCK, blocks[1]), (PUSHER, pusher)):
            rows, columns = _window(np.concatenate([solid.base, solid.top]), size)
            near = points[rows, columns]
            seen = ray_depth(solid, near, camera)
            hit = seen < depth[rows, columns]
            labels[rows, columns][hit] = label
            depth[rows, columns][hit] = seen[hit]
        if self.scene.arm is not None:
            over = sleeve(self.scene.arm, state[:2], camera, size).alpha >= 0.5
            labels[over] = PUSHER
            depth[over] = camera.height - self.scene.arm.height
        return labels, depth.astype(np.float32)

    def _photograph(self, image: Plane, state: NDArray[np.float64]) -> NDArray[np.uint8]:
        camera, size = self.scene.camera, len(image)
        image = image * self._vignettes[size]
        sigma = camera.blur * size / 96
        if sigma > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        rng = np.random.default_rng((self.scene.seed, zlib.crc32(state.tobytes())))
        image += camera.noise * rng.standard_normal(image.shape, dtype=np.float32)
        return np.round(image.clip(0, 1) * 255).astype(np.uint8)


def _window(points: Points, size: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels around `points`."""
    low = np.floor(points.min(0) * size / WINDOW_SIZE).astype(int).clip(0, size)
    high = np.ceil(points.max(0) * size / WINDOW_SIZE).astype(int).clip(0, size)
    return slice(low[1], high[1]), slice(low[0], high[0])


def ray_depth(solid: Prism, points: Points, camera: Camera) -> NDArray[np.float64]:
    """Depth at which the rays to the table's `points` (..., 2) meet the solid, infinity where they miss.

    A ray to q passes c + (q - c) s at depth s H. The solid, between base and top (linear in the height: a taper
    is allowed), is cut by half-planes n·x <= o that are linear in s, so each clips the ray to an interval.
    """
    centre = np.array([camera.x, camera.y])
    s_top = (camera.height - solid.height) / camera.height
    # Corners on the solid's surface, seen from c: table level at s = 1, top level at s = s_top.
    base, top = solid.base - centre, (solid.top - centre) * s_top
    ray = points - centre
    nearest = np.full(points.shape[:-1], s_top)
    farthest = np.ones(points.shape[:-1])
    middle = base.mean(0)
    edges = np.roll(base, -1, axis=0) - base
    for corner, corner_top, edge in zip(base, top, edges, strict=True):
        normal = np.array([edge[1], -edge[0]])
        normal = normal if normal @ (corner - middle) > 0 else -normal
        slope = normal @ (corner - corner_top) / (1 - s_top)
        offset = normal @ corner - slope
        # inside: s (n·ray) <= offset + slope s
        rate = ray @ normal - slope
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = offset / rate
        farthest = np.where(rate > 0, np.minimum(farthest, bound), farthest)
        nearest = np.where(rate < 0, np.maximum(nearest, bound), nearest)
        farthest = np.where((rate == 0) & (offset < 0), -1.0, farthest)
    return np.where(nearest <= farthest, nearest * camera.height, np.inf)
