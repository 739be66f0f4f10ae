"""Intervals against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim2real_aug.report.intervals import Estimate, Values, estimate, mean, share_estimate


def test_the_bootstrap_of_a_coin_is_the_binomial_s() -> None:
    coin = np.array([[0.0, 1.0] * 50])
    found = estimate(mean, coin, resamples=10000)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.015)
    assert estimate(mean, coin, resamples=10000) == found
    assert estimate(mean, np.full((1, 8), 0.25)) == Estimate(0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("reached", "n", "low", "high"),
    [  # Wilson: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z^2 = 3.8415
        (0, 100, 0, 3.8415 / 103.8415),
        (100, 100, 100 / 103.8415, 1),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_the_interval_of_a_share_has_a_width(reached: int, n: int, low: float, high: float) -> None:
    found = share_estimate(np.arange(n).reshape(2, -1) < reached)
    assert (found.value, found.low, found.high) == pytest.approx((reached / n, low, high), abs=1e-4)


def test_a_statistic_that_is_infinite_in_some_resamples_has_a_side_without_bound() -> None:
    def reciprocal(values: Values) -> Values:
        with np.errstate(divide="ignore"):
            return 1 / mean(values)

    found = estimate(reciprocal, np.array([[0.0, 0.0, 0.0, 1.0]]))
    assert (found.value, found.high) == (4, math.inf)
    assert 1 <= found.low < 4
    assert str(found) == f"4 [{found.low:.3g}, unbounded]"
    assert found.as_json() == {"value": 4, "low": found.low, "high": None}
    assert str(Estimate(math.inf, 0.5, math.inf)) == "undefined [0.5, unbounded]"
