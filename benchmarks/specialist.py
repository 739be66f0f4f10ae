"""What D3PO makes of the base editor: specialists on benches that nothing was tuned on, against their real look.

    python benchmarks/specialist.py [--split claims] [--seeds 3] [--photos 8] [--states 200] [--work DIR]
        [--domain pathtraced/oak ...] [--json OUT.json] [--markdown OUT.md] [--picture OUT.png] [KEY=VALUE ...]

For each scene and seed: photos, D3PO by `train-editor` (KEY=VALUE are its settings, such as d3po.rounds=40), and the
edits of held-out states. The tables set specialist against base editor, Reinhard's colour transfer and histogram
matching, with 95 % intervals over seeds and states. What is measured where is told in `edit_metrics`, what is asked
in `specialist_report`. `guard=compact guard.path=DIR` names a judge that was not trained against: it then also gives
distances, poses and styles, otherwise the training judge does, and the result says so; `perceptual` tells how to add
the distance of a network that is not ours. What is made or measured is kept in --work, and the same command goes on
after an interruption. Scenes of the split `claims` are for figures only: tune with --split development.

Legend: K seeds, M states; images (M, S, S, 3) uint8.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edit_metrics import (
    Figures,
    Frames,
    against_real,
    block_shown,
    judged,
    nearer_own,
    perceptual,
    pose_errors,
)
from numpy.typing import NDArray
from paired_frames import SIZE, domains_of
from perceptual import Encoder, find_encoder
from specialist_report import BASE, REAL, SPECIALIST, Measured, markdown, summarise
from specialist_runs import (
    Bench,
    Plan,
    edited,
    open_work,
    prepare_bench,
    run_config,
    train_run,
    training_store,
)

from sim2real_aug.augment.classical import CLASSICAL
from sim2real_aug.config import make, settings
from sim2real_aug.d3po.scores import JudgedScores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.data.regions import REGIONS
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.composition import composer_for
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.prompts import photos_in_turn
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.base import Judge
from sim2real_aug.pixels import to_frames, to_images
from sim2real_aug.report.pictures import grid

UNEDITED = "unedited"
MOST_MINUTES = 30.0
PICTURED = 3  # states of each bench


@dataclass(frozen=True)
class Meter:
    """What measures. scorer: the scores that D3PO lowers. judge: one that was not trained against, if there is one.
    encoder: a network that is not ours, if it is installed."""

    scorer: JudgedScores
    judge: Judge
    photos_per_edit: int
    encoder: Encoder | None

    def figures(self, bench: Bench, edits: Frames, covered: NDArray[np.bool_]) -> Figures:
        """All figures of one method's edits, whose pushers are `covered` (M, S, S): (M,) each, fewer of poses.

        What was measured before is not measured again.
        """
        regions, frames = self.scorer.regions, bench.frames
        seen = edits.tobytes() + covered.tobytes()
        found = kept_figures(bench, "judged", seen, lambda: self.judged(bench, edits, covered))
        if self.encoder is None:
            return found
        encoder = self.encoder
        return found | kept_figures(bench, "perceptual", seen, lambda: perceptual(encoder, frames, edits, regions))

    def judged(self, bench: Bench, edits: Frames, covered: NDArray[np.bool_]) -> Figures:
        """What the judges say. pose_error: of the states that show their block."""
        frames, shown = bench.frames, block_shown(bench.frames, covered)
        return {
            **judged(self.scorer, frames, edits, covered, bench.photos, self.photos_per_edit),
            **against_real(self.judge, frames, edits, self.scorer.regions),
            "pose_error": pose_errors(self.judge, edits[shown], frames.states[shown]),
        }


def kept_figures(bench: Bench, kind: str, seen: bytes, measure: Callable[[], Figures]) -> Figures:
    """What `measure` says of what is `seen`, kept in the bench's folder: its photos, states and judges are always the
    same."""
    digest = hashlib.blake2b(seen, digest_size=16).hexdigest()
    file = bench.folder / "figures" / f"{kind}-{digest}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".part.npz")
        np.savez(temporary, **measure())
        temporary.replace(file)
    with np.load(file) as content:
        return dict(content)


@dataclass(frozen=True)
class Trained:
    """A bench's edits by method, one item a seed, and the summaries of its runs. covered: (M, S, S), by the pushers of
    the methods that take them from photos."""

    edits: dict[str, list[Frames]]
    covered: dict[str, NDArray[np.bool_]]
    runs: list[dict[str, Any]]


def make_meter(plan: Plan, editor: Editor) -> Meter:
    """What measures the runs of a plan, which start from `editor`."""
    config = run_config(plan, seed=0)
    chosen = settings(D3POSettings, config.d3po)
    judge = make(config.judge)
    scorer = JudgedScores(judge, chosen.regions, chosen.lambda_outside)
    watching = make(config.guard) if config.get("guard") else judge
    count = chosen.photos_per_edit
    count = editor.edit_settings.photos_per_edit if count is None else count
    return Meter(scorer, watching, count, find_encoder())


def train_bench(work: Path, plan: Plan, editor: Editor, bench: Bench, seeds: int) -> Trained:
    """Every method's edits of a bench, specialists trained where they are not there yet."""
    flat, store = bench.frames.flat.images, training_store(work, plan)
    edits = {UNEDITED: [flat], **{name: [change(flat, bench.photos)] for name, change in CLASSICAL.items()}}
    prompts, covered = composed_edits(editor, bench)
    edits |= {**prompts, BASE: [], SPECIALIST: []}
    runs = []
    for seed in range(seeds):
        runs.append(train_run(bench, store, run_config(plan, seed), f"seed-{seed}"))
        loads: dict[str, Callable[[], Editor]] = {
            BASE: lambda: editor,
            SPECIALIST: partial(load_editor, runs[-1]["editor"]),
        }
        for method, load in loads.items():
            name = f"{method.split()[0]}-{seed}"
            edits[method].append(edited(bench, load, name, seed))
    return Trained(edits, {method: covered for method in (*prompts, BASE, SPECIALIST)}, runs)


