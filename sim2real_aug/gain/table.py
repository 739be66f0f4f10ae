"""The figures of the experiment, from its records: success, coverage, gap closed, and what the specialist beats.

Intervals are bootstrapped over units (scene and seed) and over episodes, both drawn alike for all arms: a difference
of two arms is a paired one. That of success is Wilson's over all episodes, which has a width even at 0 and 1.

Legend: K units of an arm, M episodes; values (K, M).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim2real_aug.gain.arms import ARMS, ORACLE, SIM_ONLY, SPECIALIST
from sim2real_aug.report.intervals import Estimate, Values, difference, estimate, mean, share_estimate

METRICS = {"max_coverage": "mean max coverage", "success": "success rate"}
PROXIES = {
    "block_position": "proxy: block, window units",
    "block_angle": "proxy: block, degrees",
    "action": "proxy: actions, window units",
}
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One arm's figures. units: how many were measured. gap_closed, lead: None where what they compare with lacks.

    lead: the specialist's mean max coverage less this arm's, in the units that have both.
    """

    arm: str
    units: int
    max_coverage: Estimate
    success: Estimate
    gap_closed: Estimate | None
    lead: Estimate | None
    proxy: dict[str, float]


# DESIGN: gap closed = (edited - sim-only) / (oracle - sim-only)
def gap_closed(sim_only: Any, edited: Any, oracle: Any) -> Any:
    """Share of the gap between sim-only and oracle; nan where the oracle is no better than sim-only."""
    gap = np.asarray(oracle - sim_only, float)
    return np.divide(edited - sim_only, gap, out=np.full(gap.shape, np.nan), where=gap > 0)


def _gap_closed(sim_only: Values, edited: Values, oracle: Values) -> Values:
    """`gap_closed` of means; where there is no gap, it is without bound, to the side that `edited` lies on."""
    closed = gap_closed(mean(sim_only), mean(edited), mean(oracle))
    beyond = np.where(mean(edited) >= mean(sim_only), np.inf, -np.inf)
    return np.where(np.isnan(closed), beyond, closed)


def rows_of(records: Sequence[Record]) -> list[Row]:
    """A row for each arm that was measured, in the order of ARMS."""
    by_arm = {arm: [record for record in records if record["arm"] == arm] for arm in ARMS}
    return [_row(arm, by_arm) for arm, measured in by_arm.items() if measured]


def _row(arm: str, by_arm: Mapping[str, list[Record]]) -> Row:
    own = by_arm[arm]
    proxies = [record["proxy"] for record in own if record["proxy"]]
    gap = lead = None
    if (shared := _shared(by_arm, (SIM_ONLY, arm, ORACLE))) and arm not in (SIM_ONLY, ORACLE):
        gap = estimate(_gap_closed, *shared)
    if (shared := _shared(by_arm, (SPECIALIST, arm))) and arm != SPECIALIST:
        lead = estimate(difference, *shared)
    return Row(
        arm,
        len(own),
        estimate(mean, values_of(own, "max_coverage")),
        share_estimate(values_of(own, "success")),
        gap,
        lead,
        {name: float(np.mean([proxy[name] for proxy in proxies])) for name in PROXIES if proxies},
    )


def values_of(records: Iterable[Record], metric: str) -> Values:
    """A metric of every episode of K records with M episodes each, (K, M)."""
    return np.array([[float(e[metric]) for e in record["evaluation"]["per_episode"]] for record in records])


def _shared(by_arm: Mapping[str, list[Record]], arms: Sequence[str]) -> list[Values]:
    """Coverage (K, M) of each of `arms` in the units (scene and seed) that have all of them; [] for none."""
    found = [{(r["scene"], r["seed"]): r for r in by_arm[arm]} for arm in arms]
    units = sorted(set.intersection(*(set(each) for each in found)))
    return [values_of([each[unit] for unit in units], "max_coverage") for each in found] if units else []


def correlation(records: Sequence[Record], proxy: str) -> float | None:
    """Spearman's rank correlation of a proxy's error with mean max coverage over units; None for fewer than 3."""
    pairs = np.array(
        [
            (record["proxy"][proxy], record["evaluation"]["mean_max_coverage"])
            for record in records
            if record["proxy"]
        ]
    )
    if len(pairs) < 3:
        return None
    ranks = pairs.argsort(0).argsort(0)
    return float(np.asarray(np.corrcoef(ranks.T))[0, 1])


def as_json(rows: Iterable[Row]) -> dict[str, Any]:
    """The rows by arm, as JSON has them; a figure that is undefined and a side without bound are null."""
    return {
        row.arm: {
            key: value.as_json() if isinstance(value, Estimate) else value
            for key, value in vars(row).items()
            if key != "arm"
        }
        for row in rows
    }


def markdown(records: Sequence[Record]) -> str:
    """The tables: all scenes together, then each."""
    scenes = sorted({record["scene"] for record in records})
    text = _table("All scenes", rows_of(records)) if len(scenes) > 1 else ""
    for scene in scenes:
        text += _table(scene, rows_of([record for record in records if record["scene"] == scene]))
    lines = []
    for name, title in PROXIES.items():
        if (rank := correlation(records, name)) is not None:
            lines.append(f"- {title}: {rank:.2f}")
    if lines:
        text += (
            "## Does the proxy tell?\nRank correlation of its error with mean max coverage, over units:\n\n"
        )
        text += "\n".join(lines) + "\n"
    return text


def _table(title: str, rows: Sequence[Row]) -> str:
    columns = ["arm", "units", *METRICS.values(), "gap closed", "specialist's lead", *PROXIES.values()]
    lines = [f"## {title}", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.arm, str(row.units), str(row.max_coverage), str(row.success)]
        cells += ["" if figure is None else str(figure) for figure in (row.gap_closed, row.lead)]
        cells += [f"{row.proxy[name]:.3g}" if name in row.proxy else "" for name in PROXIES]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", ""])
