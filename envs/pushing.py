"""What a straight push does to the block: a quasi-static model that the scripted pusher plans with.

The block has no momentum (damping 0) and nothing rubs, so a pusher that moves a little way into the block
displaces it by one impulse along the contact's normal. With mass m, inertia I, lever arm r and penetration s:
j = s / (1/m + (r x n)^2 / I), shift = j n / m, turn = j (r x n) / I.

Legend: K candidate pushes, S distances; poses (x, y, angle) and points in window units, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.geometry import AGENT_RADIUS, BAR, GOAL_POSE, STEM, rotation

Array = NDArray[np.float64]

INERTIA = 3000.0  # of physics: twice the bar's about the block's position, 120^2/12 + 30^2/12 + 15^2 = 1500
CENTRE_OF_GRAVITY = np.array([0.0, 45.0])
CONTACT_SPACING = 9.0
DISTANCES = np.concatenate([np.arange(1.0, 17.0), np.arange(19.0, 92.0, 3.0)])

# The T's outline, corner by corner.
OUTLINE = np.array(
    [(-60, 0), (60, 0), (60, 30), (15, 30), (15, 120), (-15, 120), (-15, 30), (-60, 30)], float
)


@dataclass(frozen=True)
class Contacts:
    """Where the pusher may touch the T, in the block's frame.

    point, normal: (K, 2) on the outline, and outwards from it; reach: (K, 2) how far the touched edge goes
    on, backwards (<= 0) and forwards (>= 0) along the tangent (-normal y, normal x).
    """

    point: Array
    normal: Array
    reach: Array


def clearance(points: Array) -> Array:
    """Distance (...) of points (..., 2) of the block's frame from the T, 0 inside."""
    gaps = []
    for part in (BAR, STEM):
        low, high = part.min(0), part.max(0)
        gaps.append(np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0.0), axis=-1))
    return np.minimum(*gaps)


def outline_contacts(spacing: float = CONTACT_SPACING) -> Contacts:
    """Contacts all around the T, about `spacing` apart, where the pusher has room."""
    points, normals, reaches = [], [], []
    for a, b in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        length = float(np.linalg.norm(b - a))
        tangent = (b - a) / length
        normal = np.array([tangent[1], -tangent[0]])  # outwards: the outline runs from x towards y
        for at in np.linspace(4.0, length - 4.0, max(2, round(length / spacing))):
            points.append(a + at * tangent)
            normals.append(normal)
            reaches.append((-at, length - at))
    found = Contacts(np.array(points), np.array(normals), np.array(reaches))
    free = clearance(found.point + AGENT_RADIUS * found.normal) > AGENT_RADIUS - 1e-6
    return Contacts(found.point[free], found.normal[free], found.reach[free])


def predict_pushes(pose: Array, contacts: Contacts, distances: Array = DISTANCES) -> Array:
    """Block poses (K, S, 3) after pushing straight into each contact by each of `distances` (S,), increasing.

    NaN once the pusher has slid off the edge that it pushes.
    """
    turn = rotation(pose[2])
    direction = -contacts.normal @ turn.T
    pusher = pose[:2] + (contacts.point + AGENT_RADIUS * contacts.normal) @ turn.T
    centre = np.tile(pose[:2] + turn @ CENTRE_OF_GRAVITY, (len(direction), 1))
    angle = np.full(len(direction), float(pose[2]))
    poses = np.empty((len(direction), len(distances), 3))
    lost = np.zeros(len(direction), bool)
    for step, advance in enumerate(np.diff(distances, prepend=0.0)):
        pusher = pusher + advance * direction
        cos, sin = np.cos(angle), np.sin(angle)
        normal = _turn(contacts.normal, cos, sin)
        corner = centre + _turn(contacts.point - CENTRE_OF_GRAVITY, cos, sin)
        gap = ((pusher - corner) * normal).sum(1) - AGENT_RADIUS
        along = _cross(normal, pusher - corner)
        lost |= (along < contacts.reach[:, 0]) | (along > contacts.reach[:, 1])
        arm = _cross(pusher - AGENT_RADIUS * normal - centre, -normal)
        impulse = np.maximum(-gap, 0.0) / (1.0 + arm**2 / INERTIA)
        centre = centre - impulse[:, None] * normal
        angle = angle + impulse * arm / INERTIA
        poses[:, step, :2] = centre - _turn(CENTRE_OF_GRAVITY[None], np.cos(angle), np.sin(angle))
        poses[:, step, 2] = angle
        poses[lost, step] = np.nan
    return poses


def goal_distance(poses: Array, goal: Array = GOAL_POSE) -> Array:
    """Root mean square distance (...) of the outline's corners from the goal's, for poses (..., 3)."""
    cos, sin = np.cos(poses[..., 2, None]), np.sin(poses[..., 2, None])
    corners = poses[..., None, :2] + _turn(OUTLINE, cos, sin)
    wanted = goal[:2] + OUTLINE @ rotation(goal[2]).T
    return np.sqrt(((corners - wanted) ** 2).sum(-1).mean(-1))


def _turn(points: Array, cos: Array, sin: Array) -> Array:
    x, y = points[..., 0], points[..., 1]
    return np.stack(np.broadcast_arrays(cos * x - sin * y, sin * x + cos * y), axis=-1)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
