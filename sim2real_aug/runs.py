"""A run folder: config.yaml, metrics.jsonl, checkpoints/, summary.json and pictures.

The same command run again continues where the last checkpoint stands: `RunFolder.open` refuses a folder
made with another configuration, `rewind` drops metrics logged after the checkpoint that is resumed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim2real_aug.errors import BadInput
from sim2real_aug.progress import say
from sim2real_aug.tracking import Tracker, numbers, open_tracker, require_tracker

if TYPE_CHECKING:
    from omegaconf import DictConfig


def write_text_atomically(path: Path, text: str) -> None:
    """Write so that a reader or a crash never sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def save_atomically(content: Any, path: Path) -> None:
    """torch.save, so that a crash leaves the old file or the new one, never half."""
    import torch

    temporary = path.with_name(f".{path.name}.partial")
    torch.save(content, temporary)
    temporary.replace(path)


class RunFolder:
    """One run on disk. Build it with `open`."""

    def __init__(self, path: Path, tracking: str | None = None) -> None:
        """tracking: see `sim2real_aug.tracking`."""
        self.path, self.tracking = path, tracking
        self._tracker: Tracker | None = None

    @classmethod
    def open(
        cls, path: str | Path, config: DictConfig, overwrite: bool = False, free: Iterable[str] = ()
    ) -> RunFolder:
        """Create the folder, or take it up again when it was made with the same `config`.

        overwrite: remove what a run of the same kind left there, of this version or one with fewer keys.
        free: dotted keys, or patterns of them as `stages.*.device`, whose values may be others than when it began.
        A configuration with a key `tracking` says where metrics are shown, and may be another, too.
        Raises BadInput for a folder that is not a run or whose configuration differs.
        """
        from omegaconf import OmegaConf

        run = cls(Path(path), config.tracking if "tracking" in config else None)
        require_tracker(run.tracking)
        saved = run.path / "config.yaml"
        if run.path.exists() and not run.path.is_dir():
            raise BadInput(f"{run.path} is a file; choose a folder")
        if overwrite and saved.is_file():
            if not _same_kind(saved, config):  # --out may be a folder of the user's, or another command's run
                raise BadInput(
                    f"{run.path} holds a config.yaml with other keys than this command writes; "
                    "--overwrite replaces its own runs only: choose another folder"
                )
            shutil.rmtree(run.path)
        if run.path.exists() and any(run.path.iterdir()):
            if not saved.is_file():
                raise BadInput(f"{run.path} exists and is not a run folder (no config.yaml); choose another folder")
            differing, anyway = differing_keys(OmegaConf.load(saved), config), (*free, "tracking")
            changed = [key for key in differing if not is_one_of(key, anyway)]
            if changed:
                again = ", remove it, or --overwrite to start again" if _same_kind(saved, config) else ""
                raise BadInput(
                    f"{run.path} holds a run made with another {', '.join(changed)}; choose another folder{again}"
                )
        else:
            run.path.mkdir(parents=True, exist_ok=True)
            write_text_atomically(saved, OmegaConf.to_yaml(config, resolve=True))
        return run

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint `name` goes; its folder is there."""
        self.checkpoints.mkdir(exist_ok=True)
        return self.checkpoints / name

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def summary_path(self) -> Path:
        return self.path / "summary.json"

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, and show it where `tracking` says."""
        with self.metrics_path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        if self.tracking is None:
            return
        if self._tracker is None:
            self._tracker = open_tracker(self.tracking, self.path, None if "part" in metrics else step)
        self._tracker.log(step, numbers(metrics))

    def metrics(self) -> list[dict[str, Any]]:
        if not self.metrics_path.exists():
            return []
        lines = self.metrics_path.read_text().split("\n")[:-1]  # a last line without newline was cut short
        return [_parsed(line, self.metrics_path) for line in lines]

    def rewind(self, step: int, part: str | None = None) -> None:
        """Keep only what was logged up to and including `step`; of a run whose parts count their own steps, `part`
        alone is rewound."""
        lines = [(line, part is None or line.get("part") == part) for line in self.metrics()]
        kept = [line for line, counts in lines if not counts or line["step"] <= step]
        write_text_atomically(self.metrics_path, "".join(json.dumps(line) + "\n" for line in kept))

    @property
    def is_finished(self) -> bool:
        return self.summary_path.exists()

    def summary(self) -> dict[str, Any] | None:
        """The summary of a finished run, None while it is unfinished."""
        return _parsed(self.summary_path.read_text(), self.summary_path) if self.is_finished else None

    def already_done(self) -> dict[str, Any] | None:
        """The summary of a finished run, after telling the user so; None while there is work left."""
        if self.is_finished:
            say(f"{self.path} is finished; --overwrite starts again")
        return self.summary()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_text_atomically(self.summary_path, json.dumps(summary, indent=2) + "\n")


def _parsed(text: str, place: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{place} is damaged ({error}); remove it and run the command again") from error


def _same_kind(saved: Path, config: DictConfig) -> bool:
    """Whether `saved` is YAML with the top-level keys of `config`, whatever their values; some of these, fewer than
    half, may be younger than `saved`. A subset alone would take any file that holds a seed."""
    from omegaconf import OmegaConf

    try:
        old = OmegaConf.load(saved)
    except Exception:  # not YAML that omegaconf can read: the parsers raise many kinds
        return False
    return OmegaConf.is_dict(old) and set(old) <= set(config) and 2 * len(old) > len(config)


def is_one_of(key: str, patterns: Iterable[str]) -> bool:
    """Whether a dotted key is one of `patterns`, in which * stands for anything, dots too."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def differing_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted names of the keys whose values differ between two configurations."""
    from omegaconf import OmegaConf

    def plain(config: Any) -> Any:
        return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config

    old, new = plain(old), plain(new)
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [prefix]
    names = [key for key in sorted({*old, *new}, key=str)]
    return [
        found
        for key in names
        for found in differing_keys(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
    ]
