"""Exact geometry: the depth scale by hand, stores that hold it, stores that are drawn again."""

from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.data.geometry import FrameGeometry, find_geometry, stored_geometry
from sim2real_aug.data.regions import object_phrase, relative_depth
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.writer import ReplayBufferWriter
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.errors import BadInput

REDRAW = "sim2real_aug.envs.redrawing.redraw_geometry"
LABELS = np.array([[[0, 1], [3, 2]]], np.uint8)


def write(path: Path, **arrays: np.ndarray) -> ReplayBuffer:
    with ReplayBufferWriter.create(path) as writer:
        writer.append_episode({"img": np.full((3, 2, 2, 3), 7, np.uint8), **arrays})
    return ReplayBuffer.open(path)


def test_the_depth_scale_knows_no_unit() -> None:
    depth = np.array([[[1.0, 0.96], [0.94, 1.0]]], np.float32)
    expected = [[[1.0, 0.5], [0.25, 1.0]]]
    for unit in (1.0, 1000.0, 0.7):  # of the camera's height, millimetres, metres
        np.testing.assert_allclose(relative_depth(unit * depth, LABELS), expected, atol=1e-5)


def test_without_a_block_the_table_is_1_and_what_stands_on_it_0() -> None:
    depth = np.array([[[1000.0, 1000.0], [940.0, 1000.0]]], np.float32)
    scaled = relative_depth(depth, np.array([[[0, 0], [3, 2]]], np.uint8))
    np.testing.assert_array_equal(scaled, [[[1.0, 1.0], [0.0, 1.0]]])


def test_resizing_takes_the_nearest_centre() -> None:
    labels = np.arange(8, dtype=np.uint8).reshape(1, 2, 4) % 4  # rows 0 1 2 3
    geometry = FrameGeometry(labels, labels.astype(np.float32))
    np.testing.assert_array_equal(geometry.resized(2).labels, [[[1, 3], [1, 3]]])
    assert geometry.resized(8).depth.shape == (1, 8, 8)


def test_a_store_that_holds_masks_and_depth(tmp_path: Path) -> None:
    depth = np.array([[1000.0, 960.0], [940.0, 1000.0]], np.float32)
    buffer = write(tmp_path / "s.zarr", mask=LABELS.repeat(3, 0), depth=np.stack([depth, 2 * depth, depth]))
    read = stored_geometry(buffer)
    assert read is not None
    geometry = read(np.array([2, 1]))
    np.testing.assert_array_equal(geometry.labels, LABELS.repeat(2, 0))
    np.testing.assert_allclose(geometry.depth, [[[1.0, 0.5], [0.25, 1.0]]] * 2, atol=1e-5)


@pytest.mark.parametrize(
    ("label", "distance", "message"), [(4, 1.0, r"data/mask holds 4 to 4"), (0, -1.0, "above 0; got -1")]
)
def test_labels_and_distances_that_make_no_sense(
    tmp_path: Path, label: int, distance: float, message: str
) -> None:
    mask, depth = np.full((3, 2, 2), label, np.uint8), np.full((3, 2, 2), distance, np.float32)
    with pytest.raises(BadInput, match=message):
        stored_geometry(write(tmp_path / "s.zarr", mask=mask, depth=depth))


def test_arrays_of_other_shape_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask, depth = np.zeros((3, 2), np.uint8), np.ones((3, 2, 2), np.float32)
    assert stored_geometry(write(tmp_path / "s.zarr", mask=mask, depth=depth)) is None
    assert "data/mask is (3, 2)" in capsys.readouterr().err


@pytest.mark.parametrize("domain", ["flat", "randomized", ["flat", "randomized/3"]])
def test_states_of_a_simulated_store_are_drawn_again(tmp_path: Path, domain: str | list[str]) -> None:
    settings = {"episodes": 2, "max_steps": 3, "workers": 1, "size": 48, "seed": 4, "domain": domain}
    plain, exact = tmp_path / "plain.zarr", tmp_path / "exact.zarr"
    simulate(plain, SimulateSettings(**settings))
    simulate(exact, SimulateSettings(**settings, geometry=True))
    numbers = np.array([4, 0, 5])
    stored, drawn = (find_geometry(ReplayBuffer.open(path), REDRAW) for path in (exact, plain))
    assert stored_geometry(ReplayBuffer.open(plain)) is None
    assert stored is not None
    assert drawn is not None
    np.testing.assert_array_equal(stored(numbers).labels, drawn(numbers).labels)
    np.testing.assert_allclose(stored(numbers).depth, drawn(numbers).depth, atol=1e-6)


def test_stored_geometry_is_the_renderers(tmp_path: Path) -> None:
    simulate(
        tmp_path / "s.zarr", SimulateSettings(episodes=1, max_steps=2, workers=1, size=32, geometry=True)
    )
    buffer = ReplayBuffer.open(tmp_path / "s.zarr")
    drawn = make_renderer("flat").render(buffer.read("state")[1], 32)
    np.testing.assert_array_equal(buffer.read("mask")[1], drawn.labels)
    np.testing.assert_array_equal(buffer.read("depth")[1], drawn.depth)
    with pytest.raises(BadInput, match="another geometry"):
        simulate(tmp_path / "s.zarr", SimulateSettings(episodes=2, max_steps=2, workers=1, size=32))
    again = tmp_path / "again.zarr"
    simulate(
        again, SimulateSettings(source=f"replay:{tmp_path / 's.zarr'}", domain="randomized/1", workers=1)
    )
    assert not {"mask", "depth"} & set(ReplayBuffer.open(again).names), "of another domain: not carried over"


def test_frames_that_are_not_what_the_state_says_are_left_to_the_judge(tmp_path: Path) -> None:
    state = np.tile(np.array([100, 100, 250, 250, 1], np.float32), (3, 1))
    frames = np.stack([make_renderer("flat").image(s, 16) for s in state])
    assert find_geometry(write(tmp_path / "a.zarr", img=frames, state=state), REDRAW) is not None
    assert find_geometry(write(tmp_path / "b.zarr", img=frames, state=state + 20), REDRAW) is None
    assert find_geometry(write(tmp_path / "c.zarr", img=frames, state=state[:, :4]), REDRAW) is None
    assert find_geometry(write(tmp_path / "d.zarr", img=frames, state=state), None) is None


def test_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"dotted name of a function; got 'no\.where'"):
        find_geometry(write(tmp_path / "s.zarr"), "no.where")


def test_the_object_is_the_block_where_it_is_asked_for() -> None:
    assert object_phrase(["table", "T-shape"]) == "T-shape"
    assert object_phrase(["table", "mug", "plate"]) == "mug"
    assert object_phrase(["table", "pusher"]) is None, "an outline is the block's"
    assert object_phrase(["the table", "the T-shaped block."]) == "the T-shaped block."
