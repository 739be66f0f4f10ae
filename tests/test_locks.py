"""One writer at a time, among real processes."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer

import pytest

from sim2real_aug.errors import BadInput
from sim2real_aug.locks import held

FORK = multiprocessing.get_context("fork")  # a new interpreter would not find this module


def hold_until_told(place: Path, pipe: Connection) -> None:
    try:
        with held(place):
            pipe.send("held")
            pipe.recv()
        pipe.send("given up")
    except BadInput as error:
        pipe.send(str(error))
    except EOFError:  # the test is over
        pass


def another(place: Path) -> tuple[multiprocessing.Process, Connection]:
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=hold_until_told, args=(place, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    place = tmp_path / "new/run"
    process, pipe = another(place)
    assert pipe.recv() == "held"
    with pytest.raises(BadInput, match=rf"new/run is being written by process {process.pid} on .*; wait"), held(place):
        pass
    with held(tmp_path / "new/other"):
        pass
    pipe.send("end")
    assert pipe.recv() == "given up"
    with held(place):
        assert [path.name for path in place.parent.iterdir()] == [".run.lock"]
        place.mkdir()
    assert list(place.parent.iterdir()) == [place]
    with held(tmp_path / "as/it/was"):
        assert (tmp_path / "as/it/.was.lock").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_who_waits_goes_on_when_the_first_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process, pipe = another(tmp_path / "run")
    assert pipe.recv() == "held"
    Timer(0.3, pipe.send, ["end"]).start()
    with held(tmp_path / "run", wait=True):
        assert pipe.recv() == "given up"
        assert f"run is being made by process {process.pid}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    process, pipe = another(tmp_path / "run")
    assert pipe.recv() == "held"
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)
    assert (tmp_path / ".run.lock").exists()
    with held(tmp_path / "run"):
        _, second = another(tmp_path / "run")
        assert f"process {os.getpid()} " in second.recv()


def test_where_nothing_can_be_written_nothing_is_held(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with held(tmp_path / "file/run"):
        pass
