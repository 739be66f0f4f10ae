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

    table = Table("trained on", "evaluated in", *COLUMNS.values(), "action error", box=SIMPLE_HEAD)
    for domain in summary["domains"]:
        for arm, by_domain in summary["arms"].items():
            found = by_domain[domain]
            cells = [_cell(found, name) for name in COLUMNS]
            table.add_row(arm, domain, *cells, f"{found['action_error']:.0f}")
        table.add_section()
    Console().print(
        "Policies in closed loop: mean (95 % interval); action error: distance to the actions of demonstrations that "
        "were held out, of 512 window units",
        table,
    )
    seconds, budget = summary["seconds"], summary["budget_seconds"]
    real, closed = summary["domains"][0], summary["gap_closed"]
    typer.echo(f"gap closed in {real}: {_gap(closed['action_error'])} of the action error, {_coverage_gap(summary)}")
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


def _gap(closed: float | None) -> str:
    return "none (the oracle is no better than sim-only)" if closed is None else f"{closed:.0%}"


def _coverage_gap(summary: Summary) -> str:
    """The share of the gap of max coverage, where there is a gap that these few episodes can show."""
    measured = {arm: by_domain[summary["domains"][0]] for arm, by_domain in summary["arms"].items()}
    key = "mean_max_coverage_interval"
    if measured["oracle"][key][0] <= measured["sim-only"][key][1]:
        return "of max coverage it cannot be told (after so short a training oracle and sim-only overlap)"
    return f"{_gap(summary['gap_closed']['mean_max_coverage'])} of max coverage"


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
