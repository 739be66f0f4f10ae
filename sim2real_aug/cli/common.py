"""What every command has in common: options, trailing hydra overrides, --dry-run and the printed result.

A command is a function whose first parameter is the `Call` and which returns its summary, a dict that can be
printed as JSON:

    @command("augment", config="augment")
    def augment(call: Call, dataset: str, out: Path | None = None) -> Summary: ...

`command` adds the common options to it. Errors and exit codes are in `app`.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sim2real_aug.errors import BadInput
from sim2real_aug.locks import held

if TYPE_CHECKING:
    from omegaconf import DictConfig

Summary = dict[str, Any]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # plain help: loading rich would double its time
    context_settings={"help_option_names": ["-h", "--help"]},
)

# key=value, +key=value, ~key, group@package=value: what hydra takes for an override.
_OVERRIDE = re.compile(r"^(~[\w./@-]+$|\+{0,2}[A-Za-z_][\w./@-]*=)")

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "overwrite": (
        Annotated[bool, typer.Option("--overwrite", help="Start again where the output exists already.")],
        False,
    ),
    "config_dir": (
        Annotated[
            Path | None, typer.Option(metavar="DIR", help="Your own configuration groups, before ours.")
        ],
        None,
    ),
    "dry_run": (
        Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")],
        False,
    ),
    "as_json": (Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")], False),
    "overrides": (
        Annotated[
            list[str] | None,
            typer.Argument(metavar="KEY=VALUE", help="Hydra overrides; --dry-run shows the keys."),
        ],
        None,
    ),
}


class _DryRun(Exception):
    """Carries the resolved configuration from `Call.compose` to the end of the command."""

    def __init__(self, config: DictConfig, places: Mapping[str, object]) -> None:
        super().__init__()
        self.config, self.places = config, places


@dataclass(frozen=True)
class Call:
    """One use of a command: the options that all commands share."""

    config: str | None = None
    overrides: tuple[str, ...] = ()
    config_dir: Path | None = None
    overwrite: bool = False
    dry_run: bool = False
    as_json: bool = False
    alone: bool = False
    until_end: ExitStack = field(default_factory=ExitStack)

    def compose(self, options: Mapping[str, object], **places: object) -> DictConfig:
        """The configuration with what was typed: `options` by key (None: not typed), then the overrides.

        A configuration with a key `config_dir` learns where --config-dir is: scenes are looked up there too.
        With --dry-run the command ends here: the configuration is printed, with `places` (dataset, out, ...). A place
        `out` is held until the command ends: BadInput where another process writes there.
        """
        from sim2real_aug.config import as_override, compose

        assert self.config is not None, "a command without a configuration does not compose one"
        typed = [as_override(key, value) for key, value in options.items() if value is not None]
        config = compose(self.config, [*typed, *self.overrides], self.config_dir)
        for key in places:
            if isinstance(config.get(key), str):  # benchmark has a number of that name, too
                raise BadInput(
                    f"'{key}={config[key]}' is no setting: the command sets {key} itself, from its argument or --{key}"
                )
        if self.config_dir is not None and "config_dir" in config:
            config.config_dir = str(self.config_dir)
        if self.dry_run:
            raise _DryRun(config, places)
        if "out" in places:
            self.hold(str(places["out"]))
        return config

    def hold(self, out: str | Path) -> None:
        """See `compose`. Of several processes that share a command (torchrun, accelerate) the first one holds it.

        Raises BadInput for a URL, which a Path has made `s3:/bucket/...`, and for what nothing can be written to.
        """
        if re.match(r"\w+:/", str(out)):
            raise BadInput(f"{out} is a URL; what a command writes goes to this machine's disk: give a path")
        place = Path(out).expanduser()
        there = next(path for path in (place, *place.absolute().parents) if path.exists())
        if there != place and not (there.is_dir() and os.access(there, os.W_OK)):
            raise BadInput(f"{out} cannot be written: {there} is no folder that can be; choose another place")
        if self.alone and os.environ.get("RANK", "0") == "0":
            self.until_end.enter_context(held(place))


def location(text: str) -> str | Path:
    """A store's place: a URL stays text, anything else is a path."""
    return text if "://" in text else Path(text).expanduser()


