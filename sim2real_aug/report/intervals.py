"""Intervals of figures measured on the same states with several seeds.

Legend: K seeds, M states; one value each, (K, M). What has no seed is (1, M).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.seeding import numpy_generator

Values = NDArray[np.float64]
Statistic = Callable[..., Values]  # of arrays (..., K, M): (...)
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; a side that is infinite is unbounded, a value that is not finite undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value = f"{self.value:.3g}" if math.isfinite(self.value) else "undefined"
        low, high = (f"{side:.3g}" if math.isfinite(side) else "unbounded" for side in (self.low, self.high))
        return f"{value} [{low}, {high}]"

    def as_json(self) -> dict[str, float | None]:
        """value, low and high; what is not finite, which JSON lacks, is null."""
        return {name: side if math.isfinite(side) else None for name, side in asdict(self).items()}


def mean(values: Values) -> Values:
    """Over seeds and states."""
    return np.asarray(values.mean((-2, -1)))


def difference(first: Values, second: Values) -> Values:
    return mean(first) - mean(second)


def estimate(statistic: Statistic, *values: Values, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """`statistic` of `values` with its 95 % percentile bootstrap interval (Efron 1979).

    Seeds and states are both drawn with replacement, the same of all `values`: a difference of two methods is a
    paired one, and an interval says what another seed and other states may give. A statistic may be infinite in some
    resamples. The interval has no width when all values are equal: for a share take `share_estimate`.
    """
    seeds, states = np.broadcast_shapes(*(array.shape for array in values))
    full = [np.broadcast_to(array, (seeds, states)) for array in values]
    rng = numpy_generator(seed, "bootstrap")
    rows = rng.integers(seeds, size=(resamples, seeds, 1))
    columns = rng.integers(states, size=(resamples, 1, states))
    drawn = statistic(*(array[rows, columns] for array in full))
    between: Literal["linear", "nearest"] = "linear" if np.isfinite(drawn).all() else "nearest"  # inf - inf is nan
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method=between)
    return Estimate(float(statistic(*full)), float(low), float(high))


def share_estimate(reached: Values) -> Estimate:
    """The share of `reached` (K, M), each 0 or 1, with Wilson's 95 % interval (Wilson 1927).

    It has a width even where none or all reached it. Every value counts as independent of the others.
    """
    n, share = reached.size, float(reached.mean())
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))
