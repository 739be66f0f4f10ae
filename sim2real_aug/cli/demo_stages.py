"""The stages of the demo, each a function from the demo's folder and configuration to a result.

    simulate -> oracle, photos -> train-editor -> augment -> train-policy (three arms) -> evaluate -> report

A finished stage leaves stages/NAME.json and is not run again; one that was cut off is taken up by the command
that it calls. The arms share architecture, budget and seed and differ in their frames only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from sim2real_aug.augment.settings import episode_range
from sim2real_aug.augment.work import photos_of_episode
from sim2real_aug.cli.common import as_json
from sim2real_aug.config import settings
from sim2real_aug.data import ReplayBuffer, load_photos
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.gain.arms import ORACLE, SIM_ONLY, SPECIALIST, Unit
from sim2real_aug.gain.experiment import Experiment
from sim2real_aug.gain.materials import Edits, Episodes, Photographs, Redrawn, Specialist
from sim2real_aug.gain.table import gap_closed
from sim2real_aug.gain.trials import Policy
from sim2real_aug.policies.demonstrations import HELD_OUT, load_demonstrations, open_stores
from sim2real_aug.policies.diffusion import load_policy
from sim2real_aug.policies.evaluation import EvaluateSettings, evaluate
from sim2real_aug.policies.validation import action_errors
from sim2real_aug.progress import say
from sim2real_aug.report.pictures import grid
from sim2real_aug.runs import RunFolder, write_text_atomically

METRICS = ("success_rate", "mean_max_coverage", "mean_final_coverage", "mean_max_reward")  # with intervals
ACTION_ERROR = "action_error"
SIM_DOMAIN = "flat"
# the arms of `gain`, by the names that the demo's reader sees
ARMS = {"sim-only": SIM_ONLY, "edited": "specialist_gate", "oracle": ORACLE}


@dataclass(frozen=True)
class Demo:
    run: RunFolder
    config: DictConfig
    experiment: Experiment

    @property
    def scene(self) -> str:
        return str(self.config.real_domain)

    def unit(self, arm: str) -> Unit:
        return Unit(ARMS[arm], self.scene, self.config.seed)


def run_demo(config: DictConfig, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Run what is left of the demo in the folder `out`; returns the summary that is saved there.

    Raises BadInput for a folder of another demo, and for an unknown domain.
    """
    make_renderer(config.real_domain)
    run = RunFolder.open(out, config, overwrite)
    demo = Demo(run, config, Experiment(out, config, seed=config.seed))
    finished = run.already_done()
    if finished is not None:
        return finished
    say(f'the "real" domain of this demo: {_note(config)}')
    (demo.run.path / "stages").mkdir(exist_ok=True)
    stages: dict[str, Callable[[Demo], dict[str, Any]]] = {
        "simulate": simulate_episodes,
        "redraw": draw_oracle,
        "photos": take_photos,
        "train_editor": make_specialist,
        "augment": edit_episodes,
        "train_policy": train_arms,
        "evaluate": evaluate_arms,
    }
    results, seconds = {}, {}
    for number, (name, work) in enumerate(stages.items(), 1):
        say(f"[{number}/{len(stages)}] {name}, budget {config.stages[name].budget_seconds} s")
        results[name], seconds[name] = _once(demo, name, work)
    summary = summarise(demo, results, seconds)
    demo.run.write_summary(json.loads(as_json(summary)))
    return summary


