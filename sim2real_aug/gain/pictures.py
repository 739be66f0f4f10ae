"""Pictures of the experiment: coverage by arm with intervals, the proxy beside it, and episodes side by side."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.gain.arms import Unit
from sim2real_aug.gain.experiment import Experiment, folder_name
from sim2real_aug.gain.table import PROXIES, rows_of
from sim2real_aug.gain.trials import Evaluation
from sim2real_aug.policies.rollout import load_episodes
from sim2real_aug.policies.videos import animate

Record = Mapping[str, Any]


def plot(records: Sequence[Record], path: Path) -> Path:
    """Write a PNG: mean max coverage of each arm, and each unit's against its proxy error."""
    rows = rows_of(records)
    figure = Figure(figsize=(11, 4), layout="constrained")
    bars, cloud = figure.subplots(1, 2)
    values = [row.max_coverage for row in rows]
    low = [value.value - value.low for value in values]
    high = [value.high - value.value for value in values]
    bars.barh([row.arm for row in rows], [value.value for value in values], xerr=[low, high], capsize=3)
    bars.invert_yaxis()
    bars.set_xlabel("mean max coverage, 95 % interval")
    for row in rows:
        own = [record for record in records if record["arm"] == row.arm and record["proxy"]]
        errors = [record["proxy"]["block_position"] for record in own]
        cloud.scatter(errors, [r["evaluation"]["mean_max_coverage"] for r in own], label=row.arm, s=18)
    cloud.set_xlabel(PROXIES["block_position"])
    cloud.set_ylabel("mean max coverage")
    cloud.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    return path


def film(experiment: Experiment, records: Sequence[Record], changed: Container[str]) -> list[Path]:
    """One animation a scene: the first start as each arm's policy goes on from it, with the least seed there is.

    Only of units whose evaluation is in the experiment's folder: records hold no states. An animation that is there is
    drawn again for scenes that `changed` alone.
    """
    written = []
    for scene in sorted({record["scene"] for record in records}):
        path = experiment.folder / folder_name(scene) / "episodes.webp"
        if path.exists() and scene not in changed:
            written.append(path)
            continue
        renderer, shown = make_renderer(scene, config_dir=experiment.config.config_dir), {}
        for record in sorted((r for r in records if r["scene"] == scene), key=lambda r: -int(r["seed"])):
            unit = Unit(record["arm"], scene, record["seed"])
            folder = Evaluation(unit).place(experiment)
            if (folder / "episodes.npz").exists():
                shown[unit.arm] = (renderer, load_episodes(folder / "episodes.npz")[0].states)
        if shown:
            written.append(animate(shown, path))
    return written
