"""Two training loops learn alike only if both learn."""

import pytest
from policy_speed import learn_alike


@pytest.mark.parametrize(
    ("ours", "reading", "alike"),
    [(0.50, 0.49, True), (0.50, 0.70, False), (0.70, 0.50, False), (1.01, 1.0, False)],
)
def test_losses_agree_only_below_that_of_who_has_learned_nothing(ours: float, reading: float, alike: bool) -> None:
    assert learn_alike(ours, reading) == alike
