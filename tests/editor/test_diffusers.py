"""A saved editor is one that diffusers reads, and that runs no code of its folder when we read it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.editor.editor import Editor

from ..tiny_editor import SIZE, build_editor

READ_BY_DIFFUSERS = """
import sys
import numpy as np
from diffusers import DiffusionPipeline

editor = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
np.save(sys.argv[2], editor(np.load(sys.argv[2])))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    editor = build_editor()
    editor.photos = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    editor.save_pretrained(tmp_path / "editor")
    return tmp_path / "editor"


def frames() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def test_diffusers_reads_it_where_nothing_of_ours_is_imported(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", frames())
    variables = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", READ_BY_DIFFUSERS, str(folder), str(tmp_path / "frames.npy")]
    subprocess.run(words, check=True, env=variables, cwd=tmp_path, capture_output=True)
    expected = Editor.from_pretrained(folder)(frames())
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy"), expected)


def test_diffusers_asks_for_the_argument(folder: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(folder)


def test_we_run_nothing_of_the_folder(folder: Path) -> None:
    for file in folder.rglob("*.py"):
        file.write_text("raise SystemExit('run')\n")
    assert Editor.from_pretrained(folder)(frames()).shape == (3, SIZE, SIZE, 3)


def test_a_save_of_before_is_read_and_has_the_same_hash(folder: Path) -> None:
    new = Editor.from_pretrained(folder)
    for file in folder.rglob("*.py"):
        file.unlink()
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline", "Editor"]
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "Editor"}))
    old = Editor.from_pretrained(folder)
    assert weights_hash(old.components) == weights_hash(new.components)
    np.testing.assert_array_equal(old(frames()), new(frames()))


def test_photos_that_are_taken_away_stay_away(folder: Path, tmp_path: Path) -> None:
    editor = Editor.from_pretrained(folder)
    editor.photos = None
    editor.save_pretrained(tmp_path / "bare")
    assert Editor.from_pretrained(tmp_path / "bare").photos is None
    assert not (tmp_path / "bare" / "photos").exists()


def test_both_of_diffusers_names_of_the_dtype_are_heard(tmp_path: Path) -> None:
    build_editor().save_pretrained(tmp_path)
    for name in ("dtype", "torch_dtype"):
        editor = Editor.from_pretrained(tmp_path, **{name: torch.bfloat16})
        assert {editor.unet.dtype, editor.vae.dtype, editor.fusion.dtype} == {torch.bfloat16}