def show_summary(summary: Mapping[str, Any]) -> None:
    """Print a summary for a reader: one aligned line a value; long lists and records stay in the JSON."""
    lines = {key: _for_reader(value) for key, value in summary.items()}
    width = max((len(key) for key, text in lines.items() if text is not None), default=0)
    for key, text in lines.items():
        if text is not None:
            typer.echo(f"{key.replace('_', ' '):{width}}  {text}")


def _for_reader(value: object) -> str | None:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str | int | Path):
        return str(value)
    if isinstance(value, list | tuple) and len(value) <= 4:
        texts = [_for_reader(item) for item in value]
        return None if None in texts else ", ".join(filter(None, texts))
    return None


def as_json(value: object) -> str:
    """One JSON document; numpy becomes numbers, a path text; NaN and infinity, which JSON lacks, null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def command(
    name: str,
    config: str | None = None,
    writes: bool = False,
    alone: bool = True,
    show: Callable[[Summary], None] = show_summary,
) -> Callable[[Callable[..., Summary]], Callable[..., Summary]]:
    """Register `function(call, ...) -> Summary` as the command `name`, with the common options added.

    config: the configuration's name, for commands that compose one: adds --config-dir, --dry-run, overrides.
    writes: adds --overwrite. alone: no other process may write to the same output at a time.
    show: prints the summary for a reader, in place of --json.
    A summary whose `ok` is False gives exit code 1.
    """
    added = ["overwrite"] * writes + ["config_dir", "dry_run"] * (config is not None) + ["as_json"]
    added += ["overrides"] * (config is not None)

    def register(function: Callable[..., Summary]) -> Callable[..., Summary]:
        hints = get_type_hints(function, include_extras=True)
        own = list(inspect.signature(function).parameters.values())[1:]

        def run(**values: Any) -> None:
            common = {key: values.pop(key) for key in added}
            common["overrides"] = _collect_overrides(own, values, common.get("overrides") or [])
            call = Call(config=config, alone=writes and alone, **common)
            try:
                with call.until_end:
                    summary = function(call, **values)
            except _DryRun as dry:
                return _print_dry_run(dry, call.as_json)
            typer.echo(as_json(summary)) if call.as_json else show(summary)
            if summary.get("ok") is False:
                raise typer.Exit(1)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [p.replace(kind=keyword, annotation=hints[p.name]) for p in own]
        for key in added:
            annotation, default = _OPTIONS[key]
            parameters.append(inspect.Parameter(key, keyword, default=default, annotation=annotation))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__doc__, run.__name__, run.__module__ = function.__doc__, function.__name__, function.__module__
        app.command(name)(run)
        return function

    return register


def _collect_overrides(
    own: list[inspect.Parameter], values: dict[str, Any], trailing: list[str]
) -> tuple[str, ...]:
    """The trailing words as overrides; one that fell into an optional positional argument is taken back."""
    fallen = []
    for parameter in own:
        value = values[parameter.name]
        optional = parameter.default is None
        if optional and isinstance(value, str) and _OVERRIDE.match(value) and not Path(value).exists():
            fallen.append(value)
            values[parameter.name] = None
    for word in trailing:
        if not _OVERRIDE.match(word):
            raise BadInput(f"unexpected argument '{word}': only overrides such as seed=1 may follow")
    return (*fallen, *trailing)


def _print_dry_run(dry: _DryRun, json_wanted: bool) -> None:
    from omegaconf import OmegaConf

    if json_wanted:
        typer.echo(as_json({**dry.places, "config": OmegaConf.to_container(dry.config)}))
        return
    for key, value in dry.places.items():
        typer.echo(f"# {key}: {value}")
    typer.echo(OmegaConf.to_yaml(dry.config).rstrip())
