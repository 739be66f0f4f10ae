"""The expert on 200 starts that nothing was tuned on: success, length, hand movement beside people's, speed.

    python benchmarks/expert.py [--demonstrations pusht_cchi_v7_replay.zarr] [--gym-pusht-python PYTHON]
        [--json OUT.json]

Starts are gym-pusht's, seeds 500000 to 500199; success is coverage above 0.95 within 300 steps. With
`--demonstrations`, diffusion_policy's published store, people's percentiles stand beside the expert's. With
`--gym-pusht-python`, gym-pusht itself plays the recorded actions from the same seeds and counts successes.
Episodes a second are of one process with one thread, physics included, by processor time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.expert import HUMAN_LEAD_99, HUMAN_SPEED_99, Expert
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.report.intervals import share_estimate

FIRST_SEED, EPISODES, MAX_STEPS = 500000, 200, 300
PERCENTILES = (50, 75, 90, 95, 99, 100)
MINIMUM_SUCCESS, MOST_STEPS, MINIMUM_RATE = 0.95, 200, 3.0

# Runs under gym-pusht's python. It prints, for each episode, whether it terminated.
REPLAY = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import gym_pusht, gymnasium, numpy as np
env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state", disable_env_checker=True).unwrapped
episodes, reached = json.load(open(sys.argv[1])), []
for seed, actions in episodes:
    env.reset(seed=seed)
    reached.append(any(env.step(np.array(action))[2] for action in actions))
print(json.dumps(reached))
"""


@dataclass(frozen=True)
class Run:
    """state (T, 5) before action (T, 2)."""

    state: NDArray[np.float64]
    action: NDArray[np.float32]
    success: bool


def play(seed: int) -> Run:
    """One episode of the expert from gym-pusht's start of `seed`."""
    env, expert = PushTEnv("state"), Expert(seed)
    state, _ = env.reset(seed=seed)
    states, actions, success = [], [], False
    while len(actions) < MAX_STEPS and not success:
        states.append(state)
        actions.append(expert(state))
        state, _, success, _, _ = env.step(actions[-1])
    return Run(np.array(states), np.array(actions), success)


def movement(states: list[NDArray[Any]], actions: list[NDArray[Any]]) -> dict[str, list[float]]:
    """Percentiles of how the target moves, units a step, over episodes of states (T, 5), actions (T, 2)."""
    measured = {
        "speed": [np.diff(action, axis=0) for action in actions],
        "lead": [action - state[:, :2] for state, action in zip(states, actions, strict=True)],
        "change_of_velocity": [np.diff(action, n=2, axis=0) for action in actions],
    }
    return {
        name: np.percentile(np.linalg.norm(np.concatenate(rows), axis=1), PERCENTILES).round(1).tolist()
        for name, rows in measured.items()
    }


def people(store: Path) -> dict[str, Any]:
    """The published demonstrations' lengths and movement."""
    buffer = ReplayBuffer.open(store)
    episodes = [buffer.episode(index) for index in range(buffer.n_episodes)]
    states, actions = buffer.read("state"), buffer.read("action")
    moved = movement([states[steps] for steps in episodes], [actions[steps] for steps in episodes])
    return {"mean_length": round(buffer.n_frames / buffer.n_episodes, 1), **moved}


def measure() -> tuple[dict[str, Any], list[Run]]:
    """The expert's result, and its episodes."""
    play(0)  # the tables are made once, on the first episode
    start = time.process_time()
    runs = [play(FIRST_SEED + index) for index in range(EPISODES)]
    seconds = time.process_time() - start
    lengths = [len(run.action) for run in runs]
    success = share_estimate(np.array([float(run.success) for run in runs]))
    result = {
        "episodes": EPISODES,
        "success_rate": success.value,
        "success_rate_interval": [round(success.low, 4), round(success.high, 4)],
        "mean_length": round(float(np.mean(lengths)), 1),
        "longest": max(lengths),
        **movement([run.state for run in runs], [run.action for run in runs]),
        "episodes_per_s": round(EPISODES / seconds, 1),
    }
    return result, runs


def replayed_in_gym_pusht(python: str, runs: list[Run]) -> float:
    """The share of the recorded action sequences that succeed in gym-pusht."""
    with tempfile.TemporaryDirectory() as folder:
        episodes = [(FIRST_SEED + index, run.action.tolist()) for index, run in enumerate(runs)]
        Path(folder, "actions.json").write_text(json.dumps(episodes))
        command = [python, "-c", REPLAY, f"{folder}/actions.json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(np.mean(json.loads(done.stdout)))


def table(result: dict[str, Any]) -> str:
    """The result as lines to read."""
    low, high = result["success_rate_interval"]
    lines = [
        f"success {result['success_rate']:.1%} of {EPISODES} (95 % interval {low:.1%} to {high:.1%}), "
        f"mean length {result['mean_length']}, longest {result['longest']}, {result['episodes_per_s']} episodes/s",
        f"{'percentile':<28}" + "".join(f"{percentile:>7}" for percentile in PERCENTILES),
    ]
    for name in ("speed", "lead", "change_of_velocity"):
        for who, source in (("expert", result), ("people", result.get("people", {}))):
            if name in source:
                lines.append(f"{name:<20}{who:<8}" + "".join(f"{value:>7}" for value in source[name]))
    if "gym_pusht_success_rate" in result:
        lines.append(f"the same actions in gym-pusht: {result['gym_pusht_success_rate']:.1%} succeed")
    return "\n".join(lines)


def holds(result: dict[str, Any]) -> bool:
    """Whether the claims hold."""
    return (
        result["success_rate"] >= MINIMUM_SUCCESS
        and result["mean_length"] <= MOST_STEPS
        and result["episodes_per_s"] >= MINIMUM_RATE
        and result["speed"][-1] <= HUMAN_SPEED_99
        and result["lead"][-1] <= HUMAN_LEAD_99
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demonstrations", type=Path, help="the published store, for people's percentiles")
    parser.add_argument("--gym-pusht-python", help="python of an environment that has gym-pusht")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    result, runs = measure()
    if arguments.demonstrations:
        result["people"] = people(arguments.demonstrations)
    if arguments.gym_pusht_python:
        result["gym_pusht_success_rate"] = replayed_in_gym_pusht(arguments.gym_pusht_python, runs)
    print(table(result), file=sys.stderr)
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if holds(result) else 1


if __name__ == "__main__":
    sys.exit(main())
