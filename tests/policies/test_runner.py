"""A policy in the gymnasium loop, against the evaluation's own episodes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

from sim2real_aug.errors import BadInput
from sim2real_aug.policies import load_policy
from sim2real_aug.policies.diffusion import DiffusionPolicy, PolicySettings
from sim2real_aug.policies.rollout import run_episodes

STEPS = 20
TINY = PolicySettings(features=8, keypoints=4, down_dims=(8, 16), step_dim=8, num_inference_steps=10)


@pytest.fixture
def policy(tmp_path) -> DiffusionPolicy:
    torch.manual_seed(0)
    made = DiffusionPolicy(TINY)
    for normalizer in (made.state_normalizer, made.action_normalizer):
        normalizer.fit(torch.tensor([[0.0, 0.0], [512.0, 512.0]]))
    made.save_pretrained(tmp_path / "policy")
    return load_policy(tmp_path)


def test_the_gymnasium_loop_goes_as_the_evaluation_s_episode(policy: DiffusionPolicy) -> None:
    env = gymnasium.make(
        "sim2real_aug.envs:sim2real_aug/PushT-v0", obs_type="pixels_agent_pos", max_episode_steps=STEPS
    )
    runner = policy.runner()
    for seed in (100000, 100001):  # the second shows that nothing of the first is left
        runner.reset(seed)
        (observation, _), over, states = env.reset(seed=seed), False, []
        while not over:
            observation, _, terminated, truncated, _ = env.step(runner.step(observation))
            states.append(env.unwrapped.state)
            over = terminated or truncated
        expected = run_episodes(policy, "flat", [seed], STEPS)[0]
        assert len(states) == STEPS
        np.testing.assert_allclose(states, expected.states[1:], atol=1e-4)


def test_an_observation_of_another_size_is_refused(policy: DiffusionPolicy) -> None:
    runner = policy.runner()
    frame, position = np.zeros((96, 96, 3), np.uint8), np.zeros(2)
    with pytest.raises(BadInput, match=r"pixels must be \(96, 96, 3\).*got \(64, 64, 3\)"):
        runner.step({"pixels": frame[:64, :64], "agent_pos": position})
    with pytest.raises(BadInput, match=r"agent_pos must be \(2,\).*got none"):
        runner.step({"pixels": frame})
    with pytest.raises(BadInput, match=r"agent_pos must be finite numbers; got \[nan, 1\.0\]"):
        runner.step({"pixels": frame, "agent_pos": np.array([np.nan, 1.0])})


def test_a_frame_in_0_to_1_is_refused(policy: DiffusionPolicy) -> None:
    frame = np.full((96, 96, 3), 0.5, np.float32)
    frame[0, 0] = 0.75
    with pytest.raises(BadInput, match=r"pixels must be uint8 in 0\.\.255; got float32 in 0\.5\.\.0\.75"):
        policy.runner().step({"pixels": frame, "agent_pos": np.zeros(2)})
