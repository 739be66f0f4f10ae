"""Metrics where people watch them: what TensorBoard reads back is what was logged, also after an interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.runs import RunFolder

CONFIG = OmegaConf.create({"seed": 0, "tracking": "tensorboard"})


def shown(run: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of what TensorBoard shows of a run under `name`."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]


def test_tensorboard_shows_what_is_logged_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", CONFIG)
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.125)):
        run.log(step, {"loss": loss, "note": "words are not drawn"})
    assert shown(run.path, "loss") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    again = RunFolder.open(tmp_path / "run", CONFIG)
    again.rewind(1)  # to its checkpoint
    again.log(2, {"loss": 0.3})
    assert shown(run.path, "loss") == [(1, 0.5), (2, 0.3)]


def test_parts_of_a_run_are_shown_apart(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "run", CONFIG)
    for part, loss in (("reader", 0.5), ("embedder", 0.25)):
        run.log(1, {"part": part, "loss": loss})
    assert shown(run.path, "reader/loss") == [(1, 0.5)]
    assert shown(run.path, "embedder/loss") == [(1, 0.25)]


def test_a_run_goes_on_with_another_tracker(tmp_path: Path) -> None:
    RunFolder.open(tmp_path / "run", OmegaConf.create({"seed": 0})).log(1, {"loss": 0.5})
    RunFolder.open(tmp_path / "run", CONFIG).log(2, {"loss": 0.25})
    assert shown(tmp_path / "run", "loss") == [(2, 0.25)]


def test_bad_names_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"unknown tracking 'tensorbord'. Did you mean 'tensorboard'\?"):
        RunFolder.open(tmp_path / "run", OmegaConf.create({"tracking": "tensorbord"}))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"tracking=wandb needs an extra: pip install 'sim2real-aug\[tracking\]'"):
        RunFolder.open(tmp_path / "run", OmegaConf.create({"tracking": "wandb"}))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_wandb_keeps_one_run_offline(tmp_path: Path) -> None:
    """Skipped where it is not installed. In a process of its own: it leaves another behind."""
    pytest.importorskip("wandb")
    script = (
        "from omegaconf import OmegaConf; from sim2real_aug.runs import RunFolder\n"
        "run = RunFolder.open('run', OmegaConf.create({'seed': 0, 'tracking': 'wandb'}))\n"
        "run.log(1, {'loss': 0.5}); run.log(2, {'loss': 0.25})"
    )
    for _ in range(2):
        variables = {**os.environ, "WANDB_MODE": "offline"}
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=variables, check=True)
    runs = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(runs) == 2
    assert len({path.name.rsplit("-", 1)[-1] for path in runs}) == 1  # one id
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").open()] == [1, 2, 1, 2]
