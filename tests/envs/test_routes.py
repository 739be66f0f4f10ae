"""Ways around the block: clear of it, no longer than need be, by hand and beside dense sampling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sim2real_aug.envs.clearance import clearance, stretch_clearance
from sim2real_aug.envs.geometry import rotation
from sim2real_aug.envs.routes import MARGIN, RoadMap, within_walls

PLACES = np.array([(0.0, -24.0), (0.0, 144.0), (60.0, 60.0), (-60.0, 60.0), (84.0, 15.0)])


def test_clearance_by_hand() -> None:
    # Beside the bar; off its corner by (3, 4); in the nook, 10 from the stem and 7 from the bar; inside.
    points = np.array([(70.0, 15.0), (63.0, -4.0), (25.0, 37.0), (0.0, 60.0)])
    np.testing.assert_allclose(clearance(points), [10, 5, 7, 0])


def test_clearance_of_a_stretch_is_that_of_its_nearest_point() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-150, 250, (2, 300, 2))
    shares = np.linspace(0, 1, 2001)[:, None, None]
    sampled = clearance(a + shares * (b - a)).min(0)
    found = stretch_clearance(a, b)
    assert (found <= sampled + 1e-9).all()
    np.testing.assert_allclose(found, sampled, atol=0.2)
    assert (found == 0).sum() > 20
    straight_up = stretch_clearance(np.array([70.0, -50.0]), np.array([70.0, 200.0]))
    assert straight_up == pytest.approx(10.0)


@pytest.mark.parametrize("angle", [0.0, 0.7, 3.0])
def test_ways_keep_clear_of_the_block(angle: float) -> None:
    pose, rng = np.array([256.0, 240.0, angle]), np.random.default_rng(2)
    roads, turn = RoadMap(PLACES), rotation(angle)
    for _ in range(20):
        agent = rng.uniform(30, 480, 2)
        local = (agent - pose[:2]) @ turn
        if clearance(local) < 15 + MARGIN:
            continue
        routes = roads.routes(agent, pose)
        for place in range(len(PLACES)):
            way = np.vstack([local, routes.bends(place), PLACES[place]])
            length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
            assert length == pytest.approx(routes.length[place])
            for a, b in itertools.pairwise(way):
                points = a + np.linspace(0, 1, 200)[:, None] * (b - a)
                assert clearance(points).min() >= 15 + MARGIN - 1e-6


def test_a_way_is_straight_where_it_can_be() -> None:
    routes = RoadMap(PLACES).routes(np.array([256.0, 100.0]), np.array([256.0, 200.0, 0.0]))
    assert routes.length[0] == pytest.approx(76.0)  # to (256, 176), above the bar
    assert len(routes.bends(0)) == 0
    # To the stem's other end: past the bar's corner and the stem's, whichever side.
    by_hand = math.dist((0, -100), (84, -24)) + math.dist((84, -24), (84, 54)) + math.dist((84, 54), (39, 144))
    assert routes.length[1] == pytest.approx(by_hand + 39.0, rel=0.05)
    assert routes.length[1] <= by_hand + 39.0 + 1e-9


def test_ways_between_places_are_as_long_as_ways_from_there() -> None:
    roads, pose = RoadMap(PLACES), np.array([256.0, 200.0, 0.0])
    for place, start in enumerate(PLACES):
        np.testing.assert_allclose(
            roads.between_places[place], roads.routes(pose[:2] + start, pose).length, atol=1e-9
        )


def test_a_way_does_not_leave_the_window() -> None:
    pose = np.array([440.0, 200.0, 0.0])  # no room to pass on the right
    routes = RoadMap(PLACES).routes(np.array([440.0, 100.0]), pose)
    bends = routes.bends(1) + pose[:2]
    assert within_walls(bends).all()
    assert (bends[:, 0] < 440).all()


def test_a_pusher_at_the_block_may_leave() -> None:
    pose = np.array([256.0, 200.0, 0.0])
    routes = RoadMap(PLACES).routes(np.array([256.0, 185.2]), pose)  # its edge touches the bar's
    assert np.isfinite(routes.length).all()
