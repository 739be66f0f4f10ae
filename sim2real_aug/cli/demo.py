"""`sim2real-aug demo`: the whole chain on embedded defaults, to a table, a picture and summary.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sim2real_aug.cli.common import Call, Summary, command

COLUMNS = {"mean_max_coverage": "max coverage", "success_rate": "success"}


def show(summary: Summary) -> None:
    """The table of arms and metrics, then what it is about and where things lie."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Policies in closed loop: mean [95 % interval]", title_justify="left")
    table.add_column("trained on")
    for domain in summary["domains"]:
        for column in COLUMNS.values():
            table.add_column(f"{column}, {domain}", justify="right")
    for arm, by_domain in summary["arms"].items():
        cells = [_cell(by_domain[domain], name) for domain in summary["domains"] for name in COLUMNS]
        table.add_row(arm, *cells)
    Console().print(table)
    gap, seconds, budget = summary["gap_closed"], summary["seconds"], summary["budget_seconds"]
    unclear = "not defined: here the oracle is no better than sim-only"
    share = unclear if gap is None else f"{gap:.0%}"
    typer.echo(f"gap closed (of max coverage, {summary['domains'][0]}): {share}")
    typer.echo(summary["note"])
    typer.echo(f"time:    {sum(seconds.values()):.0f} s; the budget is {sum(budget.values())} s")
    late = [name for name in seconds if seconds[name] > budget[name]]
    if late:
        typer.echo(f"         over their budget: {', '.join(late)}")
    typer.echo(f"picture: {summary['picture']} (source | visual prompt | edit | the scene itself)")
    typer.echo(f"summary: {summary['path']}")


def _cell(result: dict[str, Any], name: str) -> str:
    low, high = result[f"{name}_interval"]
    return f"{result[name]:.2f} [{low:.2f}, {high:.2f}]"


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
