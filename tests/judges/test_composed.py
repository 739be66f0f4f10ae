"""Three judges as one, and the configurations that name them."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.config import compose
from sim2real_aug.d3po.scores import Conditions, JudgedScores
from sim2real_aug.errors import MissingExtra
from sim2real_aug.judges import open_judge
from sim2real_aug.judges.base import Judge
from sim2real_aug.judges.composed import ComposedJudge
from sim2real_aug.judges.depth_anything import load_depth_anything
from sim2real_aug.judges.dinov2 import load_dinov2
from sim2real_aug.judges.grounded_sam import load_grounded_sam

from .tiny import frames


class Counting:
    """Each role by another number."""

    def depth(self, images: Tensor) -> Tensor:
        return torch.full_like(images[:, 0], 0.25)

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return images[:, 0] > len(phrase)

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return masks.flatten(1).sum(1, keepdim=True)


def tiny_judge(checkpoints: Path) -> ComposedJudge:
    return ComposedJudge(
        load_depth_anything(checkpoints / "depth_anything"),
        load_grounded_sam(checkpoints / "grounding_dino", checkpoints / "sam2", threshold=0.0),
        load_dinov2(checkpoints / "dinov2"),
    )


def test_each_role_is_asked_of_its_judge(checkpoints: Path) -> None:
    images, masks = frames(2, 56, 56), torch.ones(2, 56, 56, dtype=torch.bool)
    embedder = load_dinov2(checkpoints / "dinov2")
    judge: Judge = ComposedJudge(Counting(), Counting(), embedder)
    assert (judge.depth(images) == 0.25).all()
    assert not judge.segment(images, "block").any()
    torch.testing.assert_close(judge.embed(images, masks), embedder.embed(images, masks))


def test_the_hash_is_of_the_weights_and_settings_of_every_part(checkpoints: Path) -> None:
    judge = tiny_judge(checkpoints)
    before = weights_hash({"judge": judge})
    assert before == weights_hash({"judge": tiny_judge(checkpoints)})
    for part in (judge.depth_judge, judge.segmentation_judge, judge.embedding_judge):
        changed = copy.deepcopy(judge)
        name = next(role for role, module in judge.named_children() if module is part)
        with torch.no_grad():
            next(getattr(changed, name).parameters()).add_(1)
        assert weights_hash({"judge": changed}) != before
    stricter = load_grounded_sam(checkpoints / "grounding_dino", checkpoints / "sam2", threshold=0.9)
    other = ComposedJudge(judge.depth_judge, stricter, judge.embedding_judge)
    assert weights_hash({"judge": other}) != before


def test_moves_as_one(checkpoints: Path) -> None:
    judge = tiny_judge(checkpoints).to("meta")
    assert {parameter.device.type for parameter in judge.parameters()} == {"meta"}
    images = frames(2, 96, 96).to("meta")
    assert judge.depth(images).device.type == judge.embed(images, images[:, 0] > 0).device.type == "meta"


def overrides(checkpoints: Path, embedding: str = "dinov2") -> list[str]:
    places = {"depth.name": "depth_anything", "segmentation.detector": "grounding_dino"}
    places |= {"segmentation.segmenter": "sam2", "embedding.name": embedding}
    return [f"judge.{key}={checkpoints / folder}" for key, folder in places.items()]


@pytest.mark.parametrize(
    ("chosen", "embedding", "kind"),
    [
        (["judge=grounded"], "dinov2", "Dinov2"),
        (["judge=grounded_clip"], "clip", "Clip"),
        (["judge=grounded", "judge.embedding._target_=sim2real_aug.judges.clip.load_clip"], "clip", "Clip"),
    ],
)
def test_the_configurations_make_judges_that_score(
    chosen: list[str], embedding: str, kind: str, checkpoints: Path
) -> None:
    node = compose("train_editor", [*chosen, *overrides(checkpoints, embedding)]).judge
    judge = open_judge(node, torch.device("cpu"))
    assert isinstance(judge, ComposedJudge)
    assert type(judge.embedding_judge).__name__ == kind
    images = frames(6, 48, 48)
    conditions = Conditions(
        images[:1], images[1:3][None], torch.zeros(1, 2, 48, 48, dtype=torch.bool), torch.zeros(1).numpy()
    )
    scores = JudgedScores(judge, ("block", "table"))(conditions, torch.cat([images[:1], images[3:5]])[None])
    assert scores.structural.shape == scores.semantic.shape == (1, 3)
    assert scores.structural[0, 0] < 1e-6  # the source itself
    assert (scores.structural[0, 1:] > 1e-3).all()
    assert torch.isfinite(scores.semantic).all()


def test_dreamsim_without_its_extra_says_what_to_install(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dreamsim", None)
    chosen = ["judge=grounded_dreamsim", *overrides(checkpoints)[:3]]
    with pytest.raises(Exception, match=r"needs an extra: pip install 'sim2real-aug\[judges\]'") as error:
        open_judge(compose("train_editor", chosen).judge, torch.device("cpu"))
    cause: BaseException | None = error.value
    while cause is not None and not isinstance(cause, MissingExtra):
        cause = cause.__cause__  # hydra wraps it, once a level
    assert cause is not None
