"""`sim2real-aug demo`: the whole chain on embedded defaults, to a table, a picture and summary.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sim2real_aug.cli.common import Call, Summary, command


def show(summary: Summary) -> None:
    """The table of arms and figures, then what it is about and where things lie."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("trained on", "evaluated in", "max coverage", "success", "action error", box=SIMPLE_HEAD)
    for domain in summary["domains"]:
        for arm, by_domain in summary["arms"].items():
            table.add_row(arm, domain, *_cells(by_domain[domain]))
        table.add_section()
    Console().print("Policies in closed loop: mean (95 % interval)", table)
    typer.echo("action error: from the actions of held-out demonstrations, of 512 window units")
    typer.echo(f"gap closed in {summary['domains'][0]}")
    typer.echo(f"    of the action error: {_gap(summary['gap_closed']['action_error'])}")
    typer.echo(f"    of max coverage:     {_coverage_gap(summary)}")
    typer.echo(summary["note"])
    seconds, budget = summary["seconds"], summary["budget_seconds"]
    typer.echo(f"time:    {sum(seconds.values()):.0f} s; the budget is {sum(budget.values())} s")
    late = [name for name in seconds if seconds[name] > budget[name]]
    if late:
        typer.echo(f"         over their budget: {', '.join(late)}")
    typer.echo(f"picture: {summary['picture']} (source | visual prompt | edit | the scene itself)")
    typer.echo(f"summary: {summary['path']}")


def _cells(found: dict[str, Any]) -> tuple[str, str, str]:
    low, high = found["mean_max_coverage_interval"]
    succeeded = round(found["success_rate"] * found["episodes"])
    return (
        f"{found['mean_max_coverage']:.2f} ({low:.2f} to {high:.2f})",
        f"{succeeded} of {found['episodes']}",
        f"{found['action_error']:.0f}",
    )


def _gap(closed: float | None) -> str:
    return "not defined: here the oracle is no better than sim-only" if closed is None else f"{closed:.0%}"


def _coverage_gap(summary: Summary) -> str:
    """The share of the gap of max coverage, where there is a gap that these few episodes can show."""
    measured = {arm: by_domain[summary["domains"][0]] for arm, by_domain in summary["arms"].items()}
    key = "mean_max_coverage_interval"
    if measured["oracle"][key][0] <= measured["sim-only"][key][1]:
        return "cannot be told: the intervals of oracle and sim-only overlap after so short a training"
    return _gap(summary["gap_closed"]["mean_max_coverage"])


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
