"""Scenes of the twin: those that ship make sense, a user adds one as a file, and mistakes name their key."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sim2real_aug.envs.twin import load_scene, scene_names, scene_record
from sim2real_aug.errors import BadInput

SHIPPED = scene_names()


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A user's folder of scenes: `write(folder, name, text)` adds one that starts from `oak`."""
    (tmp_path / "scene").mkdir()
    return tmp_path


def write(folder: Path, name: str, text: str, start: str = "oak") -> None:
    (folder / "scene" / f"{name}.yaml").write_text(f"defaults: [{start}, _self_]\n{text}\n")


def test_four_scenes_are_for_development_and_four_for_claims():
    splits = [load_scene(name).split for name in SHIPPED]
    assert splits.count("development") == splits.count("claims") == 4


def test_the_scenes_differ_in_what_a_bench_differs_in():
    scenes = [load_scene(name) for name in SHIPPED]
    assert len({scene.table.material.kind for scene in scenes}) >= 6
    assert len({scene.block.material.color for scene in scenes}) == len(scenes)
    assert len({scene.camera for scene in scenes}) == len({scene.sensor for scene in scenes}) == len(scenes)
    assert len({scene.lamps for scene in scenes}) == len(scenes)
    assert sum(scene.pusher.arm is not None for scene in scenes) >= 2


@pytest.mark.parametrize("name", SHIPPED)
def test_a_scene_fits_the_physics_and_looks_down_within_ten_degrees(name: str):
    scene = load_scene(name)
    assert scene.description
    lowest = [radius for part in scene.pusher.parts for radius, height in part.profile if height < 20]
    assert max(lowest) == 15  # the physics' pusher
    x, y, height = scene.camera.position
    tilt = np.degrees(np.arctan2(np.hypot(x - scene.camera.look_at[0], y - scene.camera.look_at[1]), height))
    assert tilt <= 11


def test_a_user_adds_a_scene_as_a_file(scenes: Path):
    write(scenes, "mine", "description: my bench\nsplit: user\nblock: {height: 40}")
    scene = load_scene("mine", scenes)
    assert "mine" in scene_names(scenes)
    assert "mine" not in scene_names()
    assert (scene.description, scene.block.height, scene.block.bevel) == ("my bench", 40, 1.5)
    assert scene.table == load_scene("oak").table


def test_files_are_found_beside_the_scene_and_recorded_by_content(scenes: Path):
    write(scenes, "photo", "table: {material: {kind: image, image: top.png, scale: 300, roughness: 0.4}}")
    Image.new("RGB", (8, 8), "red").save(scenes / "scene/top.png")
    assert load_scene("photo", scenes).table.material.image == str(scenes / "scene/top.png")
    red = scene_record("photo", scenes)
    Image.new("RGB", (8, 8), "blue").save(scenes / "scene/top.png")
    blue = scene_record("photo", scenes)
    assert red["table"]["material"]["image"] != blue["table"]["material"]["image"]
    assert str(scenes) not in str(red)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blok: {height: 3}", "scene 'bad': unknown key 'blok'. Did you mean 'block'"),
        ("block: {heigth: 3}", "unknown block key 'heigth'. Did you mean 'height'"),
        (
            "block: {material: {kind: wod}}",
            "block.material: unknown material kind 'wod'. Did you mean 'wood'",
        ),
        ("block: {height: tall}", "block.height must be a number; got 'tall'"),
        ("block: {height: 10, bevel: 9}", "block: bevel must be at most half of the height"),
        ("lamps: [{position: [0, 0, 900], size: [5]}]", r"lamps\[0\].*"),
        ("camera: {position: [0, 0, 100]}", "camera.position must be 50 above all it sees"),
        ("samples: {frame: 20}", "samples: frame must be a power of two"),
        ("goal: {style: dotted}", "goal: unknown goal style 'dotted'"),
        ("table: {x: [10, 600]}", "table: x must reach over the workspace, 0..512"),
        ("camera: {aperture: -3}", "camera: aperture must not be negative"),
        ("camera: {look_at: [9000, 9000]}", "camera: position and look_at must be nearer"),
        ("surroundings: {strength: -1}", "surroundings: strength must not be negative"),
        ("goal: {opacity: 7}", "goal: opacity must lie in 0..1"),
        ("surroundings: {hdri: sky.exr}", "hdri: there is no file .*sky.exr"),
    ],
)
def test_a_mistake_names_the_scene_and_the_key(scenes: Path, text: str, message: str):
    write(scenes, "bad", text)
    with pytest.raises(BadInput, match=message) as error:
        load_scene("bad", scenes)
    assert str(error.value).startswith("scene 'bad'")
    assert "\n" not in str(error.value)


def test_an_unknown_scene_names_the_nearest(scenes: Path):
    write(scenes, "kitchen", "split: user")
    with pytest.raises(
        BadInput, match=r"unknown scene 'pathtraced/kichen'. Did you mean 'pathtraced/kitchen'"
    ):
        load_scene("kichen", scenes)
