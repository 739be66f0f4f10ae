"""Where episodes start: gym-pusht's starts, clear ones, and ranges that make no sense."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.envs.coverage import area
from sim2real_aug.envs.geometry import block_polygons
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.starts import CLASSIC, StartDistribution, is_clear, load_start
from sim2real_aug.errors import BadInput


def test_classic_is_the_default() -> None:
    assert load_start("classic") == CLASSIC


def test_classic_draws_what_gym_pusht_draws() -> None:
    # gym_pusht/envs/pusht.py, reset(): five draws of one generator, in this order.
    rng = np.random.default_rng(11)
    drawn = [rng.integers(50, 450), rng.integers(50, 450), rng.integers(100, 400), rng.integers(100, 400)]
    expected = (*map(float, drawn), rng.uniform(-math.pi, math.pi))
    assert CLASSIC.sample(np.random.default_rng(11)) == expected


@pytest.mark.parametrize("name", ["wide", "near_goal"])
def test_starts_lie_in_their_ranges_and_clear(name: str) -> None:
    start = load_start(name)
    spans = (start.agent_x, start.agent_y, start.block_x, start.block_y, start.angle)
    env = PushTEnv(start=start)
    states = []
    for seed in range(60):
        state, _ = env.reset(seed=seed)
        states.append([*state[:4], math.remainder(state[4], 2 * math.pi)])
        for value, (low, high) in zip(states[-1], spans, strict=True):
            assert low - 1e-6 <= value <= high + 1e-6
        assert is_clear(state)
    covered = np.ptp(states, axis=0) / [high - low for low, high in spans]
    assert covered.min() > 0.75, "the ranges are not used"


def test_clear_by_hand() -> None:
    # The block at (256, 200), angle 0: its bar spans x 196..316, y 200..230, its stem x 241..271 down to 320.
    def at(x: float, y: float) -> bool:
        return is_clear((x, y, 256.0, 200.0, 0.0))

    assert at(256, 184.9)
    assert not at(256, 185.1)  # 15 above the bar's edge
    assert at(225.9, 300)
    assert not at(226.1, 300)  # 15 left of the stem
    assert not at(21.9, 400), "the pusher in the wall"
    assert at(22.1, 400)
    assert not is_clear((400.0, 400.0, 66.9, 200.0, 0.0)), "the bar in the wall: 66.9 - 60 < 7"
    assert is_clear((400.0, 400.0, 67.1, 200.0, 0.0))


def test_the_block_lies_as_drawn_unless_legacy() -> None:
    ranges = {"block_x": (300, 301), "block_y": (200, 201), "angle": (1.0, 1.0 + 1e-9)}
    exact, _ = PushTEnv(start=StartDistribution(**ranges, legacy=False)).reset(seed=0)
    np.testing.assert_allclose(exact[2:], [300, 200, 1], atol=1e-6)
    # Turned by 1 rad about (300, 245): the position moves from (0, -45) to (45 sin 1, -45 cos 1) from there.
    legacy, _ = PushTEnv(start=StartDistribution(**ranges)).reset(seed=0)
    np.testing.assert_allclose(legacy[2:], [300 + 45 * math.sin(1), 245 - 45 * math.cos(1), 1], atol=1e-6)


def test_near_goal_is_near_the_goal() -> None:
    env = PushTEnv(start=load_start("near_goal"))
    near = [env.reset(seed=seed)[1]["coverage"] for seed in range(40)]
    assert min(near) > 0.2
    assert 0.4 < np.mean(near) < 0.9
    assert sum(area(part.tolist()) for part in block_polygons(env.state[2:])) == pytest.approx(6300)


def test_a_users_own_distribution(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start/corner.yaml").write_text("agent_x: [30, 60]\nlegacy: false\n")
    corner = StartDistribution(agent_x=(30, 60), legacy=False)
    assert load_start("corner", tmp_path) == corner
    assert PushTEnv(start="corner", config_dir=tmp_path).start == corner
    with pytest.raises(BadInput, match=r"unknown start 'near_gaol'\. Did you mean 'near_goal'"):
        load_start("near_gaol")


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"agent_x": (60, 50), "block_y": (0, 600)}, r"^agent_x must be .* got \(60, 50\); block_y must"),
        ({"agent_y": (10.5, 20)}, "whole numbers"),
        ({"angle": (0.0, 7.0)}, r"angle must be .*-2 pi..2 pi"),
        ({"block_x": (100,)}, "block_x must"),
    ],
)
def test_wrong_ranges_are_listed(ranges: dict[str, tuple[float, ...]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        StartDistribution(**ranges)  # type: ignore[arg-type]


def test_ranges_without_a_clear_start_are_refused() -> None:
    corner = StartDistribution(agent_x=(8, 12), agent_y=(8, 12), legacy=False)
    with pytest.raises(BadInput, match="no clear start"):
        corner.sample(np.random.default_rng(0))
