"""The photoreal twin in Mitsuba's terms: meshes, materials, lamps and surroundings of a `TwinScene`.

Legend: meshes are in window units (see `solids`); Mitsuba's world has the workspace's middle at 0 and y up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.geometry import GOAL_POSE, OUTLINE, WINDOW_SIZE, rotation, to_window
from sim2real_aug.envs.materials import Color, Material, Shading, paint
from sim2real_aug.envs.solids import Mesh, extruded, inset, merge, slab, to_world, tube, turned
from sim2real_aug.envs.twin import Arm, Goal, Lamp, Pusher, Surroundings, Table, TwinScene
from sim2real_aug.errors import BadInput

OUTLINE_TRIANGLES = ((0, 1, 2), (0, 2, 7), (3, 4, 5), (3, 5, 6))  # corners of the T's outline: bar, stem
BLOCK_UNIT = 128.0  # window units that the block's sheet spans, about its position
BLOCK_PIXELS = 4.0  # a window unit
TEXTURE_PIXELS = 1600  # along the longer side of table and ground
GROUND_REACH = 2500.0
FIXED_POINT_BITS = 4

Floats = NDArray[np.float32]


def build_world(mi: Any, scene: TwinScene) -> Any:
    """The scene with block, pusher and arm somewhere; `moved_meshes` says where a state has them."""
    block, pusher = moved_meshes(scene, np.zeros(5))
    world: dict[str, Any] = {
        "block": shape(mi, "block", block, textured(mi, scene.block.material)),
        "pusher": _many_colored(mi, "pusher", pusher, pusher_materials(scene.pusher)),
    }
    world["table"] = _table(mi, scene.table, scene.goal)
    world["ground"] = _ground(mi, scene.ground, -scene.table.thickness)
    world["surroundings"] = _surroundings(mi, scene.surroundings)
    world |= {f"lamp{index}": _lamp(mi, lamp) for index, lamp in enumerate(scene.lamps)}
    depth = scene.samples.bounces + 1
    world["integrator"] = {"type": "path", "max_depth": depth, "hide_emitters": True}
    return mi.load_dict({"type": "scene", **world}, optimize=False)


def moved_meshes(scene: TwinScene, state: NDArray[np.float64]) -> tuple[Mesh, list[Mesh]]:
    """The block, and the pusher's parts and its arm's links, where `state` (5,) has them."""
    turn = np.eye(3)
    turn[:2, :2] = rotation(state[4])
    block = _block(scene.block.height, scene.block.bevel).moved(turn, (state[2], state[3], 0.0))
    parts = [_turned(part.profile).moved(np.eye(3), (state[0], state[1], 0.0)) for part in scene.pusher.parts]
    links = [] if scene.pusher.arm is None else _arm(scene.pusher.arm, state[:2])
    return block, [*parts, *links]


def flat(values: NDArray[np.float64]) -> Floats:
    """As Mitsuba stores points: one after the other."""
    return np.ascontiguousarray(values, np.float32).ravel()


@lru_cache(maxsize=8)
def _block(height: float, bevel: float) -> Mesh:
    return extruded(OUTLINE, OUTLINE_TRIANGLES, height, bevel, BLOCK_UNIT)


_turned = lru_cache(maxsize=32)(turned)  # a part's shape is the same in every frame


def _arm(arm: Arm, agent: NDArray[np.float64]) -> list[Mesh]:
    """The arm's links when the pusher stands at `agent` (2,), one mesh each."""
    meshes, start = [], np.array([*agent, arm.wrist])
    for link in arm.links:
        end = np.array([*(agent + link.share * (np.asarray(arm.shoulder) - agent)), link.height])
        meshes.append(tube(start, end, link.radii))
        start = end
    return meshes


def shape(mi: Any, name: str, mesh: Mesh, surface: dict[str, Any]) -> Any:
    """A mesh of that name with a surface."""
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(surface)
    made = mi.Mesh(
        name,
        len(mesh.vertices),
        len(mesh.faces),
        props=properties,
        has_vertex_normals=mesh.smooth,
        has_vertex_texcoords=True,
    )
    values = mi.traverse(made)
    values["vertex_positions"] = flat(to_world(mesh.vertices))
    values["faces"] = np.ascontiguousarray(mesh.faces, np.uint32).ravel()
    values["vertex_texcoords"] = flat(mesh.uv * (1, -1) + (0, 1))  # Mitsuba's v runs up a picture, ours down
    values.update()
    return made


def _many_colored(mi: Any, name: str, meshes: Sequence[Mesh], materials: Sequence[Material]) -> Any:
    """One mesh of many in even materials, which a palette keeps in a row: one surface is faster than many."""
    places = (np.arange(len(meshes)) + 0.5) / len(meshes)
    colored = [
        replace(mesh, uv=np.broadcast_to((place, 0.5), mesh.uv.shape))
        for mesh, place in zip(meshes, places, strict=True)
    ]
    surface = {
        "type": "principled",
        "base_color": _palette(mi, [linear(material.color) for material in materials]),
        "roughness": _palette(mi, [[material.shading.roughness] for material in materials]),
        "metallic": _palette(mi, [[material.shading.metallic] for material in materials]),
    }
    return shape(mi, name, merge(colored), surface)


def _palette(mi: Any, values: Sequence[ArrayLike]) -> dict[str, Any]:
    """A texture that holds one value after the other, from u = 0 to 1."""
    bitmap = mi.Bitmap(np.array(values, np.float32)[None])
    return {"type": "bitmap", "bitmap": bitmap, "raw": True, "filter_type": "nearest"}


