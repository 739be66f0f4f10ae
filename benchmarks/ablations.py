"""What the parts of the method are worth: the same run with one thing changed, one row of a table each.

    python benchmarks/ablations.py [KEY=VALUE ...] [--domain pathtraced/oak ...] [--seeds 3] [--states 100]
        [--work DIR] [--only NAME ...] [--unit NAME KEY=VALUE ...] [--json OUT.json] [--markdown PAGE.md]

Every unit trains a specialist for each scene and seed with settings of `train-editor` of its own, some from a base
editor of its own, and edits the same held-out states; `specialist.py` tells what is measured. All units are measured
by the same judge, whatever they were trained with. KEY=VALUE, before the options, are settings for all of them, such as
d3po.rounds=20. `--unit NAME KEY=VALUE ...` adds a row: another encoder is compared as
`--unit DINO judge._target_=my_package.dino`. --only NAME ... measures some of the rows alone, beside those that --unit
adds. Scenes are those for tuning. Units are kept in --work, which one process at a time may fill, and the same command
goes on. --markdown writes the table, after each row, between two markers of a page and leaves what else stands there; a
page that is not there yet is made.

Legend: K seeds, M states.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paired_frames import domains_of
from specialist import Meter, composed_edits, make_meter
from specialist_report import Measured, mean, pooled, quantile
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

from sim2real_aug.config import make
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.report.intervals import Estimate, estimate

Change = Callable[[Editor], None]
COLUMNS = ("structural", "semantic", "rmse", "distance", "perceptual", "pose_median", "pose_95")
SAMPLES = 48  # of a round, for every group size
TABLE, TABLE_END = "<!-- table -->", "<!-- end of table -->"


@torch.no_grad()
def prompt_from_zero(editor: Editor) -> None:
    """conv_in's weights for the visual prompt start at zero, as when a plain InstructPix2Pix is widened."""
    editor.unet.conv_in.weight[:, -editor.vae.config.latent_channels :] = 0


@torch.no_grad()
def without_prompt(editor: Editor) -> None:
    """The visual prompt is seen neither by conv_in nor by the fusion's query; both are frozen and keep it so.

    An editor that composes its prompts goes on changing them, and does it blindly.
    """
    prompt_from_zero(editor)
    editor.fusion.to_q.weight[:, -editor.vae.config.latent_channels :] = 0


@torch.no_grad()
def without_fusion(editor: Editor) -> None:
    """The fusion layer adds nothing; frozen conditioning keeps it so."""
    editor.fusion.to_out.weight.zero_()
    editor.fusion.to_out.bias.zero_()


@torch.no_grad()
def as_widened(editor: Editor) -> None:
    """The paper's start: neither visual prompt nor fusion has been trained."""
    prompt_from_zero(editor)
    without_fusion(editor)


def style_scale(scale: float, editor: Editor) -> None:
    """s_sty, in training and in editing."""
    editor.edit_settings = replace(editor.edit_settings, style_guidance_scale=scale)


@dataclass(frozen=True)
class Unit:
    """One row. overrides: of train-editor. change: of the base editor that is trained; None trains it as it is."""

    name: str
    overrides: tuple[str, ...] = ()
    change: Change | None = None


TRAINED = ("d3po.train_conditioning=true", "d3po.learning_rate=5e-4")


def group_of(size: int) -> tuple[str, ...]:
    """Another group size with as many samples a round."""
    return (f"d3po.trajectories_per_condition={size}", f"d3po.conditions_per_round={SAMPLES // size}")


def table_kept(weight: float) -> tuple[str, ...]:
    """lambda weighs what changes outside the regions: with all four of them, as by default, nothing is outside."""
    return ("d3po.regions=[block,goal,pusher]", f"d3po.lambda_outside={weight}")


UNITS = (
    Unit("default"),
    *(Unit(f"s_sty {scale}", (), partial(style_scale, scale)) for scale in (1.5, 2.0, 3.0)),
    *(Unit(f"alpha {alpha}", (f"d3po.alpha={alpha}",)) for alpha in (0.0, 0.5, 2.0)),
    *(Unit(f"table kept, lambda {weight}", table_kept(weight)) for weight in (0.0, 0.05, 0.5)),
    Unit("conditioning trained", TRAINED),
    Unit("no fusion", (), without_fusion),
    Unit("prompt not seen by the network", (), without_prompt),
    Unit("prompt seen from zero on", TRAINED, prompt_from_zero),
    Unit("prompt seen and fusion from zero on", TRAINED, as_widened),
    *(Unit(f"group of {size}", group_of(size)) for size in (2, 3, 12)),
    Unit("full training", ("d3po.train=full",)),
    Unit("noise of its own at every step", ("d3po.shared_noise=false",)),
    Unit("steps not weighed", ("d3po.weigh_steps=false",)),
    Unit("noise and steps as in D3PO", ("d3po.shared_noise=false", "d3po.weigh_steps=false")),
)  # fmt: skip


def chosen_units(only: list[str] | None, added: list[list[str]] | None) -> list[Unit]:
    """The units named in `only`, all without it, and those that the user adds. Raises BadInput for unknown names."""
    known = {unit.name: unit for unit in UNITS}
    own = {name: Unit(name, tuple(overrides)) for name, *overrides in added or []}
    if twice := set(own) & set(known):
        raise BadInput(f"--unit {min(twice)}: there is one of this name already")
    for name in only or []:
        if name not in known | own:
            raise unknown_name("unit", name, known | own)
    return [*(unit for name, unit in known.items() if only is None or name in only), *own.values()]


