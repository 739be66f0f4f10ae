"""Progress of long work: a bar with rate and time left on a terminal, plain lines otherwise.

Everything goes to stderr, so that stdout carries only results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_INTERVAL_S = 10.0


class Progress(Protocol):
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report `amount` more units done; `note` is shown beside them."""


class _NoProgress:
    def advance(self, amount: int = 1, note: str = "") -> None:
        pass


class _PlainProgress:
    def __init__(self, description: str, total: int, done: int, unit: str) -> None:
        self.description, self.total, self.done, self.unit = description, total, done, unit
        self.start = self.last = time.monotonic()
        self.first = done

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.last >= PLAIN_INTERVAL_S or self.done >= self.total:
            self.last = now
            rate = (self.done - self.first) / max(now - self.start, 1e-9)
            left = (self.total - self.done) / rate if rate else float("inf")
            print(
                f"{self.description}: {self.done}/{self.total} {self.unit}, "
                f"{rate:.3g} {self.unit}/s, {left:.0f} s left {note}".rstrip(),
                file=sys.stderr,
                flush=True,
            )


@contextmanager
def progress(
    description: str, total: int, done: int = 0, unit: str = "it", shown: bool = True
) -> Iterator[Progress]:
    """Show progress from `done` to `total` while the block runs; nothing unless `shown`."""
    if not shown:
        yield _NoProgress()
        return
    if not sys.stderr.isatty():
        yield _PlainProgress(description, total, done, unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, completed=done, rate="", note="")

        class _Bar:
            def advance(self, amount: int = 1, note: str = "") -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=amount, note=note, rate=f"{speed:.3g} {unit}/s" if speed else "")

        yield _Bar()


def say(message: str) -> None:
    """A line for the user, on stderr."""
    print(message, file=sys.stderr, flush=True)
