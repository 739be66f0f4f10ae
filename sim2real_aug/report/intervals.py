"""Bootstrap intervals of figures measured on the same states with several seeds.

Legend: K seeds, M states; one value each, (K, M). What has no seed is (1, M).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.seeding import numpy_generator

Values = NDArray[np.float64]
Statistic = Callable[..., Values]  # of arrays (..., K, M): (...)
RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def mean(values: Values) -> Values:
    """Over seeds and states."""
    return np.asarray(values.mean((-2, -1)))


def difference(first: Values, second: Values) -> Values:
    return mean(first) - mean(second)


def estimate(statistic: Statistic, *values: Values, seed: int = 0) -> Estimate:
    """`statistic` of `values` with its 95 % percentile bootstrap interval (Efron 1979).

    Seeds and states are both drawn with replacement, the same of all `values`: a difference of two methods is a
    paired one, and an interval says what another seed and other states may give.
    """
    seeds, states = np.broadcast_shapes(*(array.shape for array in values))
    full = [np.broadcast_to(array, (seeds, states)) for array in values]
    rng = numpy_generator(seed, "bootstrap")
    rows = rng.integers(seeds, size=(RESAMPLES, seeds, 1))
    columns = rng.integers(states, size=(RESAMPLES, 1, states))
    drawn = statistic(*(array[rows, columns] for array in full))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(statistic(*full)), float(low), float(high))