def _once(demo: Demo, name: str, work: Callable[[Demo], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    """The result of a stage and the seconds it took, from its file when it is done already."""
    done = demo.run.path / "stages" / f"{name}.json"
    if not done.exists():
        start = time.monotonic()
        result = work(demo)
        record = {"seconds": round(time.monotonic() - start, 1), "result": result}
        write_text_atomically(done, as_json(record) + "\n")
    saved = json.loads(done.read_text())
    return saved["result"], saved["seconds"]


def simulate_episodes(demo: Demo) -> dict[str, Any]:
    return {"path": str(demo.experiment.get(Episodes()))}


def draw_oracle(demo: Demo) -> dict[str, Any]:
    return {"path": str(demo.experiment.get(Redrawn(demo.scene)))}


def take_photos(demo: Demo) -> dict[str, Any]:
    """Photos of the real domain, of random states: none is of the dataset."""
    return {"path": str(demo.experiment.get(Photographs(demo.scene)))}


def make_specialist(demo: Demo) -> dict[str, Any]:
    return _summary(demo.experiment.get(Specialist(demo.scene, demo.config.seed)))


def edit_episodes(demo: Demo) -> dict[str, Any]:
    store = demo.experiment.get(Edits(SPECIALIST, demo.scene, demo.config.seed))
    buffer = ReplayBuffer.open(store)
    passed = int(buffer.passed().sum())
    return {"path": str(store), "frames": buffer.n_frames, "frames_passed": passed}


def train_arms(demo: Demo) -> dict[str, Any]:
    results = {}
    for arm in ARMS:
        say(f"policy: {arm}")
        results[arm] = _summary(demo.experiment.get(Policy.of(demo.unit(arm))))
    return results


def _summary(run: Path) -> dict[str, Any]:
    return RunFolder(run).summary() or {}


def evaluate_arms(demo: Demo) -> dict[str, Any]:
    """{arm: {domain: summary}}, in the real domain and in the simulator's own."""
    results: dict[str, dict[str, Any]] = {arm: {} for arm in ARMS}
    seed = EvaluateSettings.seed + demo.config.seed
    experiment = demo.experiment
    stores = {demo.scene: experiment.get(Redrawn(demo.scene)), SIM_DOMAIN: experiment.get(Episodes())}
    for arm in ARMS:
        policy = experiment.get(Policy.of(demo.unit(arm)))
        for domain, store in stores.items():
            say(f"policy {arm} in {domain}")
            config = experiment.stage("evaluate", "evaluate", domain=domain, seed=seed)
            closed_loop = evaluate(policy, settings(EvaluateSettings, config))
            results[arm][domain] = closed_loop | {ACTION_ERROR: action_error(demo, arm, store)}
    return results


def action_error(demo: Demo, arm: str, store: str | Path) -> float:
    """Mean distance (window units) of the arm's actions to the demonstrated ones, on frames of `store`.

    Of the episodes that were held out: no arm has learned from their states in any look.
    """
    trained = Policy.of(demo.unit(arm))
    policy, config = load_policy(demo.experiment.get(trained)), trained.config(demo.experiment)
    share = config.policy.training.val_fraction
    opened = open_stores(store, None, policy.settings, share)
    _, held_out = load_demonstrations(*opened, policy.settings, None, share, config.seed, wanted=(HELD_OUT,))
    windows = np.arange(len(held_out))
    return action_errors(policy, held_out, windows, np.zeros(len(windows), bool), config.seed).mean().item()


def summarise(demo: Demo, results: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """The demo's summary, and the picture that it names."""
    real = demo.scene
    kept = {*METRICS, *(f"{name}_interval" for name in METRICS), ACTION_ERROR, "episodes", "seed"}
    arms = {
        arm: {domain: {key: full[key] for key in full if key in kept} for domain, full in by_domain.items()}
        for arm, by_domain in results["evaluate"].items()
    }
    better = {"mean_max_coverage": 1, ACTION_ERROR: -1}  # up or down
    measured = {name: [sign * arms[arm][real][name] for arm in ARMS] for name, sign in better.items()}
    closed = {name: float(gap_closed(*by_arm)) for name, by_arm in measured.items()}
    return {
        "note": _note(demo.config),
        "domains": [real, SIM_DOMAIN],
        "arms": arms,
        "gap_closed": {name: None if math.isnan(share) else share for name, share in closed.items()},
        "editor": results["train_editor"],
        "augment": results["augment"],
        "seconds": seconds,
        "budget_seconds": {name: stage.budget_seconds for name, stage in demo.config.stages.items()},
        "picture": str(draw(demo)),
        "path": str(demo.run.summary_path),
    }


def _note(config: DictConfig) -> str:
    return (
        f"{config.real_domain} is a randomized scene that pretraining has not seen. "
        "It stands in for a real bench; no real photo is involved."
    )


def draw(demo: Demo) -> Path:
    """The picture: source, visual prompt, edit, and the same state in the real domain, a row an episode."""
    stores = (
        demo.experiment.get(Episodes()),
        demo.experiment.get(Edits(SPECIALIST, demo.scene, demo.config.seed)),
        demo.experiment.get(Redrawn(demo.scene)),
    )
    sim, edited, oracle = map(ReplayBuffer.open, stores)
    photos = load_photos(demo.experiment.get(Photographs(demo.scene)), sim.array("img").shape[1])
    rows = []
    chosen = episode_range(demo.experiment.stage("augment", "augment").episodes, sim.n_episodes)
    for episode in np.linspace(chosen[0], chosen[-1], demo.config.picture_rows).astype(int):
        frames = sim.episode(int(episode))
        middle = (frames.start + frames.stop) // 2
        prompt = photos_of_episode(demo.config.seed, int(episode), len(photos))[0]
        source, edit, target = (store.images(middle, middle + 1)[0] for store in (sim, edited, oracle))
        rows.append([source, photos.images[prompt], edit, target])
    labels = ["source", "visual prompt", "edit", "the scene itself"]
    return grid(rows, demo.run.path / "picture.png", labels)
