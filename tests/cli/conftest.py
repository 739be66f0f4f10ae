"""The command line as a user types it: `cli("inspect", "sim.zarr")`, in a process and a folder of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.data import ReplayBufferWriter

SCRIPT = Path(sys.executable).with_name("sim2real-aug")


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command in `tmp_path`; one thread, since tests run beside each other."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def begin(*words: object) -> subprocess.Popen[str]:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen([str(word) for word in (SCRIPT, *words)], cwd=tmp_path, env=variables, **pipes)

    return begin


@pytest.fixture
def cli(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command to its end."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        process = start(*words)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two episodes, of 3 and 2 frames."""
    path = tmp_path / "tiny.zarr"
    with ReplayBufferWriter.create(path) as writer:
        for length in (3, 2):
            writer.append_episode(
                {
                    "img": np.full((length, 96, 96, 3), length, np.uint8),
                    "state": np.full((length, 5), 100, np.float32),
                    "action": np.full((length, 2), 200, np.float32),
                }
            )
    return path
