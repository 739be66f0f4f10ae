"""What a straight push does to the block: a quasi-static model that the expert plans with.

The block has no momentum (damping 0) and nothing rubs, so a pusher that moves a little way into the block
displaces it by one impulse along the contact's normal. With mass m, inertia I, lever arm r and penetration s:
j = s / (1/m + (r x n)^2 / I), shift = j n / m, turn = j (r x n) / I.

Legend: K candidate pushes, S distances; poses (x, y, angle) and points in window units, radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.clearance import clearance
from sim2real_aug.envs.geometry import AGENT_RADIUS, GOAL_POSE, OUTLINE, rotation

Array = NDArray[np.float64]

INERTIA = 3000.0  # of physics: twice the bar's about the block's position, 120^2/12 + 30^2/12 + 15^2 = 1500
CENTRE_OF_GRAVITY = np.array([0.0, 45.0])
CONTACT_SPACING = 9.0
DISTANCES = np.concatenate([np.arange(1.0, 17.0), np.arange(19.0, 92.0, 3.0)])

_MEAN_CORNER = OUTLINE.mean(0)
_CORNER_SPREAD = float(((OUTLINE - _MEAN_CORNER) ** 2).sum(1).mean())  # mean square, window units squared


@dataclass(frozen=True)
class Contacts:
    """Where the pusher may touch the T, in the block's frame.

    point, normal: (K, 2) on the outline, and outwards from it; reach: (K, 2) how far the touched edge goes
    on, backwards (<= 0) and forwards (>= 0) along the tangent (-normal y, normal x).
    """

    point: Array
    normal: Array
    reach: Array


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
    """Block poses (..., K, S, 3) after pushing the block at `pose` (..., 3) straight into each contact by each
    of `distances` (S,), increasing.

    NaN once the pusher has slid off the edge that it pushes.
    """
    x, y, angle = (pose[..., None, axis] + np.zeros(len(contacts.point)) for axis in range(3))
    cos, sin = np.cos(angle), np.sin(angle)
    direction = -_turn(contacts.normal, cos, sin)
    origin = np.stack([x, y], axis=-1)
    pusher = origin + _turn(contacts.point + AGENT_RADIUS * contacts.normal, cos, sin)
    centre = origin + _turn(CENTRE_OF_GRAVITY, cos, sin)
    edge = contacts.point - CENTRE_OF_GRAVITY
    poses = np.empty((*angle.shape, len(distances), 3))
    lost = np.zeros(angle.shape, bool)
    for step, advance in enumerate(np.diff(distances, prepend=0.0)):
        pusher = pusher + advance * direction
        normal = _turn(contacts.normal, cos, sin)
        offset = pusher - centre - _turn(edge, cos, sin)
        along = _cross(normal, offset)
        lost |= (along < contacts.reach[:, 0]) | (along > contacts.reach[:, 1])
        arm = _cross(normal, pusher - centre)  # the normal through the pusher's centre is the line of force
        depth = np.maximum(AGENT_RADIUS - (offset * normal).sum(-1), 0.0)
        impulse = depth / (1.0 + arm**2 / INERTIA)
        centre = centre - impulse[..., None] * normal
        angle = angle + impulse * arm / INERTIA
        cos, sin = np.cos(angle), np.sin(angle)
        poses[..., step, :2] = np.where(lost[..., None], np.nan, centre - _turn(CENTRE_OF_GRAVITY, cos, sin))
        poses[..., step, 2] = angle
    return poses


def goal_distance(poses: Array, goal: Array = GOAL_POSE) -> Array:
    """Root mean square distance (...) of the outline's corners from the goal's, for poses (..., 3).

    With m the corners' mean and s their root mean square distance from it, a turn by t about m moves them by
    s sqrt(2 - 2 cos t): the square is |shift of m|^2 + 2 s^2 (1 - cos t).
    """
    angle = poses[..., 2]
    mean = poses[..., :2] + _turn(_MEAN_CORNER, np.cos(angle), np.sin(angle))
    shift = mean - goal[:2] - rotation(goal[2]) @ _MEAN_CORNER
    return np.sqrt((shift**2).sum(-1) + 2.0 * _CORNER_SPREAD * (1.0 - np.cos(angle - goal[2])))


def _turn(points: Array, cos: Array, sin: Array) -> Array:
    x, y = points[..., 0], points[..., 1]
    return np.stack(np.broadcast_arrays(cos * x - sin * y, sin * x + cos * y), axis=-1)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
