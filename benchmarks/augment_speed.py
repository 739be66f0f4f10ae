"""augment: frames a second, and memory against the dataset's length.

Each length runs in a process of its own on a synthetic store of 96x96 frames, chunks of 161 frames. Memory is
the peak resident size above that of the process with the editor loaded and one batch edited.

    python benchmarks/augment_speed.py                        # the shipped editor
    python benchmarks/augment_speed.py --editor RUN --episodes 2 16
    python benchmarks/augment_speed.py --copy --episodes 4 64 # an editor that changes nothing: the streaming alone
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

FRAMES_PER_EPISODE = 125
CHUNK_MB = 161 * 96 * 96 * 3 / 1e6


def write_store(path: Path, episodes: int, frames: int = FRAMES_PER_EPISODE) -> None:
    """A store of `episodes` episodes of `frames` random, smooth frames each."""
    from sim2real_aug.data import ReplayBufferWriter

    rng = np.random.default_rng(0)
    with ReplayBufferWriter.create(path) as writer:
        for _ in range(episodes):
            coarse = rng.integers(0, 256, (frames, 12, 12, 3), np.uint8)
            images = coarse.repeat(8, axis=1).repeat(8, axis=2)
            writer.append_episode(
                {"img": images, "action": rng.normal(size=(frames, 2)).astype(np.float32)}
            )


def copying_editor() -> Any:
    """Has an editor's interface and gives back its source: what is left is the streaming."""
    import torch

    from sim2real_aug.editor.editor import EditSettings

    return SimpleNamespace(
        components={},
        edit_settings=EditSettings(),
        image_size=96,
        device=torch.device("cpu"),
        photos=np.zeros((1, 96, 96, 3), np.uint8),
        initial_latents=lambda batch, generator: torch.randn((batch, 4, 24, 24), generator=generator),
        edit=lambda source, style, latents: source,
    )


def resident_mb() -> float:
    """This process's resident memory now, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1e3


def measure(
    editor_path: str | None, copy: bool, judge: bool, episodes: int, batch_size: int
) -> dict[str, float]:
    """One augmentation in this process."""
    import torch

    from sim2real_aug.augment import AugmentSettings, augment
    from sim2real_aug.editor import load_editor
    from sim2real_aug.judges import load_judge

    editor = copying_editor() if copy else load_editor(editor_path)
    if editor.photos is None:
        editor.photos = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.zarr"
        write_store(source, 1)
        settings = AugmentSettings(batch_size=batch_size)
        critic = load_judge() if judge else None
        augment(source, editor, Path(folder) / "warm.zarr", settings, judge=critic)
        write_store(source.with_name("long.zarr"), episodes)
        base, peak, running = resident_mb(), 0.0, True

        def watch() -> None:
            nonlocal peak
            while running:
                peak = max(peak, resident_mb())
                time.sleep(0.01)

        watcher = threading.Thread(target=watch)
        watcher.start()
        out = Path(folder) / "out.zarr"
        summary = augment(source.with_name("long.zarr"), editor, out, settings, judge=critic)
        running = False
        watcher.join()
    return {
        "frames": summary["frames"],
        "frames_per_second": summary["frames_per_second"],
        "memory_growth_mb": round(max(peak - base, 0), 1),
        "peak_mb": round(peak, 1),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--editor", help="run or checkpoint; the shipped editor when left out")
    parser.add_argument("--copy", action="store_true", help="an editor that changes nothing")
    parser.add_argument("--judge", action="store_true", help="with the compact judge's gate")
    parser.add_argument("--episodes", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.editor, args.copy, args.judge, args.one, args.batch_size)))
        return
    print(f"one chunk of frames: {CHUNK_MB:.1f} MB as uint8")
    for episodes in args.episodes:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(episodes)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        print(result.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
