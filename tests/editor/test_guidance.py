"""Guidance by coefficients is the formula of docs/method.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim2real_aug.editor.guidance import GuidanceScales, active_passes, guidance_coefficients

SCALE = st.floats(-2, 12, allow_nan=False)
PREDICTION = st.floats(-3, 3, allow_nan=False)


@given(SCALE, SCALE, SCALE, st.tuples(PREDICTION, PREDICTION, PREDICTION, PREDICTION))
def test_coefficients_equal_the_sum_of_differences(
    image: float, style: float, text: float, e: tuple[float, float, float, float]
) -> None:
    formula = e[0] + image * (e[1] - e[0]) + style * (e[2] - e[1]) + text * (e[3] - e[2])
    weights = guidance_coefficients(GuidanceScales(image, style, text))
    assert sum(w * p for w, p in zip(weights, e, strict=True)) == pytest.approx(formula, abs=1e-9)
    assert sum(weights) == pytest.approx(1)


def test_worked_by_hand() -> None:
    assert guidance_coefficients(GuidanceScales(1.5, 2.0, 7.5)) == (-0.5, -0.5, -5.5, 7.5)
    assert guidance_coefficients(GuidanceScales(1, 1, 1)) == (0, 0, 0, 1)


def test_passes_that_weigh_nothing_do_not_run() -> None:
    assert len(active_passes(GuidanceScales(1.5, 2.0, 7.5))) == 4
    assert active_passes(GuidanceScales(1.5, 1.5, 7.5)) == [
        (-0.5, (False, False, False)),
        (-6.0, (True, True, False)),
        (7.5, (True, True, True)),
    ]
