"""The stages of the demo, each a function from the demo's folder and configuration to a result.

    simulate -> oracle, photos -> train-editor -> augment -> train-policy (three arms) -> evaluate -> report

A finished stage leaves stages/NAME.json and is not run again; one that was cut off is taken up by the command
that it calls. The arms share architecture, budget and seed and differ in their frames only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from sim2real_aug.augment.engine import augment, photos_of_episode
from sim2real_aug.augment.settings import AugmentSettings, episode_range
from sim2real_aug.cli.common import as_json
from sim2real_aug.config import command_config, settings
from sim2real_aug.d3po.trainer import train_editor
from sim2real_aug.data import ReplayBuffer, load_photos
from sim2real_aug.editor import load_editor
from sim2real_aug.envs.photos import PhotosSettings
from sim2real_aug.envs.photos import take_photos as photograph
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.judges import load_judge
from sim2real_aug.policies.evaluation import EvaluateSettings, evaluate
from sim2real_aug.policies.trainer import train_policy
from sim2real_aug.progress import say
from sim2real_aug.report.pictures import grid
from sim2real_aug.runs import RunFolder, write_text_atomically

SIM, ORACLE, EDITED, PHOTOS = "sim.zarr", "oracle.zarr", "edited.zarr", "photos"
METRICS = ("success_rate", "mean_max_coverage", "mean_final_coverage", "mean_max_reward")
SIM_DOMAIN = "flat"


@dataclass(frozen=True)
class Arm:
    """What a policy learns from: a store of the demo's folder and, mixed in, its edited frames."""

    name: str
    dataset: str
    augmented: str | None = None


ARMS = (Arm("sim-only", SIM), Arm("edited", SIM, EDITED), Arm("oracle", ORACLE))


@dataclass(frozen=True)
class Demo:
    run: RunFolder
    config: DictConfig

    def place(self, name: str) -> Path:
        return self.run.path / name

    def settings(self, stage: str, command: str, **fixed: object) -> DictConfig:
        """The configuration of `command` with the stage's own settings and what the demo fixes."""
        return command_config(command, self.config.stages[stage].settings, **fixed, seed=self.config.seed)


def run_demo(config: DictConfig, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Run what is left of the demo in the folder `out`; returns the summary that is saved there.

    Raises BadInput for a folder of another demo.
    """
    demo = Demo(RunFolder.open(out, config, overwrite), config)
    finished = demo.run.summary()
    if finished is not None:
        say(f"{out} is finished; --overwrite runs it again")
        return finished
    say(f'the "real" domain of this demo: {_note(config)}')
    demo.place("stages").mkdir(exist_ok=True)
    stages: dict[str, Callable[[Demo], dict[str, Any]]] = {
        "simulate": simulate_episodes,
        "oracle": draw_oracle,
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
    done = demo.place("stages") / f"{name}.json"
    if not done.exists():
        start = time.monotonic()
        result = work(demo)
        record = {"seconds": round(time.monotonic() - start, 1), "result": result}
        write_text_atomically(done, as_json(record) + "\n")
    saved = json.loads(done.read_text())
    return saved["result"], saved["seconds"]


def simulate_episodes(demo: Demo) -> dict[str, Any]:
    return simulate(demo.place(SIM), settings(SimulateSettings, demo.settings("simulate", "simulate")))


def draw_oracle(demo: Demo) -> dict[str, Any]:
    fixed = {"domain": demo.config.real_domain, "source": f"replay:{demo.place(SIM)}"}
    config = demo.settings("oracle", "simulate", **fixed)
    return simulate(demo.place(ORACLE), settings(SimulateSettings, config))


def take_photos(demo: Demo) -> dict[str, Any]:
    """Photos of the real domain, of random states: none is of the dataset."""
    config = demo.settings("photos", "photos", domain=demo.config.real_domain)
    return photograph(demo.place(PHOTOS), settings(PhotosSettings, config))


def make_specialist(demo: Demo) -> dict[str, Any]:
    config = demo.settings("train_editor", "train_editor")
    return train_editor(config, demo.place(SIM), demo.place(PHOTOS), demo.place("editor"))


def edit_episodes(demo: Demo) -> dict[str, Any]:
    editor = load_editor(demo.place("editor"))
    photos = load_photos(demo.place(PHOTOS), editor.image_size)
    chosen = settings(AugmentSettings, demo.settings("augment", "augment"))
    out = demo.place(EDITED)
    if out.exists():  # complete: it appears only when it is
        return {"path": str(out)}
    return augment(demo.place(SIM), editor, out, chosen, photos=photos, judge=load_judge())


def train_arms(demo: Demo) -> dict[str, Any]:
    results = {}
    for arm in ARMS:
        say(f"policy: {arm.name}")
        augmented = None if arm.augmented is None else demo.place(arm.augmented)
        config = demo.settings("train_policy", "train_policy")
        out = demo.place(f"policy-{arm.name}")
        results[arm.name] = train_policy(config, demo.place(arm.dataset), augmented=augmented, out=out)
    return results


def evaluate_arms(demo: Demo) -> dict[str, Any]:
    """{arm: {domain: summary}}, in the real domain and in the simulator's own."""
    results: dict[str, dict[str, Any]] = {arm.name: {} for arm in ARMS}
    for arm in ARMS:
        for domain in (demo.config.real_domain, SIM_DOMAIN):
            config = demo.settings("evaluate", "evaluate", domain=domain)
            config.seed = EvaluateSettings.seed + demo.config.seed
            say(f"policy {arm.name} in {domain}")
            policy = demo.place(f"policy-{arm.name}")
            results[arm.name][domain] = evaluate(policy, settings(EvaluateSettings, config))
    return results


def summarise(demo: Demo, results: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """The demo's summary, and the picture that it names."""
    real = demo.config.real_domain
    kept = {*METRICS, *(f"{name}_interval" for name in METRICS), "episodes", "seed"}
    arms = {
        arm: {domain: {key: full[key] for key in full if key in kept} for domain, full in by_domain.items()}
        for arm, by_domain in results["evaluate"].items()
    }
    coverage = {arm: by_domain[real]["mean_max_coverage"] for arm, by_domain in arms.items()}
    return {
        "note": _note(demo.config),
        "domains": [real, SIM_DOMAIN],
        "arms": arms,
        "gap_closed": gap_closed(coverage["sim-only"], coverage["edited"], coverage["oracle"]),
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


def gap_closed(sim_only: float, edited: float, oracle: float) -> float | None:
    """(edited - sim-only) / (oracle - sim-only); None where the oracle is no better than sim-only."""
    return (edited - sim_only) / (oracle - sim_only) if oracle > sim_only else None


def draw(demo: Demo) -> Path:
    """The picture: source, visual prompt, edit, and the same state in the real domain, a row an episode."""
    sim, edited, oracle = (ReplayBuffer.open(demo.place(name)) for name in (SIM, EDITED, ORACLE))
    photos = load_photos(demo.place(PHOTOS), sim.array("img").shape[1])
    rows = []
    chosen = episode_range(demo.settings("augment", "augment").episodes, sim.n_episodes)
    for episode in np.linspace(chosen[0], chosen[-1], demo.config.picture_rows).astype(int):
        frames = sim.episode(int(episode))
        middle = (frames.start + frames.stop) // 2
        prompt = photos_of_episode(demo.config.seed, int(episode), len(photos))[0]
        source, edit, target = (store.images(middle, middle + 1)[0] for store in (sim, edited, oracle))
        rows.append([source, photos.images[prompt], edit, target])
    return grid(rows, demo.place("picture.png"), ["source", "visual prompt", "edit", "the scene itself"])
