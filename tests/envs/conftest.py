"""Where the tests of envs/ find what is not in the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def published_store() -> Path:
    """The published Push-T demonstrations, in SIM2REAL_AUG_DATA or the folder beside the repository."""
    data = Path(os.environ.get("SIM2REAL_AUG_DATA", REPOSITORY.parent / "shared" / "data"))
    path = data / "pusht_cchi_v7_replay.zarr"
    if not path.is_dir():
        pytest.skip(f"no published demonstrations at {path}; set SIM2REAL_AUG_DATA")
    return path
