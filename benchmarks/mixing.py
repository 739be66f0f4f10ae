"""How the gain depends on the share of edited frames, on the number of photos and on the number of episodes.

    python benchmarks/mixing.py [--study share] [--scene pathtraced/oak] [--work DIR] [--records DIR]
        [--picture OUT.png] [KEY=VALUE ...]

For each value a small `gain` of one scene, with its own plan (KEY=VALUE change it for all): by default the arm
`specialist` and seed 0, with proxy and closed loop. Every value keeps its records; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sim2real_aug.config import as_override, compose
from sim2real_aug.errors import BadInput
from sim2real_aug.gain.run import run_gain

SETTINGS = "stages.{}.settings."
STUDIES: dict[str, tuple[str, tuple[float, ...]]] = {
    "share": (SETTINGS.format("train_policy") + "policy.training.augmented_probability", (0.25, 0.5, 0.75, 1.0)),
    "photos": (SETTINGS.format("photos") + "count", (1, 4, 8, 32)),
    "episodes": (SETTINGS.format("simulate") + "episodes", (20, 40, 80, 160)),
}


def measure(study: str, scene: str, work: Path, records: Path, overrides: list[str]) -> list[dict[str, Any]]:
    """One row a value of the study: the value and each arm's figures."""
    key, values = STUDIES[study]
    rows = []
    shared: Path | None = None
    for value in values:
        name = f"{study}-{value:g}"
        given = ["++" + as_override(key, value), as_override("materials", shared and str(shared))]
        typed = [f"scenes=[{scene}]", "arms=[specialist]", "seeds=[0]", *overrides, *given]
        summary = run_gain(compose("gain", typed), work / name, records / name)
        rows.append({study: value, "arms": summary["arms"]})
        if study == "share":
            shared = shared or work / name
    return rows


def draw(tables: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel a study: mean max coverage with its interval, and the proxy's error, of each arm."""
    figure = Figure(figsize=(4.5 * len(tables), 3.5), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (study, rows) in zip(panels, tables.items(), strict=True):
        for arm in rows[0]["arms"]:
            found = [row["arms"][arm]["max_coverage"] for row in rows]
            middle = [one["value"] for one in found]
            around = [[m - one["low"] for m, one in zip(middle, found, strict=True)]]
            around += [[one["high"] - m for m, one in zip(middle, found, strict=True)]]
            axes.errorbar([row[study] for row in rows], middle, yerr=around, marker=".", capsize=3, label=arm)
        axes.set_xlabel(study)
        axes.set_ylabel("mean max coverage, 95 % interval")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of gain")
    parser.add_argument("--study", action="append", choices=sorted(STUDIES), help="only these")
    parser.add_argument("--scene", default="pathtraced/oak")
    parser.add_argument("--work", type=Path, default=Path("runs/mixing"))
    parser.add_argument("--records", type=Path, default=Path("runs/mixing/records"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    places = (arguments.work, arguments.records)
    try:
        tables = {
            study: measure(study, arguments.scene, *places, arguments.overrides)
            for study in arguments.study or STUDIES
        }
    except BadInput as error:
        parser.error(str(error))
    if arguments.picture is not None:
        draw(tables, arguments.picture)
    print(json.dumps(tables, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
