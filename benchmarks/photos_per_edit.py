"""How many photos should an edit take after: one, some, or all, as the mean of their latents?

    python benchmarks/photos_per_edit.py [--photos 8] [--states 48] [--work DIR] [--json OUT.json]

The base editor edits flat frames after photos of each development scene, with each `photos_per_edit`, and the edits
are compared with the scene's own render of the same state: root mean square error (pixels 0..1) and the judge's
distance in all regions and in the block, error of the block's pose where a prompt's pusher leaves half of it in view.
Differences from one photo are paired, frame by frame. What averaging does to an editor that was trained with one photo
is measured; to have it learn from several, train it so.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from edit_metrics import against_real, block_shown, pose_errors
from paired_frames import domains_of
from specialist import composed_edits
from specialist_runs import Bench, Plan, edited, open_work, prepare_bench

from sim2real_aug.data.regions import REGIONS
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import load_judge
from sim2real_aug.judges.base import Judge
from sim2real_aug.report.intervals import Values, estimate, mean

FIGURES = ("rmse", "distance", "rmse_block", "distance_block", "pose")


def measure(editor: Editor, judge: Judge, bench: Bench, photos_per_edit: int) -> dict[str, Values]:
    """FIGURES of each frame, (M,)."""
    editor.edit_settings = replace(editor.edit_settings, photos_per_edit=photos_per_edit)
    edits = edited(bench, lambda: editor, f"base-{photos_per_edit}-photos", seed=0)
    shown = block_shown(bench.frames, composed_edits(editor, bench)[1])
    figures = {
        **against_real(judge, bench.frames, edits, REGIONS),
        "pose": pose_errors(judge, edits[shown], bench.frames.states[shown]),
    }
    return {name: figures[name] for name in FIGURES}


def summarise(figures: dict[int, dict[str, Values]]) -> dict[str, Any]:
    """Mean and interval of each figure, and of its difference from one photo; by photos_per_edit."""
    first = next(iter(figures))
    return {
        str(count): {
            name: {
                **asdict(estimate(mean, values[None])),
                "difference": asdict(
                    estimate(lambda a, b: mean(a - b), values[None], figures[first][name][None])
                ),
            }
            for name, values in measured.items()
        }
        for count, measured in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=8, help="of each scene")
    parser.add_argument("--states", type=int, default=48, help="of each scene")
    parser.add_argument(
        "--per-edit", type=int, nargs="+", default=[1, 2, 4, 0], help="0: all; others against the first"
    )
    parser.add_argument("--domains", nargs="+", default=domains_of("development"))
    parser.add_argument("--work", type=Path, default=Path("build/photos-per-edit"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plan, judge = Plan(photos=arguments.photos, states=arguments.states), load_judge()
    try:
        editor = open_work(arguments.work, plan)
        benches = [prepare_bench(arguments.work, plan, domain, editor.image_size) for domain in arguments.domains]
    except BadInput as error:
        parser.error(str(error))
    figures = {}
    for count in arguments.per_edit:
        of_each = [measure(editor, judge, bench, count) for bench in benches]
        figures[count] = {name: np.concatenate([scene[name] for scene in of_each]) for name in FIGURES}
    result = {
        "photos": arguments.photos,
        "states_per_scene": arguments.states,
        "scenes": arguments.domains,
        "photos_per_edit": summarise(figures),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
