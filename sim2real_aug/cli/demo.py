"""`sim2real-aug demo`: the whole chain on embedded defaults, to a table, a picture and summary.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sim2real_aug.cli.common import Call, Summary, command

COLUMNS = {"mean_max_coverage": "max coverage", "success_rate": "success rate"}


def show(summary: Summary) -> None:
    """The table of arms and metrics, then what it is about and where things lie."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("trained on", "evaluated in", *COLUMNS.values(), box=SIMPLE_HEAD)
    for domain in summary["domains"]:
        for arm, by_domain in summary["arms"].items():
            table.add_row(arm, domain, *[_cell(by_domain[domain], name) for name in COLUMNS])
        table.add_section()
    Console().print("Policies in closed loop: mean (95 % interval)", table)
    seconds, budget = summary["seconds"], summary["budget_seconds"]
    typer.echo(f"gap closed (of max coverage in {summary['domains'][0]}): {_gap(summary)}")
    typer.echo(summary["note"])
    typer.echo(f"time:    {sum(seconds.values()):.0f} s; the budget is {sum(budget.values())} s")
    late = [name for name in seconds if seconds[name] > budget[name]]
    if late:
        typer.echo(f"         over their budget: {', '.join(late)}")
    typer.echo(f"picture: {summary['picture']} (source | visual prompt | edit | the scene itself)")
    typer.echo(f"summary: {summary['path']}")


def _cell(result: dict[str, Any], name: str) -> str:
    low, high = result[f"{name}_interval"]
    return f"{result[name]:.2f} ({low:.2f} to {high:.2f})"


def _gap(summary: Summary) -> str:
    """The share of the gap that is closed, where there is a gap that these few episodes can show."""
    if summary["gap_closed"] is None:
        return "not defined: here the oracle is no better than sim-only"
    measured = {arm: by_domain[summary["domains"][0]] for arm, by_domain in summary["arms"].items()}
    key = "mean_max_coverage_interval"
    if measured["oracle"][key][0] <= measured["sim-only"][key][1]:
        return "cannot be told: the intervals of oracle and sim-only overlap after so short a training"
    return f"{summary['gap_closed']:.0%}"


@command("demo", config="demo", writes=True, show=show)
def demo(
    call: Call,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder.")] = Path("runs/demo"),
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
) -> Summary:
    """Run the whole chain, in at most 20 minutes on 2 cores.

    Simulate, take photos, train the editor, augment, train three policies, evaluate them: sim-only, edited
    frames, and the oracle that learns from the real domain itself. The real domain is a randomized scene
    that pretraining has not seen, not a photo of a real bench. Run it again to continue.

    Example: sim2real-aug demo
    """
    config = call.compose({"seed": seed}, out=out)
    from sim2real_aug.cli.demo_stages import run_demo

    return run_demo(config, out, call.overwrite)
