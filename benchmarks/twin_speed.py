"""Speed of the photoreal twin: frames/s of every scene that ships at 96 x 96, and of photos, in one process.

    python benchmarks/twin_speed.py [--frames 20] [--scene NAME ...] [--json OUT.json]

With 32 samples a pixel (the claim: at least 15 frames/s on 2 cores with LLVM) and with 64 (the default), states
changing from frame to frame as in an episode. The first frames, which compile, are left out. The variant without
LLVM is measured on the first scene in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.mitsuba_variant import PATH_VARIABLE
from sim2real_aug.envs.pathtraced import PathtracedRenderer, mitsuba
from sim2real_aug.envs.recordings import load_recordings
from sim2real_aug.envs.twin import load_scene, scene_names

LEAST_FRAMES_A_SECOND = 15.0  # with 32 samples a pixel
WARM_UP = 3


def first_states() -> NDArray[np.float32]:
    """The states (T, 5) of the first recorded episode."""
    recordings = load_recordings()
    return recordings.state[recordings.episode(0)]


def frames_per_second(name: str, samples: int, frames: int) -> float:
    """Of one scene, over the states of the first recorded episode."""
    scene = load_scene(name)
    renderer = PathtracedRenderer(replace(scene, samples=replace(scene.samples, frame=samples)))
    states = first_states()
    for state in states[:WARM_UP]:
        renderer.image(state)
    start = time.perf_counter()
    for index in range(frames):
        renderer.image(states[(WARM_UP + index) % len(states)])
    seconds = time.perf_counter() - start
    del renderer
    gc.collect()  # a scene that is alive slows the next one
    return frames / seconds


def seconds_per_photo(name: str) -> float:
    """Of one scene at its own resolution and samples."""
    renderer = PathtracedRenderer(load_scene(name))
    state = first_states()[0]
    renderer.photo(state)
    start = time.perf_counter()
    renderer.photo(state + 1)
    return time.perf_counter() - start


def without_llvm(name: str, frames: int) -> float:
    """Frames/s with 32 samples of a process that finds no LLVM."""
    words = [sys.executable, __file__, "--scene", name, "--frames", str(frames), "--plain"]
    environment = {**os.environ, PATH_VARIABLE: os.devnull}
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--scene", action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--plain", action="store_true", help="frames/s of the first scene with 32 samples, no more"
    )
    arguments = parser.parse_args()
    names = arguments.scene or scene_names()
    if arguments.plain:
        print(frames_per_second(names[0], 32, arguments.frames))
        return
    scenes: dict[str, Any] = {}
    for name in names:
        speed = {f"frames_per_second_{n}": frames_per_second(name, n, arguments.frames) for n in (32, 64)}
        speed["seconds_per_photo"] = seconds_per_photo(name)
        scenes[name] = {key: round(value, 2) for key, value in speed.items()}
        print(
            name, {key: round(value, 2) for key, value in scenes[name].items()}, file=sys.stderr, flush=True
        )
    slowest = min(scene["frames_per_second_32"] for scene in scenes.values())
    result = {
        "variant": mitsuba().variant(),
        "cores": len(os.sched_getaffinity(0)),
        "scenes": scenes,
        "slowest_frames_per_second_32": slowest,
        "without_llvm_frames_per_second_32": round(without_llvm(names[0], 5), 2),
        "ok": slowest >= LEAST_FRAMES_A_SECOND,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
