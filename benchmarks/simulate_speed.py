"""Speed of `simulate`: 300 flat episodes that ship, and what an episode costs in stores of 10 to 10,000.

    python benchmarks/simulate_speed.py [--json OUT.json] [--most 10000]

The episodes that ship are drawn with one process a core, as by default. For the cost by size they are repeated
until there are enough, and drawn by `--source replay:STORE` in one process, each size in a process of its own.
That cost is in seconds of the processor, which other work on the machine moves little; what a store of one
episode takes, the program's start, is taken off. Needs 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from sim2real_aug.envs.recordings import load_recordings

SHIPPED_EPISODES, MOST_SECONDS = 300, 60.0
SIZES = (10, 100, 1000, 10000)
SOURCE_CHUNK = 1610  # frames; small, so that an episode is read without many others
MOST_GROWTH = 1.25  # cost of an episode in the largest store, in that of 100

# Prints seconds, seconds of the processor and the peak of memory, MB, of one `simulate` with what is typed.
TIMED = """
import resource, sys, time
start = time.perf_counter()
from sim2real_aug.cli.app import run
code = run(["simulate", *sys.argv[1:], "--json"])
used = resource.getrusage(resource.RUSAGE_SELF)
print("\\n", time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)
"""


@dataclass(frozen=True)
class Run:
    """What one run took, from the start of the program to its end."""

    seconds: float
    processor_seconds: float
    memory_MB: float


def simulate(out: Path, *words: object) -> Run:
    """Run `sim2real-aug simulate OUT WORDS`."""
    command = [sys.executable, "-c", TIMED, str(out), *map(str, words)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread)
    return Run(*map(float, done.stdout.split()[-3:]))


def repeat_recordings(path: Path, episodes: int) -> None:
    """A store of states and actions only, the shipped episodes over and over."""
    recordings = load_recordings()
    shipped = len(recordings.episode_ends)
    chosen = [recordings.episode(index % shipped) for index in range(episodes)]
    group = zarr.open_group(path, mode="w", zarr_format=2)
    for name in ("state", "action"):
        rows = np.concatenate([getattr(recordings, name)[frames] for frames in chosen])
        group.create_array(f"data/{name}", data=rows, chunks=(SOURCE_CHUNK, rows.shape[1]))
    ends = np.cumsum([frames.stop - frames.start for frames in chosen])
    group.create_array("meta/episode_ends", data=ends.astype(np.int64))


def cost_by_size(folder: Path, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """For each size: ms an episode and a frame, and the peak of memory."""
    source = folder / "source.zarr"
    repeat_recordings(source, max(sizes))
    replay = ["--source", f"replay:{source}", "--workers", "1"]
    ends = zarr.open_group(source, mode="r")["meta/episode_ends"][:]
    ones = [simulate(folder / f"one-{n}.zarr", *replay, "--episodes", 1) for n in range(3)]
    start = min(run.processor_seconds for run in ones)
    rows = []
    for size in sizes:
        run = simulate(folder / f"{size}.zarr", *replay, "--episodes", size)
        spent = run.processor_seconds - start
        rows.append(
            {
                "episodes": size,
                "frames": int(ends[size - 1]),
                "seconds": round(run.seconds, 2),
                "processor_seconds": round(run.processor_seconds, 2),
                "ms_an_episode": round(1000 * spent / (size - 1), 2),
                "us_a_frame": round(1e6 * spent / int(ends[size - 1] - ends[0]), 1),
                "peak_memory_MB": round(run.memory_MB),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--most", type=int, default=max(SIZES), help="the largest store, episodes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        shipped = simulate(Path(name) / "shipped.zarr", "--episodes", SHIPPED_EPISODES).seconds
        rows = cost_by_size(Path(name), tuple(size for size in SIZES if size <= arguments.most))
    growth = rows[-1]["us_a_frame"] / rows[1]["us_a_frame"]
    result = {
        "cores": len(os.sched_getaffinity(0)),
        f"seconds_for_{SHIPPED_EPISODES}_shipped_episodes": round(shipped, 1),
        "by_size": rows,
        "growth": round(growth, 3),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if shipped < MOST_SECONDS and growth < MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
