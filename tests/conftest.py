"""Fixtures of the whole suite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SEQUENCES, STEPS = 20, 100
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a suite in the background of a script; commands inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder beside the repository (or SIM2REAL_AUG_DATA); its tests are skipped without it."""
    default = REPOSITORY.parent / "shared" / "data"
    path = Path(os.environ.get("SIM2REAL_AUG_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no data folder at {path}; set SIM2REAL_AUG_DATA")
    return path


@pytest.fixture(scope="session")
def gym_pusht_episodes() -> list[dict[str, Any]]:
    """Twenty sequences of a hundred actions in gym-pusht, by the python of its own environment (GYM_PUSHT_VENV),
    which `make environment` creates: seed, start, actions, poses, rewards, coverages and contacts of each."""
    python = Path(os.environ.get("GYM_PUSHT_VENV", REPOSITORY / ".venv-gym-pusht")) / "bin" / "python"
    if not python.exists():
        message = f"no gym-pusht at {python}; run `make environment`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    script = Path(__file__).with_name("gym_pusht_rollouts.py")
    command = [str(python), str(script), str(SEQUENCES), str(STEPS)]
    episodes: list[dict[str, Any]] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
    )
    return episodes