def composed_edits(editor: Editor, bench: Bench) -> tuple[dict[str, list[Frames]], NDArray[np.bool_]]:
    """What an editor that composes its visual prompts starts from, as a method of its own, and where pushers cover."""
    composer, flat = composer_for(editor, to_images(bench.photos)), bench.frames.flat.images
    if composer is None:
        return {}, np.zeros(flat.shape[:3], bool)
    chosen = torch.from_numpy(photos_in_turn(len(bench.photos), len(flat), 1))
    seen = composer(chosen, to_images(flat))
    return {"composed": [to_frames(seen.images[:, 0])]}, seen.covered.numpy()


def measure_bench(meter: Meter, bench: Bench, trained: Trained) -> Measured:
    """Figures of every method (K, M); the real look's pose says how well a pose can be read at all."""
    measured: Measured = {}
    real, none = bench.frames.real, np.zeros(bench.frames.real.labels.shape, bool)
    covered = {**trained.covered, REAL: real.labels == REGIONS.index("pusher")}
    for method, seeds in {**trained.edits, REAL: [real.images]}.items():
        each = [meter.figures(bench, edits, covered.get(method, none)) for edits in seeds]
        measured[method] = {name: np.stack([figures[name] for figures in each]) for name in each[0]}
    return measured


def add_styles(
    meter: Meter, benches: list[Bench], trained: dict[str, Trained], measured: dict[str, Measured]
) -> None:
    """Whose style the specialists' edits have, against every other bench's; needs two benches."""
    for bench in benches:
        others = [other.photos for other in benches if other is not bench]
        for method in (BASE, SPECIALIST) if others else ():
            shares = [
                np.mean([nearer_own(meter.judge, edits, bench.photos, other) for other in others], axis=0)
                for edits in trained[bench.domain].edits[method]
            ]
            measured[bench.domain][method]["nearer_own"] = np.stack(shares)


def draw(benches: list[Bench], trained: dict[str, Trained], path: Path) -> None:
    """Rows of one held-out state: what each method makes of it, beside a photo and the real look."""
    rows = []
    for bench in benches:
        for index in np.linspace(0, len(bench.frames) - 1, PICTURED).astype(int):
            edits = [seeds[0][index] for seeds in trained[bench.domain].edits.values()]
            rows.append([bench.photos[index % len(bench.photos)], *edits, bench.frames.real.images[index]])
    grid(rows, path, ["photo", *next(iter(trained.values())).edits, REAL], cell=SIZE * 2)


def measure(
    work: Path, plan: Plan, domains: list[str], seeds: int, picture: Path | None = None
) -> dict[str, Any]:
    """The whole measurement: {"summary": ..., "runs": ...}; units that `work` holds are not made again."""
    editor = open_work(work, plan)
    meter = make_meter(plan, editor)
    benches = [prepare_bench(work, plan, domain, editor.image_size) for domain in domains]
    trained = {bench.domain: train_bench(work, plan, editor, bench, seeds) for bench in benches}
    measured = {bench.domain: measure_bench(meter, bench, trained[bench.domain]) for bench in benches}
    add_styles(meter, benches, trained, measured)
    if picture is not None:
        draw(benches, trained, picture)
    kept = ("rounds", "kept_round", "seconds", "held_out_total", "held_out_win_rate")
    runs = {
        domain: [{key: run[key] for key in kept if key in run} for run in each.runs]
        for domain, each in trained.items()
    }
    longest = max(run["seconds"] for each in runs.values() for run in each) / 60
    return {
        "judge": "the training judge" if meter.judge is meter.scorer.judge else "a judge not trained against",
        "most_minutes": round(longest, 1),
        "summary": summarise(measured),
        "runs": runs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of train-editor")
    parser.add_argument("--split", choices=("claims", "development"), default="claims")
    parser.add_argument("--domain", action="append", help="measure these instead of a split")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=Plan.photos)
    parser.add_argument("--states", type=int, default=Plan.states)
    parser.add_argument("--work", type=Path, default=Path("runs/specialist-benchmark"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    plan = Plan(arguments.photos, arguments.states, overrides=tuple(arguments.overrides))
    domains = arguments.domain or domains_of(arguments.split)
    try:
        result = measure(arguments.work, plan, domains, arguments.seeds, arguments.picture)
    except BadInput as error:
        parser.error(str(error))
    tables, text = markdown(result["summary"]), json.dumps(result, indent=2)
    print(tables, file=sys.stderr)
    print(text)
    for path, content in ((arguments.json, text + "\n"), (arguments.markdown, tables)):
        if path is not None:
            path.write_text(content)
    claims = result["summary"]["all"]["claims"].values()
    return 0 if all(claim["ok"] is not False for claim in claims) and result["most_minutes"] <= MOST_MINUTES else 1


if __name__ == "__main__":
    sys.exit(main())
