"""Rolls gym-pusht out and prints what happened as JSON. Run by the parity test with gym-pusht's own python.

python gym_pusht_rollouts.py SEQUENCES STEPS
"""

import json
import sys

import gym_pusht  # noqa: F401 - registers the environment
import gymnasium
import numpy as np


def rollout(env, seed, steps):
    """One seeded episode: its observed start, actions, block poses (x, y, angle), rewards and coverages."""
    start, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    actions, poses, rewards, coverages, contacts = [], [], [], [], 0
    for step in range(steps):
        if step % 5 == 0:  # head for a spot near the block, so that most sequences push it
            target = np.clip(np.array(env.block.position) + rng.uniform(-120, 120, 2), 0, 512)
        _, reward, _, _, info = env.step(target)
        actions.append(target.tolist())
        poses.append(info["block_pose"].tolist())
        rewards.append(float(reward))
        coverages.append(float(info["coverage"]))
        contacts += env.n_contact_points
    return {
        "seed": seed,
        "start": start.tolist(),
        "actions": actions,
        "poses": poses,
        "rewards": rewards,
        "coverages": coverages,
        "contacts": contacts,
    }


def main():
    sequences, steps = int(sys.argv[1]), int(sys.argv[2])
    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state", disable_env_checker=True).unwrapped
    json.dump([rollout(env, seed, steps) for seed in range(sequences)], sys.stdout)


if __name__ == "__main__":
    main()
