"""Benchmarks are scripts: their folder is put where they find each other. And the smallest run of D3PO."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.insert(0, str(BENCHMARKS))

TINY = (
    "device=cpu",
    "d3po.rounds=1",
    "d3po.conditions_per_round=1",
    "d3po.trajectories_per_condition=2",
    "d3po.num_inference_steps=2",
    "d3po.train_timesteps=1",
    "d3po.held_out_frames=1",
)
