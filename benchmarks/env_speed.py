"""Environment steps with 96x96 pixels, ours beside gym-pusht's: one process and all cores.

    python benchmarks/env_speed.py [--gym-pusht-python PYTHON] [--json OUT.json]

gym-pusht asks for another pymunk, so it runs under the python of its own environment; without one, a virtual
environment is made in a temporary folder (`pip install gym-pusht`). Both get the same seeds and the same
targets, each held for ten steps, near enough to the block that pushing is part of the measured work. They take
turns, so that the machine's other load weighs on both alike; a ratio is that of the medians over the rounds.
All cores are measured twice: a process a core, each for itself, and gymnasium's AsyncVectorEnv, which waits for
all environments at each step and passes their frames on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROUNDS = 7
STEPS = 1000
MINIMUM_RATIO = 8.0
CORES = len(os.sched_getaffinity(0))

# Runs under either python. It prints steps a second of `num_envs` environments, stepped together if several.
ROLLOUT = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import gymnasium, numpy as np

def main():
    env_id, steps, seed, num_envs = sys.argv[1], *map(int, sys.argv[2:5])
    if num_envs == 1:
        env = gymnasium.make(env_id, obs_type="pixels", disable_env_checker=True).unwrapped
    else:
        env = gymnasium.make_vec(env_id, num_envs=num_envs, vectorization_mode="async", obs_type="pixels")
    shape = () if num_envs == 1 else (num_envs,)
    env.reset(seed=seed)
    for _ in range(20):
        env.step(np.full((*shape, 2), 256.0, np.float32))
    _, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    offsets = np.repeat(rng.uniform(-120, 120, (steps // 10 + 1, 2)), 10, axis=0)
    start = time.perf_counter()
    for step in range(steps):
        if step % 10 == 0:
            target = np.clip(info["block_pose"][..., :2] + offsets[step], 0, 512).astype(np.float32)
        pixels, _, _, _, info = env.step(target)
    elapsed = time.perf_counter() - start
    assert pixels.shape == (*shape, 96, 96, 3) and pixels.dtype == np.uint8
    print(num_envs * steps / elapsed)
    env.close()

if __name__ == "__main__":
    main()
"""
OURS = "sim2real_aug.envs:sim2real_aug/PushT-v0"
THEIRS = "gym_pusht:gym_pusht/PushT-v0"


def steps_per_second(python: str, env_id: str, seed: int, processes: int = 1, num_envs: int = 1) -> float:
    """Speed of fresh processes beside each other, each with one environment or several stepped together."""
    command = [python, "-c", ROLLOUT, env_id, str(STEPS), str(seed), str(num_envs)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=one_thread) for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in started)


def measure(gym_pusht_python: str, processes: int = 1, num_envs: int = 1) -> dict[str, float]:
    """Median steps a second of both."""
    ours, theirs = [], []
    for seed in range(ROUNDS):
        theirs.append(steps_per_second(gym_pusht_python, THEIRS, seed, processes, num_envs))
        ours.append(steps_per_second(sys.executable, OURS, seed, processes, num_envs))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "processes": processes,
        "environments_a_process": num_envs,
        "ours_steps_per_s": round(statistics.median(ours), 1),
        "gym_pusht_steps_per_s": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
        "ratio_lowest_round": round(min(ratios), 2),
        "ratio_highest_round": round(max(ratios), 2),
    }


def install_gym_pusht(folder: Path) -> str:
    """A virtual environment with gym-pusht; returns its python."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "gym-pusht==0.1.8", "pymunk<7"], check=True)
    return python


def measure_both(gym_pusht_python: str) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": CORES}
    result["one_process"] = measure(gym_pusht_python)
    if CORES > 1:
        result["a_process_a_core"] = measure(gym_pusht_python, processes=CORES)
        result["async_vector_env"] = measure(gym_pusht_python, num_envs=CORES)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gym-pusht-python", help="python of an environment that has gym-pusht")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    if arguments.gym_pusht_python:
        result = measure_both(arguments.gym_pusht_python)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = measure_both(install_gym_pusht(Path(folder)))
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["one_process"]["ratio"] >= MINIMUM_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
