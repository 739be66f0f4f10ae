"""`sim2real-aug report RUN`: a run as one page to look at or to send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim2real_aug.cli.common import Call, Summary, command
from sim2real_aug.errors import BadInput


@command("report", writes=True)
def report(
    call: Call,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of any command.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page. [default: RUN/report.html]")] = None,
) -> Summary:
    """Show a run on one page: results, curves, pictures, configuration.

    The page is HTML and needs no other file; RUN/report.html is written anew each time.

    Example: sim2real-aug report runs/editor
    """
    from sim2real_aug.report.page import write_report

    if out is not None and out.exists() and not call.overwrite:
        raise BadInput(f"{out} exists; choose another file, or --overwrite to replace it")
    page = run / "report.html" if out is None else out
    return {"report": str(page), **write_report(run, page)}
