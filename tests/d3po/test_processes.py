"""One run by two processes: the same metrics as by one, written once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sim2real_aug.d3po.processes import collect, join_processes, own, require_work, sum_gradients
from sim2real_aug.errors import BadInput

SMALL = [
    "device=cpu", "simulate.settings.episodes=2", "simulate.settings.max_steps=6", "d3po.rounds=2",
    "d3po.conditions_per_round=3", "d3po.trajectories_per_condition=2", "d3po.num_inference_steps=2",
    "d3po.train_timesteps=1", "d3po.updates_per_round=2", "d3po.held_out_frames=3", "d3po.evaluate_every=1",
    "d3po.learning_rate=1e-3", "d3po.ema_decay=0.9",
]  # fmt: skip


def train(out: Path, editor: Path, launcher: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*launcher, "-m", "sim2real_aug", "train-editor", "--out", str(out), "--json", *SMALL]
    places = [f"editor.path={editor}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # Elsewhere than in the checkout, whose folder would be imported in place of what is installed.
    words, where = [sys.executable, *command, *places], out.parent
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, cwd=where)


def test_two_processes_give_the_metrics_of_one(editor_folder: Path, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    alone = train(tmp_path / "alone", editor_folder, [])
    assert alone.returncode == 0, alone.stderr
    both = train(tmp_path / "both", editor_folder, launcher)
    assert both.returncode == 0, both.stderr
    summary = json.loads(both.stdout)
    assert (summary["processes"], summary["rounds"]) == (2, 2), "one document, from the main process"
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").open()] for run in ("alone", "both")
    ]
    assert len(lines[1]) == 3, "each round is logged once"
    for one, two in zip(*lines, strict=True):
        for part in (one, two):
            part.pop("implicit_accuracy", None)  # counts signs: of what is 0 but for rounding, in the first update
        totals = [part.pop("held_out_total") for part in (one, two)]  # in units of a spread that is tiny here
        assert totals[1] == pytest.approx(totals[0], abs=1e-3)
        assert two == pytest.approx(one, rel=1e-3, abs=2e-5)
    assert lines[0][2]["approx_kl"] > 0, "the second round saw the first one's weights"


def test_a_single_process_does_everything() -> None:
    join_processes("cpu")
    assert own(3).tolist() == [0, 1, 2]
    scores = torch.tensor([[1.0], [2.0]])
    assert torch.equal(collect(scores, 2), scores)
    parameter = torch.nn.Parameter(torch.zeros(2))
    sum_gradients([parameter])
    assert parameter.grad is None
    require_work(conditions_per_round=1)
    with pytest.raises(
        BadInput, match=r"conditions_per_round must be at least the number of processes, 1; got 0"
    ):
        require_work(conditions_per_round=0)


def test_several_processes_cannot_share_a_device_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="auto, cpu, cuda; got 'cuda:1'"):
        join_processes("cuda:1")
