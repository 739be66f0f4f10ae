"""One folder of each tiny checkpoint for all tests of the judges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the folders depth_anything, grounding_dino, sam2, dinov2 and clip; see `tiny`."""
    from . import tiny

    root = tmp_path_factory.mktemp("checkpoints")
    for name in ("depth_anything", "grounding_dino", "sam2", "dinov2", "clip"):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            getattr(tiny, f"save_{name}")(root / name)
    return root
