"""Many environments at once through gymnasium's own vector interface."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
import pytest

from sim2real_aug.envs import ENV_ID
from sim2real_aug.envs.push_t import PushTEnv

NAME = f"sim2real_aug.envs:{ENV_ID}"
ON_GOAL = [100.0, 100.0, 256.0, 256.0, math.pi / 4]


@contextmanager
def vector(mode: str, num_envs: int, **arguments: Any) -> Iterator[gymnasium.vector.VectorEnv]:
    envs = gymnasium.make_vec(NAME, num_envs=num_envs, vectorization_mode=mode, **arguments)
    yield envs
    envs.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("obs_type", "domain"), [("state", "flat"), ("pixels_agent_pos", "randomized")])
def test_each_is_an_environment_by_itself(mode: str, obs_type: str, domain: str) -> None:
    arguments = {"obs_type": obs_type, "domain": domain, "image_size": 32}
    alone = [PushTEnv(**arguments) for _ in range(3)]
    seeds = [4, 9, 11]
    with vector(mode, 3, **arguments) as envs:
        seen, _ = envs.reset(seed=seeds)
        expected = [env.reset(seed=seed)[0] for env, seed in zip(alone, seeds, strict=True)]
        rng = np.random.default_rng(0)
        for _ in range(6):
            for row, one in enumerate(expected):
                for name, value in one.items() if isinstance(one, dict) else [(None, one)]:
                    np.testing.assert_array_equal((seen if name is None else seen[name])[row], value)
            actions = rng.uniform(0, 512, (3, 2)).astype(np.float32)
            seen, rewards, terminated, truncated, infos = envs.step(actions)
            stepped = [env.step(action) for env, action in zip(alone, actions, strict=True)]
            expected = [step[0] for step in stepped]
            np.testing.assert_array_equal(rewards, [step[1] for step in stepped])
            np.testing.assert_array_equal(infos["coverage"], [step[4]["coverage"] for step in stepped])
            assert not terminated.any()
            assert not truncated.any()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_environment_that_is_done_starts_again(mode: str) -> None:
    with vector(mode, 2) as envs:
        envs.reset(seed=1, options={"reset_to_state": ON_GOAL})
        stay = np.full((2, 2), 100, np.float32)
        _, rewards, terminated, _, _ = envs.step(stay)
        assert terminated.tolist() == [True, True]
        assert rewards.tolist() == [1.0, 1.0]
        states, rewards, terminated, _, infos = envs.step(stay)  # gymnasium's next-step autoreset
        assert rewards.tolist() == [0.0, 0.0]
        assert not terminated.any()
        assert np.abs(states - ON_GOAL).max() > 20
        assert infos["coverage"].max() < 0.95