def linear(color: Color) -> NDArray[np.float64]:
    """sRGB values → linear ones (IEC 61966-2-1)."""
    values = np.asarray(color)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def pusher_materials(pusher: Pusher) -> list[Material]:
    """One for each part of the pusher's mesh."""
    links = () if pusher.arm is None else pusher.arm.links
    return [*(part.material for part in pusher.parts), *(link.material for link in links)]


def textured(mi: Any, material: Material) -> dict[str, Any]:
    """A surface with the material's pattern, `BLOCK_UNIT` window units a turn of its texture."""
    sheet = paint(material, BLOCK_UNIT, BLOCK_UNIT, BLOCK_PIXELS)
    return _principled(_bitmap(mi, sheet), material.shading)


def _principled(color: dict[str, Any], shading: Shading) -> dict[str, Any]:
    return {"type": "principled", "base_color": color, **asdict(shading)}


def _bitmap(mi: Any, sheet: NDArray[np.uint8]) -> dict[str, Any]:
    """A sheet as a texture whose first row lies at v = 0: Mitsuba's v runs up a picture."""
    return {"type": "bitmap", "bitmap": mi.Bitmap(np.ascontiguousarray(sheet[::-1])), "wrap_mode": "mirror"}


def _rgb(values: ArrayLike) -> dict[str, Any]:
    return {"type": "rgb", "value": np.asarray(values, np.float64).tolist()}


def _table(mi: Any, table: Table, goal: Goal) -> Any:
    low, high = np.array([table.x[0], table.y[0]]), np.array([table.x[1], table.y[1]])
    unit = TEXTURE_PIXELS / float((high - low).max())
    width, height = (high - low).tolist()
    sheet = paint(table.material, width, height, unit)
    mark_goal(sheet, goal, low, unit)
    mesh = slab((*low, -table.thickness), (*high, 0.0))
    return shape(mi, "table", mesh, _principled(_bitmap(mi, sheet), table.material.shading))


def mark_goal(sheet: NDArray[np.uint8], goal: Goal, low: NDArray[np.float64], unit: float) -> None:
    """Paint the goal's marker, in place, on a sheet whose corner lies at `low` and has `unit` pixels a unit."""
    if goal.style == "none":
        return
    corners = OUTLINE if goal.style == "filled" else inset(OUTLINE, goal.width / 2)
    pixels = (to_window(corners, GOAL_POSE) - low) * unit - 0.5
    fixed = np.rint(pixels * (1 << FIXED_POINT_BITS)).astype(np.int32)
    mask = np.zeros(sheet.shape[:2], np.uint8)
    if goal.style == "filled":
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, FIXED_POINT_BITS)
    else:
        thickness = max(1, round(goal.width * unit))
        cv2.polylines(mask, [fixed], True, 255, thickness, cv2.LINE_AA, FIXED_POINT_BITS)
    alpha = goal.opacity * mask[..., None].astype(np.float32) / 255
    sheet[:] = np.rint(sheet + alpha * (255 * np.asarray(goal.color, np.float32) - sheet))


def _ground(mi: Any, material: Material, level: float) -> Any:
    low, high = -GROUND_REACH, WINDOW_SIZE + GROUND_REACH
    sheet = paint(material, high - low, high - low, TEXTURE_PIXELS / (high - low))
    mesh = slab((low, low, level - 10), (high, high, level))
    return shape(mi, "ground", mesh, _principled(_bitmap(mi, sheet), material.shading))


def _surroundings(mi: Any, light: Surroundings) -> dict[str, Any]:
    tint = np.asarray(light.tint, np.float32)
    if light.hdri is None:
        return {"type": "constant", "radiance": _rgb(light.strength * tint)}
    try:
        values = np.array(
            mi.Bitmap(light.hdri).convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, False)
        )
    except (RuntimeError, OSError) as error:
        raise BadInput(f"surroundings.hdri {light.hdri} cannot be read as an .exr or .hdr picture") from error
    upper = float(values[: max(1, len(values) // 2)].mean())
    if not upper > 0:
        raise BadInput(f"surroundings.hdri {light.hdri}: its upper half is dark; there is no light to scale")
    turn = mi.ScalarTransform4f().rotate([0, 0, 1], light.rotation)
    upright = turn @ mi.ScalarTransform4f().rotate([1, 0, 0], 90)  # Mitsuba's panoramas have y up
    return {
        "type": "envmap",
        "bitmap": mi.Bitmap(values * (light.strength / upper) * tint),
        "to_world": upright,
    }


def _lamp(mi: Any, lamp: Lamp) -> dict[str, Any]:
    """A rectangle that lights a white sheet in the workspace's middle with `strength` times full exposure.

    Irradiance of a small source: E = L A cos(at the lamp) cos(at the table) / d²; the sheet returns E / pi.
    """
    position, aim = to_world(lamp.position), to_world((*lamp.look_at, 0.0))
    axis = (aim - position) / np.linalg.norm(aim - position)
    d = float(np.linalg.norm(position))
    cosines = float(-position @ axis) / d * float(position[2]) / d
    radiance = lamp.strength * math.pi * d * d / (lamp.size[0] * lamp.size[1] * max(cosines, 0.05))
    up = [0, 1, 0] if abs(axis[1]) < 0.9 else [1, 0, 0]
    place = mi.ScalarTransform4f().look_at(position.tolist(), aim.tolist(), up)
    return {
        "type": "rectangle",
        "to_world": place @ mi.ScalarTransform4f().scale([lamp.size[0] / 2, lamp.size[1] / 2, 1.0]),
        "emitter": {"type": "area", "radiance": _rgb(radiance * np.asarray(lamp.tint))},
    }
