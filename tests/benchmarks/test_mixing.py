"""The mixing studies: the usual value of each is known before anything is measured."""

from pathlib import Path

import pytest
from mixing import PLAN, STUDIES, Mixing

from sim2real_aug.errors import BadInput


@pytest.mark.parametrize(("study", "usual"), [("share", 0.75), ("photos", 8), ("episodes", 80)])
def test_the_usual_value_is_the_experiment_s(study: str, usual: float) -> None:
    assert Mixing(Path(), Path(), PLAN).usual(study) == usual
    assert usual not in STUDIES[study][2]


def test_a_default_counts_and_a_value_that_is_open_is_refused() -> None:
    mixing = Mixing(Path(), Path(), (*PLAN, "experiment=full", "~stages.photos.settings.count"))
    assert mixing.usual("photos") == 20, "as `photos` has it"
    with pytest.raises(BadInput, match=r"number of episodes must be known .*; add .*simulate.settings.episodes=80"):
        mixing.usual("episodes")
