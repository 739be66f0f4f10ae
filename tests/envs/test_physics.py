"""Physics beside gym-pusht, and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sim2real_aug.envs.physics import PushTPhysics, valid_state
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.errors import BadInput


@pytest.mark.parametrize("start", ["observed", "seeded"])
def test_same_as_gym_pusht(gym_pusht_episodes: list[dict[str, Any]], start: str) -> None:
    """Twenty sequences of a hundred actions, from gym-pusht's observed start, and from the same seed."""
    env = PushTEnv()
    contacts = 0
    for episode in gym_pusht_episodes:
        if start == "observed":
            state, _ = env.reset(options={"reset_to_state": episode["start"]})
        else:
            state, _ = env.reset(seed=episode["seed"])
        np.testing.assert_allclose(state, episode["start"], rtol=0, atol=1e-9)
        for action, pose, reward in zip(
            episode["actions"], episode["poses"], episode["rewards"], strict=True
        ):
            _, ours, _, _, info = env.step(action)
            difference = info["block_pose"] - pose
            assert np.abs(difference[:2]).max() < 1e-3
            assert abs(math.remainder(difference[2], 2 * math.pi)) < 1e-5
            assert ours == pytest.approx(reward, abs=1e-9)
        contacts += episode["contacts"] > 0
    assert contacts == len(gym_pusht_episodes) == 20, "every sequence must push the block, or it shows nothing"


@pytest.mark.parametrize("seed", range(30))
def test_reset_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = np.array([*rng.uniform(20, 490, 4), rng.uniform(0, 2 * math.pi)])  # overlaps among them
    physics = PushTPhysics()
    physics.reset(asked.tolist())
    np.testing.assert_allclose(physics.state, asked, rtol=0, atol=1e-11)
    assert physics.n_contacts == 0
    np.testing.assert_array_equal(physics.agent_velocity, [0, 0])


def test_legacy_start_is_the_documented_one() -> None:
    # gym-pusht's documentation: [0, 10, 20, 30, 1] becomes [0, 10, 57.866196, 50.686398, 1].
    physics = PushTPhysics()
    physics.reset_legacy((0.0, 10.0, 20.0, 30.0, 1.0))
    np.testing.assert_allclose(physics.state, [0, 10, 57.866196, 50.686398, 1], atol=1e-6)


def test_pusher_follows_its_law_of_motion() -> None:
    # v <- v + 0.01 (100 (target - x) - 20 v), x <- x + 0.01 v, as one matrix on (x - target, v).
    physics = PushTPhysics()
    physics.reset((100.0, 100.0, 400.0, 400.0, 0.0))
    physics.step((200.0, 50.0))
    substep = np.array([[1 - 0.01, 0.01 * 0.8], [-1.0, 0.8]])
    offset, velocity = np.linalg.matrix_power(substep, 10) @ np.array([[-100.0, 50.0], [0.0, 0.0]])
    np.testing.assert_allclose(physics.agent_position, np.array([200.0, 50.0]) + offset, atol=1e-9)
    np.testing.assert_allclose(physics.agent_velocity, velocity, atol=1e-9)


def test_block_moves_only_while_it_is_pushed() -> None:
    physics = PushTPhysics()
    physics.reset((256.0, 200.0, 256.0, 256.0, 0.0))
    physics.step((256.0, 200.0))
    assert physics.n_contacts == 0
    np.testing.assert_array_equal(physics.block_pose, [256, 256, 0])
    for _ in range(10):
        physics.step((256.0, 270.0))
    # Pushed in the middle of the bar's edge: straight down, its edge at the pusher's.
    x, y, angle = physics.block_pose
    assert (x, angle) == (pytest.approx(256, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert y == pytest.approx(physics.agent_position[1] + 15, abs=0.2)
    for _ in range(10):
        physics.step((256.0, 100.0))
    assert physics.block_pose[1] == pytest.approx(y, abs=0.2)


def test_walls_hold_the_block() -> None:
    physics = PushTPhysics()
    physics.reset((256.0, 200.0, 256.0, 256.0, math.pi / 2))
    for _ in range(40):
        physics.step((20.0, 256.0))
    for _ in range(60):
        physics.step((480.0, 256.0))
    x, y = physics.block_pose[:2]
    assert 5 <= x <= 506
    assert 5 <= y <= 506


def test_a_used_world_leaves_nothing_behind() -> None:
    fresh, used = PushTPhysics(), PushTPhysics()
    used.reset((256.0, 230.0, 256.0, 256.0, 0.3))
    for _ in range(20):
        used.step((300.0, 400.0))
    for physics in (fresh, used):
        physics.reset((256.0, 200.0, 250.0, 256.0, 1.0))
        for _ in range(30):
            physics.step((260.0, 330.0))
    np.testing.assert_array_equal(fresh.state, used.state)


@pytest.mark.parametrize("state", [[1, 2, 3, 4], [1, 2, 3, 4, math.nan], "here", None, [[1, 2, 3, 4, 5]]])
def test_a_state_is_five_finite_numbers(state: Any) -> None:
    with pytest.raises(BadInput, match="five finite numbers"):
        valid_state(state)
