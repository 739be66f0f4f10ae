"""Triangle meshes of what stands on the table: an extruded outline, turned profiles, tubes and boxes.

Legend: V vertices, F faces; vertices (V, 3) = x, y of the window and height above the table, in window units;
faces (F, 3) vertex numbers, counter-clockwise seen from outside; uv (V, 2) texture coordinates.
The window's y points down, so x, y, height are a left-handed frame: `to_world` is the one place that knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import WINDOW_SIZE

Points = NDArray[np.float64]
TURNED_SIDES = 48


@dataclass(frozen=True)
class Mesh:
    """See the legend. smooth: shade it as a round thing, not as flat facets."""

    vertices: Points
    faces: NDArray[np.int64]
    uv: Points
    smooth: bool = False

    def moved(self, turn: Points, by: ArrayLike) -> Mesh:
        """Turned by the matrix `turn` (3, 3), then moved `by` (3,)."""
        return replace(self, vertices=self.vertices @ turn.T + np.asarray(by, np.float64))


def to_world(points: ArrayLike) -> Points:
    """Window points (..., 3) in a right-handed frame: the workspace's middle at 0, y up, z off the table."""
    values = np.asarray(points, np.float64)
    middle = WINDOW_SIZE / 2
    return np.stack([values[..., 0] - middle, middle - values[..., 1], values[..., 2]], -1)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of all; smooth as the first is."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate(faces),
        np.concatenate([mesh.uv for mesh in meshes]),
        meshes[0].smooth,
    )


def inset(outline: Points, by: float) -> Points:
    """A clockwise (seen in the window) right-angled outline (n, 2), each edge moved inwards by `by`."""
    edges = np.roll(outline, -1, axis=0) - outline
    unit = edges / np.linalg.norm(edges, axis=1, keepdims=True)
    inwards = np.stack([-unit[:, 1], unit[:, 0]], -1)
    return outline + by * (inwards + np.roll(inwards, 1, axis=0))


def extruded(outline: Points, top: Sequence[Sequence[int]], height: float, bevel: float, unit: float) -> Mesh:
    """A right-angled outline (n, 2), clockwise in the window, raised to `height` with its top edge chamfered.

    top: the triangles of the outline's inside, as corner numbers. unit: window units a turn of the texture.
    """
    rings = [(outline, 0.0), (outline, height - bevel), (inset(outline, bevel), height)]
    parts = []
    n = len(outline)
    following = np.roll(np.arange(n), -1)
    for (low, z_low), (high, z_high) in itertools.pairwise(rings):
        corners = np.stack([low, low[following], high[following], high], axis=1)  # (n, 4, 2)
        z = np.broadcast_to(np.array([z_low, z_low, z_high, z_high])[None, :, None], (n, 4, 1))
        quads = np.concatenate([corners, z], -1).reshape(-1, 3)
        base = 4 * np.arange(n)[:, None]
        faces = np.concatenate([base + np.array(triangle) for triangle in ((0, 2, 1), (0, 3, 2))])
        parts.append(Mesh(quads, faces, quads[:, :2] / unit))
    lid = np.column_stack([rings[-1][0], np.full(n, height)])
    parts.append(Mesh(lid, np.array(top, np.int64)[:, ::-1], lid[:, :2] / unit))
    return merge(parts)


def turned(profile: Sequence[tuple[float, float]]) -> Mesh:
    """A solid of revolution about the vertical axis at 0, from (radius, height) pairs, lowest first.

    Every pair of the profile is a crease; the top is closed.
    """
    parts = [_frustum(low, high) for low, high in itertools.pairwise(profile)]
    radius, height = profile[-1]
    if radius > 0:
        parts.append(_frustum((radius, height), (0.0, height)))
    return merge(parts)


def _frustum(low: tuple[float, float], high: tuple[float, float]) -> Mesh:
    turn = np.arange(TURNED_SIDES) * (2 * np.pi / TURNED_SIDES)
    circle = np.stack([np.cos(turn), np.sin(turn)], -1)
    rings = [np.column_stack([radius * circle, np.full(TURNED_SIDES, z)]) for radius, z in (low, high)]
    i = np.arange(TURNED_SIDES)
    j, up = (i + 1) % TURNED_SIDES, TURNED_SIDES
    # a ring of radius 0 is a point: no triangle has its side there
    sides = [(low[0], np.stack([i, j + up, j], -1)), (high[0], np.stack([i, i + up, j + up], -1))]
    faces = np.concatenate([triangles for radius, triangles in sides if radius > 1e-9])
    vertices = np.concatenate(rings)
    return Mesh(vertices, faces, np.zeros((len(vertices), 2)), smooth=True)


def tube(start: ArrayLike, end: ArrayLike, radii: tuple[float, float]) -> Mesh:
    """A tapered tube between two points (3,), rounded off by a ball at its end."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    axis = end - start
    length = float(np.linalg.norm(axis))
    axis /= length
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(axis, side), axis])
    ball = [(radii[1] * np.cos(a), length + radii[1] * np.sin(a)) for a in np.linspace(0, np.pi / 2, 7)]
    solid = merge([_frustum((radii[0], 0.0), (radii[1], length)), _round(ball)])
    return solid.moved(frame.T, start)


def _round(profile: Sequence[tuple[float, float]]) -> Mesh:
    """As `turned`, without creases: neighbouring rings share their vertices."""
    parts = [_frustum(low, high) for low, high in itertools.pairwise(profile)]
    rings = np.concatenate([parts[0].vertices, *(part.vertices[TURNED_SIDES:] for part in parts[1:])])
    faces = np.concatenate([part.faces + k * TURNED_SIDES for k, part in enumerate(parts)])
    return Mesh(rings, faces, np.zeros((len(rings), 2)), smooth=True)


def slab(low: Sequence[float], high: Sequence[float]) -> Mesh:
    """An upright box between two corners (3,) and its texture, once over the top from corner to corner."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)
    mesh = extruded(outline, [(0, 1, 2), (0, 2, 3)], z1 - z0, 0.0, 1.0)
    uv = (mesh.uv - (x0, y0)) / (x1 - x0, y1 - y0)
    return replace(mesh, uv=uv).moved(np.eye(3), (0.0, 0.0, z0))
