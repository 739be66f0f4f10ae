"""A tiny random InstructPix2Pix checkpoint of the real classes, in the real layout."""

from pathlib import Path

import pytest

from ..tiny_pix2pix import instruct_pix2pix


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instruct-pix2pix")
    instruct_pix2pix().save_pretrained(folder)
    return folder
