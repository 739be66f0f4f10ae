"""What can go wrong, and the exit code that the command line gives it.

    Sim2RealError
    ├── BadInput        exit 2   the user can mend it: what is wrong, where, what would be right
    │   └── MissingExtra         an optional dependency is not installed: the exact pip command
    └── Fault           exit 1   ours to mend, or the machine's
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Sim2RealError(Exception):
    """Base of every error raised on purpose."""


class BadInput(Sim2RealError, ValueError):
    """The message is one line that names the argument, the received value and the accepted ones."""


class MissingExtra(BadInput):
    """An optional dependency is missing."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'sim2real-aug[{extra}]'")
        self.feature, self.extra = feature, extra

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return MissingExtra, (self.feature, self.extra)


class Fault(Sim2RealError):
    """The run cannot go on, through no fault of the input."""


def below_least(settings: object, **least: float) -> list[str]:
    """A line for each attribute of `settings` that is less than `least` says; None is not set and passes."""
    return [
        f"{name} must be at least {bound}; got {value}"
        for name, bound in least.items()
        if (value := getattr(settings, name)) is not None and value < bound
    ]


def unknown_name(kind: str, name: str, accepted: Iterable[str]) -> BadInput:
    """The error for a name that is not one of `accepted`, with the nearest one."""
    names = sorted(accepted)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return BadInput(f"unknown {kind} '{name}'.{hint} Known: {', '.join(names)}.")
