"""The engine `ray`: the same store as one process writes, and what goes wrong in a worker."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zarr

from sim2real_aug.augment.engine import augment, engine_of
from sim2real_aug.augment.on_ray import RayEngine
from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.augment.units import Engine, Unit, fill_here
from sim2real_aug.augment.work import Work
from sim2real_aug.config import compose
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput, Fault, MissingExtra

from ..tree import tree_hash
from .conftest import BrightnessJudge, editor_with_photos

ray = pytest.importorskip("ray")
SETTINGS = AugmentSettings(batch_size=4)


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    """One for all tests, apart from any that runs on this machine: its beginning takes seconds."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[BrightnessJudge.__module__])  # workers do not find tests
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    awake = {"worker_niceness": 0}  # at Ray's own 15 workers wait for the tests beside them
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _system_config=awake)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_cluster")
def test_the_store_is_the_one_that_a_single_process_writes(store: Path, editor: Editor, tmp_path: Path) -> None:
    whole, begun = tmp_path / "whole" / "out.zarr", tmp_path / "begun" / "out.zarr"
    augment(store, editor, whole, SETTINGS, judge=BrightnessJudge())

    def first_unit_only(work: Work, root: zarr.Group, units: Sequence[Unit]) -> Iterator[int]:
        yield from fill_here(work, root, units[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment(store, editor, begun, SETTINGS, judge=BrightnessJudge(), engine=first_unit_only)
    summary = augment(store, editor, begun, SETTINGS, judge=BrightnessJudge(), engine=RayEngine())
    assert summary["frames_edited_now"] == 13  # of 21 in chunks of 8
    assert tree_hash(begun) == tree_hash(whole)


def gives_nan(edit: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: edit(*inputs) * float("nan")


def dies(edit: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize(
    ("fault", "message"),
    [(gives_nan, r"^the editor gives NaN for frames \d+ to"), (dies, "^a worker ended, .* goes on where it stopped")],
)
def test_what_goes_wrong_in_a_worker_is_one_line_and_the_store_goes_on(
    store: Path, tmp_path: Path, fault: Callable[..., Any], message: str
) -> None:
    broken, out = editor_with_photos(), tmp_path / "out.zarr"
    broken.edit = fault(broken.edit)
    with pytest.raises(Fault, match=message):
        augment(store, broken, out, SETTINGS, engine=RayEngine(workers=1))
    assert not out.exists()
    assert augment(store, editor_with_photos(), out, SETTINGS)["frames_edited"] == 21


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(*overrides: str) -> Engine:
        return engine_of(compose("augment", overrides))

    assert engine() is fill_here
    assert engine("engine=ray", "workers=3") == RayEngine(3)
    for overrides, message in {
        ("engine=rays",): r"unknown engine 'rays'. Did you mean 'ray'\?",
        ("engine=ray", "workers=0"): "workers must be at least 1, or null; got 0",
        ("engine=ray", "workers=two"): "workers must be a whole number; got 'two'",
        ("workers=2",): "workers=2 is for engine=ray; engine=local is one process",
    }.items():
        with pytest.raises(BadInput, match=message):
            engine(*overrides)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"--engine ray needs an extra: pip install 'sim2real-aug\[ray\]'"):
        engine("engine=ray")


def test_errors_come_from_workers_as_they_are() -> None:
    for error in (BadInput("what"), Fault("what"), MissingExtra("that", "ray")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
