"""The full-size benchmark on tiny networks: every measurement runs, in the precision of a GPU too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from full_size import TINY, Machine, edits, our_seconds, random_editor

from sim2real_aug.d3po.work import pass_operations

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "full_size.py"
CPU = torch.device("cpu")


@pytest.mark.slow
def test_all_of_it(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, SCRIPT, "--tiny", "--batch", "2", "--conditions", "1", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(out.read_text())
    assert [(row["size"], row["batch"]) for row in result["edits"]] == [(32, 1), (32, 2)]
    assert result["frames"]["frames"] == 4
    split = result["round"]
    assert split["sampling"] + split["judging"] + split["updating"] == pytest.approx(split["seconds"], abs=0.03)


def test_in_the_precision_of_a_gpu() -> None:
    measured = edits(TINY, 32, 1, peak=1e9, machine=Machine(CPU, torch.bfloat16))
    assert measured["passes"] == 3, "of four: s_sty is s_og"
    assert measured["edits_per_second"] > 0
    assert measured["diffusers_edits_per_second"] > 0


def test_operations_grow_with_the_pixels() -> None:
    machine = Machine(CPU, torch.float32)
    small, large = (pass_operations(random_editor(TINY, size, machine)) for size in (32, 64))
    assert 3.5 * small < large < 6 * small, "four times the latents, and attention among them"
    _, counted = our_seconds(TINY, torch.rand(1, 3, 32, 32), machine)
    assert counted == small
