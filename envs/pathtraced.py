"""The `pathtraced/SCENE` domain: the photoreal twin, drawn by the path tracer Mitsuba 3 from a `TwinScene`.

A frame is the rectified top-down view of the scene's camera, a photo its own view (see `camera`). Labels and depth
come from the same meshes, by one ray through each pixel's centre. A state gives the same pixels however often and
wherever it is drawn with the same variant of Mitsuba (`llvm_ad_rgb`; without LLVM the slower `scalar_rgb`).

Legend: state = (agent x, agent y, block x, block y, angle); S = size pixels; light (H, W, 3) float32, linear.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import zlib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.envs.camera import UP, Film, PhotoView, RectifiedView
from sim2real_aug.envs.geometry import GOAL_POSE, block_polygons
from sim2real_aug.envs.mitsuba_variant import (
    PATH_VARIABLE,
    find_llvm,
    how_to_get_llvm,
    mitsuba_installed,
    variant,
)
from sim2real_aug.envs.randomized import inside, pixel_centres
from sim2real_aug.envs.rendering import REGIONS, Photo, Rendering
from sim2real_aug.envs.sensor import expose
from sim2real_aug.envs.solids import to_world
from sim2real_aug.envs.twin import TwinScene, load_scene
from sim2real_aug.envs.twin_world import build_world, flat, moved_meshes
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.progress import say

TABLE, BLOCK, GOAL, PUSHER = (REGIONS.index(name) for name in ("table", "block", "goal", "pusher"))
LABEL_OF_SHAPE = {"block": BLOCK, "pusher": PUSHER}  # all else is the table
FIREFLY = 1.1  # times the brightest of the eight pixels around
NEIGHBOURS = np.array([(1, 1, 1), (1, 0, 1), (1, 1, 1)], np.uint8)


@cache
def mitsuba() -> Any:
    """Mitsuba with the best variant that runs here; the main process says so when that is the slow one.

    Raises MissingExtra when it is not installed, BadInput when it is and cannot be loaded.
    """
    if not mitsuba_installed():
        raise MissingExtra("the domain pathtraced/SCENE", "pathtraced")
    llvm = find_llvm()
    if llvm is not None:
        os.environ[PATH_VARIABLE] = llvm.path
    elif multiprocessing.parent_process() is None:
        say(f"no LLVM 17 or later: path tracing takes about five times as long; {how_to_get_llvm()}")
    try:
        module = importlib.import_module("mitsuba")
    except ImportError as error:
        raise BadInput(f"mitsuba is installed but cannot be loaded ({error}); reinstall it") from error
    module.set_variant(variant())
    module.set_log_level(module.LogLevel.Error)
    return module


def set_threads(count: int) -> None:
    """How many threads the path tracer uses in this process; the pixels do not depend on it."""
    mitsuba()
    importlib.import_module("drjit").set_thread_count(count)


@lru_cache(maxsize=1)
def pathtraced_renderer(name: str, config_dir: str | Path | None = None) -> PathtracedRenderer:
    """The renderer of a scene by its name, kept until another is wanted.

    A scene takes about a second to build, but each one that is alive slows the others: Dr.Jit's calls consider
    the surfaces of all.
    """
    return PathtracedRenderer(load_scene(name, config_dir))


class PathtracedRenderer:
    """Draws states in one `TwinScene`; use it from one thread at a time."""

    def __init__(self, scene: TwinScene) -> None:
        self.scene = scene
        self._mi = mitsuba()
        self._world = build_world(self._mi, scene)
        self._parameters = self._mi.traverse(self._world)
        self._sensors: dict[tuple[Any, ...], Any] = {}

    def image(self, state: ArrayLike, size: int = 96) -> NDArray[np.uint8]:
        view = RectifiedView.of(self.scene.camera.position, size)
        place = (*view.centre, view.height)
        sensor = self._sensor(view.film, (size, size), place, view.centre, self.scene.samples.frame)
        return self._draw(state, sensor)

    def render(self, state: ArrayLike, size: int = 96) -> Rendering:
        image = self.image(state, size)
        return Rendering(image, *self._measure(size))

    def photo(self, state: ArrayLike) -> Photo:
        """The state as the scene's own camera sees it, at the scene's photo resolution."""
        camera = self.scene.camera
        view = PhotoView(camera.position, camera.look_at, camera.focal_length, *camera.resolution)
        place, samples = camera.position, self.scene.samples.photo
        sensor = self._sensor(view.film, camera.resolution, place, camera.look_at, samples)
        return Photo(self._draw(state, sensor), view.corners)

    def _draw(self, state: ArrayLike, sensor: Any) -> NDArray[np.uint8]:
        values = np.asarray(state, np.float64)
        block, pusher = moved_meshes(self.scene, values)
        for name, meshes in (("block", [block]), ("pusher", pusher)):
            vertices = np.concatenate([mesh.vertices for mesh in meshes])
            self._parameters[f"{name}.vertex_positions"] = flat(to_world(vertices))
        self._parameters.update()
        seed = zlib.crc32(values.tobytes())
        light = self._mi.render(self._world, sensor=sensor, seed=seed)
        return expose(without_fireflies(np.array(light)), self.scene.sensor, np.random.default_rng(seed))

    def _sensor(self, *view: Any) -> Any:
        """As `_make_sensor`, kept."""
        if view not in self._sensors:
            self._sensors[view] = self._make_sensor(*view)
        return self._sensors[view]

    def _make_sensor(
        self,
        film: Film,
        size: tuple[int, int],
        position: tuple[float, float, float],
        look_at: tuple[float, float],
        samples: int,
    ) -> Any:
        origin, target = to_world(position), to_world((*look_at, 0.0))
        lens: dict[str, Any] = {"type": "perspective"}
        if self.scene.camera.aperture > 0:
            distance = float(np.linalg.norm(target - origin))
            lens = {"type": "thinlens", "focus_distance": distance}
            lens["aperture_radius"] = self.scene.camera.aperture / 2
        picture = {
            "type": "hdrfilm",
            "width": film.size[0],
            "height": film.size[1],
            "crop_offset_x": film.offset[0],
            "crop_offset_y": film.offset[1],
            "crop_width": size[0],
            "crop_height": size[1],
            "pixel_format": "rgb",
            "rfilter": {"type": "box"},  # each sample counts for its own pixel: sums in a fixed order
        }
        place = self._mi.ScalarTransform4f().look_at(origin.tolist(), target.tolist(), UP.tolist())
        lens |= {"fov": film.fov, "fov_axis": "x", "to_world": place, "film": picture}
        sampler = "multijitter" if math.isqrt(samples) ** 2 == samples else "independent"
        return self._mi.load_dict({**lens, "sampler": {"type": sampler, "sample_count": samples}})

    def _measure(self, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Labels and depth (S, S) at the pixels' centres, of what was placed last."""
        origin, directions = RectifiedView.of(self.scene.camera.position, size).rays()
        distance, names = self._cast(origin, directions)
        labels = np.full(len(names), TABLE, np.uint8)
        for name, label in LABEL_OF_SHAPE.items():
            labels[names == name] = label
        if self.scene.goal.style != "none":
            points = pixel_centres(size).reshape(-1, 2)
            on_goal = np.any([inside(part, points) for part in block_polygons(GOAL_POSE)], axis=0)
            labels[(names == "table") & on_goal] = GOAL
        depth = (-distance * directions[:, 2]).astype(np.float32)
        return labels.reshape(size, size), depth.reshape(size, size)

    def _cast(
        self, origin: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
        """How far each of the rays (n, 3) goes, and the name of the shape that it meets."""
        mi, world = self._mi, self._world
        if mi.variant() == "scalar_rgb":
            hits = [world.ray_intersect(mi.Ray3f(origin.tolist(), ray.tolist())) for ray in directions]
            return np.array([hit.t for hit in hits]), np.array([hit.shape.id() for hit in hits], object)
        start = mi.Point3f(*(np.full(len(directions), value, np.float32) for value in origin))
        hit = world.ray_intersect(mi.Ray3f(start, mi.Vector3f(*directions.T.astype(np.float32))))
        names = np.full(len(directions), "", object)
        for shape in world.shapes():
            names[np.array(hit.shape == mi.ShapePtr(shape))] = shape.id()
        return np.array(hit.t, np.float64), names


def without_fireflies(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light (H, W, 3) with the rare pixels that one lucky path made brighter than all eight around set to these.

    A line or an edge has neighbours as bright as itself and stays.
    """
    brightest = cv2.dilate(light, NEIGHBOURS, borderType=cv2.BORDER_REFLECT_101)
    lucky = (light > FIREFLY * brightest).any(-1, keepdims=True)
    around = np.stack(
        [cv2.medianBlur(np.ascontiguousarray(plane), 3) for plane in np.moveaxis(light, -1, 0)], -1
    )
    return np.where(lucky, around, light)
