"""Environment steps with 96x96 pixels: ours beside gym-pusht's, one process each, in turns on one machine.

    python benchmarks/env_speed.py [--gym-pusht-python PYTHON] [--json OUT.json]

gym-pusht asks for another pymunk, so it runs under the python of its own environment; without one, a virtual
environment is made in a temporary folder (`pip install gym-pusht`). Both get the same seeds and the same
targets, each held for ten steps, near enough to the block that pushing is part of the measured work. The
ratio is that of the medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROUNDS = 7
STEPS = 1000
MINIMUM_RATIO = 8.0

# Runs under either python. It prints steps a second.
ROLLOUT = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import gymnasium, numpy as np
env_id, steps, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
env = gymnasium.make(env_id, obs_type="pixels", disable_env_checker=True).unwrapped
env.reset(seed=seed)
for _ in range(20):
    env.step(np.array([256.0, 256.0]))
_, info = env.reset(seed=seed)
rng = np.random.default_rng(seed)
offsets = np.repeat(rng.uniform(-120, 120, (steps // 10 + 1, 2)), 10, axis=0)
start = time.perf_counter()
for step in range(steps):
    if step % 10 == 0:
        target = np.clip(info["block_pose"][:2] + offsets[step], 0, 512)
    pixels, _, _, _, info = env.step(target)
elapsed = time.perf_counter() - start
assert pixels.shape == (96, 96, 3) and pixels.dtype == np.uint8
print(steps / elapsed)
"""
OURS = "sim2real_aug.envs:sim2real_aug/PushT-v0"
THEIRS = "gym_pusht:gym_pusht/PushT-v0"


def steps_per_second(python: str, env_id: str, seed: int, steps: int = STEPS) -> float:
    """Speed of one environment in a fresh process."""
    command = [python, "-c", ROLLOUT, env_id, str(steps), str(seed)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(gym_pusht_python: str, rounds: int = ROUNDS, steps: int = STEPS) -> dict[str, float]:
    """Median steps a second of both, in turns, so that the machine's other load weighs on both alike."""
    ours, theirs = [], []
    for seed in range(rounds):
        theirs.append(steps_per_second(gym_pusht_python, THEIRS, seed, steps))
        ours.append(steps_per_second(sys.executable, OURS, seed, steps))
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
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
    subprocess.run([python, "-m", "pip", "install", "--quiet", "gym-pusht"], check=True)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gym-pusht-python", help="python of an environment that has gym-pusht")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    if arguments.gym_pusht_python:
        result = measure(arguments.gym_pusht_python)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(install_gym_pusht(Path(folder)))
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["ratio"] >= MINIMUM_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
