"""The gymnasium environment as its users call it."""

from __future__ import annotations

import math
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sim2real_aug.envs import ENV_ID
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.errors import BadInput

NAME = f"sim2real_aug.envs:{ENV_ID}"
ON_GOAL = [100.0, 100.0, 256.0, 256.0, math.pi / 4]


@pytest.mark.parametrize("domain", ["flat", "randomized", "randomized/4"])
@pytest.mark.parametrize("obs_type", ["state", "pixels", "pixels_agent_pos"])
def test_gymnasium_finds_no_fault(obs_type: str, domain: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Actions are window units, as in every Push-T data set, not -1..1.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(gymnasium.make(NAME, obs_type=obs_type, domain=domain).unwrapped)


@pytest.mark.slow
def test_gymnasium_finds_no_fault_in_a_path_traced_scene() -> None:
    pytest.importorskip("mitsuba")
    env = gymnasium.make(NAME, obs_type="pixels", domain="pathtraced/whiteboard", image_size=32, render_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(env.unwrapped)


def test_an_episode_ends_after_300_steps() -> None:
    env = gymnasium.make(NAME)
    env.reset(options={"reset_to_state": [50, 50, 400, 400, 0]})
    for step in range(1, 301):
        _, _, terminated, truncated, _ = env.step(np.array([50.0, 50.0], np.float32))
        assert not terminated
        assert truncated == (step == 300)


def test_it_terminates_on_the_goal() -> None:
    env = PushTEnv()
    state, info = env.reset(options={"reset_to_state": ON_GOAL})
    np.testing.assert_allclose(state, ON_GOAL, atol=1e-9)
    assert info["coverage"] == pytest.approx(1.0)
    _, reward, terminated, truncated, info = env.step([100.0, 100.0])
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)


def test_reward_is_coverage_over_the_threshold() -> None:
    # 40 along the goal's own x axis: bars share 80 x 30, stems (30 wide) nothing; 2400 of 6300.
    env = PushTEnv()
    shift = 40 / math.sqrt(2)
    env.reset(options={"reset_to_state": [100, 100, 256 + shift, 256 + shift, math.pi / 4]})
    _, reward, terminated, _, info = env.step([100.0, 100.0])
    assert info["coverage"] == pytest.approx(2400 / 6300)
    assert reward == pytest.approx(2400 / 6300 / 0.95)
    assert not terminated


def test_info_says_all() -> None:
    env = PushTEnv()
    _, info = env.reset(options={"reset_to_state": [1, 2, 256, 300, -1.0]})
    np.testing.assert_allclose(info["block_pose"], [256, 300, -1], atol=1e-9)
    np.testing.assert_allclose(info["pos_agent"], [1, 2])
    np.testing.assert_allclose(info["goal_pose"], [256, 256, math.pi / 4])
    assert set(info) == {
        "coverage", "is_success", "block_pose", "pos_agent", "vel_agent", "goal_pose", "n_contacts",
    }  # fmt: skip
    np.testing.assert_allclose(env.state, [1, 2, 256, 300, 2 * math.pi - 1], atol=1e-9)


def test_contacts_are_counted() -> None:
    env = PushTEnv()
    env.reset(options={"reset_to_state": [256, 240.5, 256, 256, 0]})
    _, _, _, _, info = env.step([256.0, 300.0])
    assert info["n_contacts"] == 1
    _, _, _, _, info = env.step([256.0, 100.0])
    _, _, _, _, info = env.step([256.0, 100.0])
    assert info["n_contacts"] == 0


def test_observations_carry_the_picture() -> None:
    env = PushTEnv("pixels_agent_pos", image_size=64, render_size=128)
    observation, _ = env.reset(seed=3)
    expected = FlatRenderer().image(env.state, 64)
    np.testing.assert_array_equal(observation["pixels"], expected)
    np.testing.assert_array_equal(observation["agent_pos"], env.state[:2])
    assert env.render().shape == (128, 128, 3)


def test_states_draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(FlatRenderer, "image", refuse)
    env = PushTEnv("state")
    env.reset(seed=0)
    env.step([10.0, 10.0])
    with pytest.raises(AssertionError, match="drawn"):
        env.render()


def test_randomized_scenes_follow_the_seed() -> None:
    env = PushTEnv("pixels", domain="randomized")
    first, _ = env.reset(seed=5)
    other, _ = env.reset()
    again, _ = env.reset(seed=5)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"obs_type": "pixel"}, "Did you mean 'pixels'"),
        ({"domain": "flatt"}, "Did you mean 'flat'"),
        ({"render_mode": "human"}, "rgb_array"),
    ],
)
def test_unknown_names_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        PushTEnv(**arguments)


def test_bad_calls_are_refused() -> None:
    env = PushTEnv()
    with pytest.raises(BadInput, match="reset_to_state"):
        env.reset(options={"reset_to_stat": [0, 0, 0, 0, 0]})
    with pytest.raises(BadInput, match="five finite numbers"):
        env.reset(options={"reset_to_state": [0, 0, 0]})
    env.reset(seed=0)
    for action in ([1.0], [1.0, math.nan], [1.0, 2.0, 3.0]):
        with pytest.raises(BadInput, match="two finite numbers"):
            env.step(action)
