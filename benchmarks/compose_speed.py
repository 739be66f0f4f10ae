"""Composing visual prompts: milliseconds a frame by the size of the frames, on one core.

    python benchmarks/compose_speed.py [--sizes 96 240 480] [--json OUT.json]

Photos and frames are drawn by the renderers of `randomized/24` and `flat`. `known`: the frames' regions come from the
simulator, as in `augment` of simulated stores; `read`: the judge finds them. `apart`: seconds that taking eight photos
apart costs once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paired_frames import held_out_states

from sim2real_aug.editor import load_editor
from sim2real_aug.editor.composition import composer_for, label_regions
from sim2real_aug.envs.recorder import draw_states
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.pixels import to_images

PHOTOS, FRAMES, ROUNDS = 8, 24, 3


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the fastest of ROUNDS, and what came out."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


@torch.no_grad()
def measure(size: int) -> dict[str, float]:
    editor, states = load_editor(None), held_out_states(PHOTOS + FRAMES, seed=0)
    photos = to_images(draw_states(make_renderer("randomized/24"), states[:PHOTOS], size))
    source = to_images(draw_states(make_renderer("flat"), states[PHOTOS:], size))
    apart, composer = timed(lambda: composer_for(editor, photos))
    assert composer is not None, "the editor that ships composes its prompts"
    chosen = (torch.arange(FRAMES) % PHOTOS)[:, None]
    read, _ = timed(lambda: composer(chosen, source.clone()))  # a copy, or the judge remembers its regions
    labels = label_regions(composer.segmenter, source)
    known, _ = timed(lambda: composer(chosen, source, labels))
    per_frame = {"known_ms": known, "read_ms": read}
    return {**{name: round(1000 * value / FRAMES, 1) for name, value in per_frame.items()}, "apart_s": round(apart, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 240, 480])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report = {str(size): measure(size) for size in args.sizes}
    text = json.dumps(report, indent=2)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
