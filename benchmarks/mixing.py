"""How the gain depends on the share of edited frames, on the number of photos and on the number of episodes.

    python benchmarks/mixing.py [--study share] [--scene randomized/24] [--work DIR]
        [--records DIR] [--picture OUT.png] [KEY=VALUE ...]

For each value a `gain` of one scene that differs from the usual one in nothing else (KEY=VALUE change it for all): by
default the arm `specialist`, seed 0, 100 starts and no proxy. The scene is one that pretraining has not seen and that
is drawn in milliseconds, for a dozen policies are evaluated. Every value keeps its records; the same command goes on,
and one process at a time fills --work.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import OmegaConf

from sim2real_aug.config import as_override, command_config, compose
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.run import run_gain
from sim2real_aug.gain.table import values_of
from sim2real_aug.report.intervals import Values, difference, estimate

PLAN = ("arms=[specialist]", "seeds=[0]", "proxy=false", "stages.evaluate.settings.episodes=100")
USUAL = "usual"
NAMES = {"share": "share of edited windows", "photos": "photos", "episodes": "episodes"}
# the stage, its setting, and the values beside the usual one
STUDIES: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "share": ("train_policy", "policy.training.augmented_probability", (0.0, 0.25, 0.5, 1.0)),
    "photos": ("photos", "count", (1, 4, 32)),
    "episodes": ("simulate", "episodes", (20, 40, 160)),
}
Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Mixing:
    """The experiment that every value changes. typed: KEY=VALUE of `gain`."""

    work: Path
    records: Path
    typed: tuple[str, ...]

    def arms(self, name: str, *changes: str) -> dict[str, Any]:
        """Each arm's figures of the run `name`, which `changes` tell from the usual one."""
        config = compose("gain", [*self.typed, *changes])
        return dict(run_gain(config, self.work / name, self.records / name)["arms"])

    def coverage(self, name: str, arm: str) -> Values:
        """Max coverage (K, M) of the arm's K units in M episodes each, of the run `name`."""
        records = [json.loads(file.read_text()) for file in sorted((self.records / name).glob("*.json"))]
        return values_of([record for record in records if record["arm"] == arm], "max_coverage")

    def usual(self, study: str) -> float:
        """The study's value in the experiment as it is. Raises BadInput where the experiment leaves it open."""
        stage, key, _ = STUDIES[study]
        config = command_config(stage, compose("gain", list(self.typed)).stages[stage].settings)
        value = OmegaConf.select(config, key)
        if value is None:
            raise BadInput(
                f"the usual number of {NAMES[study]} must be known to be compared; "
                f"add ++stages.{stage}.settings.{key}=80"
            )
        return float(value)

    def measure(self, study: str, usual: float) -> Table:
        """One row a value, the usual one among them: the value, each arm's figures, and its lead over the usual value,
        paired by units and starts."""
        stage, key, values = STUDIES[study]
        rows: Table = [{study: usual, "arms": self.arms(USUAL)}]
        # only policies differ in what they mix: the edits are the usual ones
        shared = [as_override("materials", str(self.work / USUAL))] if study == "share" else []
        for value in values:
            changed = "++" + as_override(f"stages.{stage}.settings.{key}", value)
            name = f"{study}-{value:g}"
            arms = self.arms(name, changed, *shared)
            leads = {arm: estimate(difference, self.coverage(name, arm), self.coverage(USUAL, arm)) for arm in arms}
            rows.append({study: value, "arms": arms, "lead": {arm: lead.as_json() for arm, lead in leads.items()}})
        return sorted(rows, key=itemgetter(study))


def draw(tables: dict[str, Table], path: Path) -> None:
    """A panel a study: each arm's mean max coverage with its interval."""
    figure = Figure(figsize=(4.5 * len(tables), 3.5), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (study, rows) in zip(panels, tables.items(), strict=True):
        for arm in rows[0]["arms"]:
            found = [row["arms"][arm]["max_coverage"] for row in rows]
            middle = [one["value"] for one in found]
            around = [[m - one["low"] for m, one in zip(middle, found, strict=True)]]
            around += [[one["high"] - m for m, one in zip(middle, found, strict=True)]]
            axes.errorbar([row[study] for row in rows], middle, yerr=around, marker=".", capsize=3, label=arm)
        axes.set_xlabel(NAMES[study])
        if study != "share":
            axes.set_xscale("log", base=2)
        axes.set_xticks([row[study] for row in rows], [f"{row[study]:g}" for row in rows])
        axes.set_ylabel("mean max coverage, 95 % interval")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of gain")
    parser.add_argument("--study", action="append", choices=sorted(STUDIES), help="only these")
    parser.add_argument("--scene", default="randomized/24")
    parser.add_argument("--work", type=Path, default=Path("runs/mixing"))
    parser.add_argument("--records", type=Path, default=Path("runs/mixing/records"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    plan = (f"scenes=[{arguments.scene}]", *PLAN, *arguments.overrides)
    mixing = Mixing(arguments.work, arguments.records, plan)
    try:
        usual = {study: mixing.usual(study) for study in arguments.study or STUDIES}  # all, before hours of measuring
        tables = {study: mixing.measure(study, value) for study, value in usual.items()}
    except BadInput as error:
        parser.error(str(error))
    if arguments.picture is not None:
        draw(tables, arguments.picture)
    print(json.dumps(tables, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