def base_of(work: Path, plan: Plan, unit: Unit) -> tuple[str, ...]:
    """Overrides that start a run from the unit's own base editor, which is made if it is not there yet."""
    if unit.change is None:
        return ()
    folder = work / "editors" / slug(unit.name)
    if not (folder / "model_index.json").is_file():
        editor = make(run_config(plan, seed=0).editor)
        unit.change(editor)
        editor.save_pretrained(folder)
    return (f"editor.path={folder}",)


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "." else "-" for letter in name)


def measure_unit(
    work: Path, plan: Plan, meter: Meter, bench: Bench, covered: NDArray[np.bool_], unit: Unit, seeds: int
) -> dict[str, Any]:
    """Figures (K, M) of the unit's specialists, and the mean seconds of a run. covered: (M, S, S), by pushers."""
    overrides, store = (*base_of(work, plan, unit), *unit.overrides), training_store(work, plan)
    figures, seconds = [], []
    for seed in range(seeds):
        name = f"{slug(unit.name)}-{seed}"
        run = train_run(bench, store, run_config(plan, seed, overrides), name)
        seconds.append(run["seconds"])
        edits = edited(bench, partial(load_editor, run["editor"]), name, seed)
        figures.append(meter.figures(bench, edits, covered))
    stacked = {key: np.stack([each[key] for each in figures]) for key in figures[0]}
    return {"figures": stacked, "seconds": float(np.mean(seconds))}


def measure(
    work: Path, plan: Plan, domains: list[str], units: list[Unit], seeds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each unit's name and row, as it is measured: "minutes", and an estimate of each of COLUMNS over all domains,
    seeds and states."""
    editor = open_work(work, plan)
    meter = make_meter(plan, editor)
    benches = [prepare_bench(work, plan, domain, editor.image_size) for domain in domains]
    covered = [composed_edits(editor, bench)[1] for bench in benches]
    for unit in units:
        measured = {
            bench.domain: measure_unit(work, plan, meter, bench, pushers, unit, seeds)
            for bench, pushers in zip(benches, covered, strict=True)
        }
        yield unit.name, row_of(unit, measured)


def row_of(unit: Unit, measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """measured: what `measure_unit` gives, by domain."""
    by_domain: dict[str, Measured] = {domain: {unit.name: each["figures"]} for domain, each in measured.items()}
    figures = pooled(by_domain)[unit.name]
    estimates = {
        **{column: estimate(mean, figures[column]) for column in COLUMNS if column in figures},
        "pose_median": estimate(quantile(0.5), figures["pose_error"]),
        "pose_95": estimate(quantile(0.95), figures["pose_error"]),
    }
    minutes = np.mean([each["seconds"] for each in measured.values()]) / 60
    return {
        "overrides": list(unit.overrides),
        "minutes": round(float(minutes), 2),
        **{column: asdict(one) for column, one in estimates.items()},
    }


def markdown(rows: dict[str, Any], command: str) -> str:
    """The table, under the command that made it."""
    lines = [
        f"One thing changed at a time; mean [95 % interval] over scenes, seeds and states. Made by\n\n    {command}\n",
        f"| run | {' | '.join(COLUMNS)} | minutes |",
        f"| {' | '.join(['---'] * (len(COLUMNS) + 2))} |",
    ]
    for name, row in rows.items():
        cells = [str(Estimate(**row[column])) if column in row else "" for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['minutes']} |")
    return "\n".join(lines) + "\n"


def around_table(page: Path | None) -> tuple[str, str]:
    """What stands on `page` before and after the table; of a new page a heading. Raises BadInput without markers."""
    if page is None or not page.exists():
        return f"# Ablations\n{TABLE}\n", f"{TABLE_END}\n"
    before, start, rest = page.read_text().partition(f"{TABLE}\n")
    _, end, after = rest.partition(TABLE_END)
    if not (start and end):
        raise BadInput(f"{page} has no lines {TABLE} and {TABLE_END} for the table to stand between; add them")
    return before + start, end + after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings of train-editor, of every unit"
    )
    parser.add_argument("--domain", nargs="+", action="extend", help="scenes; those of the split for tuning")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--states", type=int, default=100)
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", help="these units")
    parser.add_argument(
        "--unit", action="append", nargs="+", metavar=("NAME", "KEY=VALUE"), help="one more unit"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    plan = Plan(states=arguments.states, overrides=tuple(arguments.overrides))
    domains = arguments.domain or domains_of("development")
    try:
        before, after = around_table(arguments.markdown)
        units = chosen_units(arguments.only, arguments.unit)
        rows: dict[str, Any] = {}
        for name, row in measure(arguments.work, plan, domains, units, arguments.seeds):
            rows[name] = row
            table, text = markdown(rows, f"python {shlex.join(sys.argv)}"), json.dumps(rows, indent=2)
            for path, content in ((arguments.json, text + "\n"), (arguments.markdown, before + table + after)):
                if path is not None:
                    path.write_text(content)
    except BadInput as error:
        parser.error(str(error))
    print(table, file=sys.stderr)
    print(text)


if __name__ == "__main__":
    main()
