"""Runs the command line and turns what went wrong into one line and an exit code.

0 done; 1 a fault of ours or of the machine; 2 bad input; 130 interrupted (Ctrl-C).
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

# The order of the imports is the order of the commands in --help: the chain first.
from sim2real_aug.cli import (  # isort: skip
    demo,
    simulate,
    teleop,
    photos,
    train_editor,
    augment,
    train_policy,
    evaluate,
    gain,
    benchmark,
    inspect,
    report,
    convert,
    pretrain,
    distill,
    doctor,
)
from sim2real_aug.cli.common import app
from sim2real_aug.errors import BadInput, Fault

COMMAND_MODULES = (
    demo,
    simulate,
    teleop,
    photos,
    train_editor,
    augment,
    train_policy,
    evaluate,
    gain,
    benchmark,
    inspect,
    report,
    convert,
    pretrain,
    distill,
    doctor,
)
PROGRAM = "sim2real-aug"
# The libraries' own bars and advice; what a user must know, we say. A value that is set already stays.
QUIET = {
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
}


def _print_version(wanted: bool) -> None:
    if wanted:
        from sim2real_aug import __version__

        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Relabel simulated robot episodes so that they look like your lab, with every action label still valid.

    Start with: sim2real-aug demo. On your own data: sim2real-aug train-editor DATASET.zarr --photos DIR, then
    sim2real-aug augment DATASET.zarr --editor RUN. The same command run again continues interrupted work.
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")
    try:
        code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # the reader left: `sim2real-aug inspect store.zarr | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error)
    if code == 130:
        _say("interrupted; run the same command again to go on")
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    """Say in one line on stderr what went wrong; the exit code. Only the unforeseen has a traceback."""
    if isinstance(error, BadInput):
        _say(f"error: {error}")
        return 2
    if hasattr(error, "format_message"):  # a usage error of click, wherever typer keeps click these days
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else PROGRAM
        message = error.format_message().rstrip(".")
        _say(f"error: {message}{'' if message.endswith('?') else '.'} See {path} --help.")
        return 2
    if isinstance(error, PermissionError):
        _say(f"error: no permission: {error.filename or error}")
        return 2
    if not isinstance(error, Fault | OSError | MemoryError) and type(error).__name__ != "OutOfMemoryError":
        traceback.print_exception(error)
    _say(f"fault: {error if isinstance(error, Fault) else f'{type(error).__name__}: {error}'}")
    return 1


def _say(message: str) -> None:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr, flush=True)
