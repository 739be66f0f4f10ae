"""What is claimed of a specialist, from figures measured state by state: estimates, verdicts, tables.

Legend: K seeds, M states; one figure of one method is (K, M), (1, M) where no seed is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sim2real_aug.report.intervals import Estimate, Statistic, Values, difference, estimate, mean

Measured = dict[str, dict[str, Values]]  # method -> figure -> (K, M)

BASE, SPECIALIST, REAL = "base editor", "specialist", "real look"
SHOWN = (
    "structural",
    "semantic",
    "psnr",
    "psnr_block",
    "distance",
    "distance_block",
    "perceptual",
    "pose_error",
)
ALL = "all"


@dataclass(frozen=True)
class Claim:
    """holds: whether an estimate is what was asked for."""

    text: str
    statistic: Statistic
    values: tuple[tuple[str, str], ...]  # (method, figure) of each argument of the statistic
    asked: str
    holds: Callable[[Estimate], bool]


def reduction(first: Values, second: Values) -> Values:
    """By what share the mean of `first` is below that of `second`."""
    return 1 - mean(first) / np.maximum(mean(second), 1e-12)


def quantile(share: float) -> Statistic:
    return lambda values: np.quantile(values, share, axis=(-2, -1))


def _below(method: str, figure: str, text: str) -> Claim:
    values = ((SPECIALIST, figure), (method, figure))
    return Claim(text, difference, values, "below 0 beyond the interval", lambda found: found.high < 0)


def _reduced(figure: str, text: str) -> Claim:
    values = ((SPECIALIST, figure), (BASE, figure))
    return Claim(text, reduction, values, "at least 0.2", lambda found: found.value >= 0.2)


def _pose(text: str, share: float, most: float) -> Claim:
    asked = f"at most {most} px"
    return Claim(
        text, quantile(share), ((SPECIALIST, "pose_error"),), asked, lambda found: found.value <= most
    )


CLAIMS = (
    _below(BASE, "structural", "structural score, specialist less base"),
    _below(BASE, "semantic", "semantic score, specialist less base"),
    _reduced("rmse", "pixel distance (RMSE) from the real look, reduction against base"),
    _reduced("distance", "judge's distance from the real look, reduction against base"),
    _reduced("rmse_block", "pixel distance in the block, reduction against base"),
    _reduced("distance_block", "judge's distance in the block, reduction against base"),
    _reduced("perceptual", "perceptual distance from the real look, reduction against base"),
    _below("reinhard", "rmse", "pixel distance, specialist less Reinhard"),
    _below("reinhard", "distance", "judge's distance, specialist less Reinhard"),
    _below("reinhard", "perceptual", "perceptual distance, specialist less Reinhard"),
    _below("histogram", "rmse", "pixel distance, specialist less histogram matching"),
    _below("histogram", "distance", "judge's distance, specialist less histogram matching"),
    _below("histogram", "perceptual", "perceptual distance, specialist less histogram matching"),
    _pose("block pose read back, median", 0.5, 1.0),
    _pose("block pose read back, 95th percentile", 0.95, 2.5),
    Claim(
        "nearer to its own photos than to another scene's", mean, ((SPECIALIST, "nearer_own"),), "at least 0.95",
        lambda found: found.value >= 0.95,
    ),
)  # fmt: skip


def pooled(by_domain: dict[str, Measured]) -> Measured:
    """The states of all domains as one sample."""
    first = next(iter(by_domain.values()))
    return {
        method: {
            figure: np.concatenate([measured[method][figure] for measured in by_domain.values()], axis=1)
            for figure in figures
        }
        for method, figures in first.items()
    }


def assess(measured: Measured) -> dict[str, dict[str, Any]]:
    """Each claim's estimate and whether it holds, both None where its figures were not measured."""
    assessed: dict[str, dict[str, Any]] = {}
    for claim in CLAIMS:
        assessed[claim.text] = {"value": None, "low": None, "high": None, "asked": claim.asked, "ok": None}
        if all(figure in measured.get(method, {}) for method, figure in claim.values):
            found = estimate(claim.statistic, *(measured[method][figure] for method, figure in claim.values))
            assessed[claim.text] |= {**asdict(found), "ok": claim.holds(found)}
    return assessed


def means(measured: Measured) -> dict[str, dict[str, Any]]:
    """The mean of every figure of every method, with intervals; of pose errors the median and 95th percentile too."""
    table: dict[str, dict[str, Any]] = {}
    for method, figures in measured.items():
        table[method] = {name: asdict(estimate(mean, values)) for name, values in figures.items()}
        for name, share in (("pose_median", 0.5), ("pose_95", 0.95)):
            table[method][name] = asdict(estimate(quantile(share), figures["pose_error"]))
    return table


def summarise(by_domain: dict[str, Measured]) -> dict[str, Any]:
    """Claims and means of all domains together, under "all", and of each."""
    samples = {ALL: pooled(by_domain), **by_domain}
    return {name: {"claims": assess(sample), "means": means(sample)} for name, sample in samples.items()}


def markdown(summary: dict[str, Any]) -> str:
    """Two tables: the claims by domain, and the means of every method over all domains."""
    domains = list(summary)
    lines = [_row("claim", "asked", *domains), _row(*["---"] * (2 + len(domains)))]
    for text, found in summary[ALL]["claims"].items():
        cells = [_cell(summary[domain]["claims"][text]) for domain in domains]
        lines.append(_row(text, found["asked"], *cells))
    lines += ["", _row("method", *SHOWN), _row(*["---"] * (1 + len(SHOWN)))]
    for method, figures in summary[ALL]["means"].items():
        lines.append(_row(method, *(_cell(figures.get(name)) for name in SHOWN)))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["value"] is None:
        return "not measured"
    verdict = "" if found.get("ok", True) else " **no**"
    return str(Estimate(found["value"], found["low"], found["high"])) + verdict
