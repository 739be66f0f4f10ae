"""Meshes: closed where they must be, facing outwards, and of the size that was asked for."""

import numpy as np
import pytest

from sim2real_aug.envs.geometry import BLOCK_AREA, OUTLINE
from sim2real_aug.envs.solids import Mesh, extruded, inset, merge, slab, to_world, tube, turned
from sim2real_aug.envs.twin_world import OUTLINE_TRIANGLES

HEIGHT, BEVEL = 28.0, 2.0


def volume(mesh: Mesh) -> float:
    """By the divergence theorem, in the world's frame: positive when the faces look outwards."""
    a, b, c = to_world(mesh.vertices)[mesh.faces].transpose(1, 0, 2)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def test_the_world_is_right_handed_with_the_workspace_in_the_middle():
    right, away, up = (
        to_world(p) - to_world((256, 256, 0)) for p in ((257, 256, 0), (256, 255, 0), (256, 256, 1))
    )
    np.testing.assert_array_equal(to_world((256, 256, 0)), [0, 0, 0])
    np.testing.assert_array_equal(np.cross(right, away), up)


def test_an_inset_outline_is_narrower_by_twice_the_inset_everywhere():
    # The T of bar 120 x 30 and stem 30 x 90 becomes bar 116 x 26 and stem 26 x 90.
    expected = [(-58, 2), (58, 2), (58, 28), (13, 28), (13, 118), (-13, 118), (-13, 28), (-58, 28)]
    np.testing.assert_allclose(inset(OUTLINE, 2.0), expected)


def test_the_block_has_the_volume_of_the_t_less_its_chamfer():
    mesh = extruded(OUTLINE, OUTLINE_TRIANGLES, HEIGHT, BEVEL, 128.0)
    # It lacks its bottom, which lies at height 0 and so adds nothing. Chamfer: a layer 2 high whose section goes
    # from 6300 to 116 * 26 + 26 * 90 = 5356 as a square of the height: mean = (A + sqrt-free Simpson rule).
    middle = 118 * 28 + 28 * 90
    chamfered = BEVEL * (BLOCK_AREA + 4 * middle + 5356) / 6
    assert volume(mesh) == pytest.approx(BLOCK_AREA * (HEIGHT - BEVEL) + chamfered)


def test_a_turned_cone_and_cylinder_have_the_textbooks_volume():
    cylinder, cone = turned([(15, 0), (15, 100)]), turned([(30, 0), (0, 90)])
    polygon = 48 / (2 * np.pi) * np.sin(2 * np.pi / 48)  # a circle of 48 corners has a smaller area
    assert volume(cylinder) == pytest.approx(polygon * np.pi * 15**2 * 100)
    assert volume(cone) == pytest.approx(polygon * np.pi * 30**2 * 90 / 3)


@pytest.mark.parametrize("end", [(0, 0, 100), (70, -20, 60), (0, 50, 0), (-30, 10, -80)])
def test_a_tube_lies_between_its_ends_and_looks_outwards(end: tuple[float, float, float]):
    start = np.array([10.0, 20.0, 30.0])
    mesh = tube(start, start + end, (5.0, 8.0))
    axis = np.array(end) / np.linalg.norm(end)
    along = (mesh.vertices - start) @ axis
    across = np.linalg.norm((mesh.vertices - start) - along[:, None] * axis, axis=1)
    assert along.min() == pytest.approx(0, abs=1e-9)
    assert along.max() == pytest.approx(np.linalg.norm(end) + 8)
    assert across.max() == pytest.approx(8)
    centred = Mesh(mesh.vertices - start, mesh.faces, mesh.uv)  # its open end then adds nothing
    assert volume(centred) > 0


def test_a_slab_shows_its_texture_once_from_corner_to_corner():
    mesh = slab((-10, 20, -4), (90, 70, 0))
    top = mesh.vertices[:, 2] == 0
    np.testing.assert_allclose(mesh.vertices[top].min(0), [-10, 20, 0])
    np.testing.assert_allclose(mesh.uv[(mesh.vertices == (90, 70, 0)).all(1)], 1.0)
    np.testing.assert_allclose(mesh.uv[(mesh.vertices == (-10, 20, 0)).all(1)], 0.0)


def test_no_mesh_has_a_face_without_area():
    shapes = [
        turned([(15, 0), (15, 100)]),
        tube((0, 0, 0), (3, 4, 50), (5, 8)),
        turned([(0, 0), (9, 5), (0, 20)]),
    ]
    mesh = merge(shapes)
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).min() > 1e-6
