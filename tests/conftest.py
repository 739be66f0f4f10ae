"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder beside the repository (or SIM2REAL_AUG_DATA); its tests are skipped without it."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    path = Path(os.environ.get("SIM2REAL_AUG_DATA", default))
    if not path.is_dir():
        pytest.skip(f"no data folder at {path}; set SIM2REAL_AUG_DATA")
    return path
