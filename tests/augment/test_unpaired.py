"""CUT against numbers worked by hand, and as a run: resumed, refused, and in the place of an editor."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

from sim2real_aug.augment.cut import (
    CutGenerator,
    PatchDiscriminator,
    PatchHeads,
    adversarial_loss,
    cross_entropy_of_patches,
    discriminator_loss,
    patch_nce,
)
from sim2real_aug.augment.engine import augment
from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.augment.unpaired import CutEditor, CutSettings, _Training, draw_crops, train_cut
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.errors import BadInput, Fault
from sim2real_aug.pixels import to_frames, to_images
from sim2real_aug.runs import RunFolder

from ..tiny_editor import SIZE

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
PHOTOS = RNG.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
TINY = CutSettings(
    steps=4, batch_size=2, crop=16, channels=2, blocks=2, patches=6, embedding=4, log_every=1, checkpoint_every=2
)  # fmt: skip


def open_run(path: Path, settings: CutSettings = TINY) -> RunFolder:
    return RunFolder.open(path, OmegaConf.create(asdict(settings)))


def train(path: Path, settings: CutSettings = TINY) -> CutEditor:
    return train_cut(FRAMES, PHOTOS, settings, open_run(path))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut") / "run"
    train(folder)
    return folder


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, work: Callable[[], Any], calls: int = 1
) -> None:
    """Do `work` until call number `calls` of owner.name, which is interrupted before it does anything."""
    whole, count = getattr(owner, name), 0

    def interrupted(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == calls:
            raise KeyboardInterrupt
        return whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            work()


def unit_vectors(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=-1)


def test_contrast_of_patches_by_hand() -> None:
    """Similarities over the temperature: ln 3 with its own key, 0 with the other, so a share of 3/4 for both."""
    vectors = torch.eye(2)[None]
    assert cross_entropy_of_patches(vectors, vectors, 1 / math.log(3)).item() == pytest.approx(
        math.log(4 / 3)
    )
    swapped = cross_entropy_of_patches(vectors, vectors.flip(1), 1 / math.log(3))
    assert swapped.item() == pytest.approx(math.log(4))


def test_equal_features_cost_little_and_shuffled_ones_much() -> None:
    keys = unit_vectors(2, 12, 32)
    assert cross_entropy_of_patches(keys, keys, 0.07) < 0.05
    assert cross_entropy_of_patches(keys, keys.roll(1, 1), 0.07) > 5
    same = torch.ones(1, 12, 32) / 32**0.5
    chance = cross_entropy_of_patches(same, same, 0.07).item()
    assert chance == pytest.approx(math.log(12), abs=1e-5), "patches that look alike are told apart by chance"


def test_negatives_are_of_the_same_image_only() -> None:
    keys = unit_vectors(2, 5, 8)
    alone = [cross_entropy_of_patches(k[None], k[None], 0.5) for k in keys]
    torch.testing.assert_close(cross_entropy_of_patches(keys, keys, 0.5), torch.stack(alone).mean())


def test_layers_weigh_alike_and_keys_are_targets() -> None:
    vectors = torch.eye(2)[None].requires_grad_()
    keys = torch.eye(2)[None].requires_grad_()
    loss = patch_nce([vectors, vectors], [keys, keys.flip(1)], 1 / math.log(3))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    loss.backward()
    assert vectors.grad is not None
    assert keys.grad is None


def test_least_squares_by_hand() -> None:
    """Real 1, 0.5: mean square of what is missing 0.125. Fake 0, 2: mean square 2, of what is missing 1."""
    real, fake = torch.tensor([1.0, 0.5]), torch.tensor([0.0, 2.0])
    assert discriminator_loss(real, fake).item() == (0.125 + 2) / 2
    assert adversarial_loss(fake).item() == 1
    assert discriminator_loss(torch.ones(3), torch.zeros(3)) == adversarial_loss(torch.ones(3)) == 0


def test_embeddings_are_of_the_chosen_places_and_on_the_unit_sphere() -> None:
    features = torch.zeros(1, 3, 2, 2)
    features[0, :, 1, 0] = torch.tensor([1.0, 2.0, 3.0])
    heads = PatchHeads([3], 8)
    (found,) = heads([features], [torch.tensor([2, 0])])
    torch.testing.assert_close(found[0, 0], F.normalize(heads[0](features[0, :, 1, 0]), dim=-1))
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(1, 2))


@pytest.mark.parametrize("blocks", [2, 3, 4])
def test_generator_and_its_features(blocks: int) -> None:
    generator = CutGenerator(16, channels=2, blocks=blocks)
    features = generator.encode(torch.zeros(1, 3, 16, 24))
    assert [tuple(f.shape[1:]) for f in features] == [(3, 16, 24), (4, 8, 12), *[(8, 4, 6)] * 3]
    assert tuple(f.shape[1] for f in features) == generator.feature_channels
    assert generator(torch.zeros(1, 3, 16, 24)).shape == (1, 3, 16, 24)
    with pytest.raises(BadInput, match="multiples of 4 for CUT; got 16 x 18"):
        generator(torch.zeros(1, 3, 16, 18))


def test_discriminator_sees_patches_of_34_pixels() -> None:
    """Without normalisation, which sees the whole image, the verdict in the middle depends on 34 x 34 pixels."""
    layers = [layer for layer in PatchDiscriminator(4) if not isinstance(layer, torch.nn.InstanceNorm2d)]
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)).requires_grad_()
    verdict = torch.nn.Sequential(*layers)(image)
    verdict[0, 0, 11, 11].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0) > 0
    assert (seen.any(0).sum().item(), seen.any(1).sum().item()) == (34, 34)


def test_crops_are_parts_of_the_images_and_mirrored_now_and_then() -> None:
    images = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, None, :, None], (2, 16, 16, 3))
    rows = ((draw_crops(images, 40, 12, RNG) + 1) / 2 * 255).round()[:, 0, 0]
    ways = rows[:, 1] - rows[:, 0]
    assert set(ways.tolist()) == {1, -1}
    assert set(rows.min(1).values.tolist()) == {0, 1, 2, 3, 4}


def test_a_step_moves_every_network_and_the_rate_falls_in_the_second_half() -> None:
    training = _Training(SIZE, TINY)
    parts = (training.generator, training.heads, training.discriminator)
    before, rates = [weights_hash({"": part}) for part in parts], []
    for step in range(4):
        figures = training.step(FRAMES, PHOTOS, step)
        rates.append(training.making.param_groups[0]["lr"])
    assert all(old != weights_hash({"": part}) for old, part in zip(before, parts, strict=True))
    assert set(figures) == {"discriminator", "adversarial", "nce"}
    np.testing.assert_allclose(rates, np.array([1, 1, 1, 0.5]) * 2e-4)


def test_without_identity_photos_do_not_reach_the_generator_but_by_the_discriminator() -> None:
    def after_one_step(identity: bool, photos: np.ndarray) -> str:
        settings = replace(TINY, identity_nce=identity)
        training = _Training(SIZE, settings)
        with torch.no_grad():
            training.discriminator[-1].weight.zero_()  # its verdict, so the adversarial gradient, is blind
        training.judging.step = lambda: None  # type: ignore[assignment, method-assign]
        training.step(FRAMES, photos, 0)
        return weights_hash({"": training.generator})

    assert after_one_step(False, PHOTOS) == after_one_step(False, PHOTOS[::-1].copy())
    assert after_one_step(True, PHOTOS) != after_one_step(True, PHOTOS[::-1].copy())


@pytest.mark.parametrize("calls", [1, 3, 4])
def test_interrupted_training_equals_an_uninterrupted_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Checkpoints stand at 2 and 4 of 4 steps: it goes on from 0, 2 and 2, whatever was logged after them."""
    interrupt_at(monkeypatch, _Training, "step", lambda: train(tmp_path), calls)
    torch.manual_seed(calls)  # draws are not from the global generator
    editor = train(tmp_path)
    assert weights_hash(editor.components) == weights_hash(CutEditor.load(finished / "editor").components)

    def logged(folder: Path) -> list[dict[str, float]]:
        return [{**line, "seconds": 0} for line in RunFolder(folder).metrics()]

    assert logged(tmp_path) == logged(finished)


def test_finished_run_is_loaded_not_trained(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Training, "__init__", None)
    assert train(finished).name_or_path == str(finished / "editor")
    run = open_run(finished)
    with pytest.raises(BadInput, match="another nce_weight, photos;"):
        train_cut(FRAMES, PHOTOS[:1], replace(TINY, nce_weight=2), run)


def test_checkpoint_of_other_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_at(monkeypatch, CutEditor, "save", lambda: train(tmp_path))
    with pytest.raises(BadInput, match=r"cut\.pt is of a run of another frames;"):
        train_cut(FRAMES[1:], PHOTOS, TINY, open_run(tmp_path))


def test_saved_editor_is_the_same(finished: Path, tmp_path: Path) -> None:
    editor = CutEditor.load(finished / "editor", "cpu")
    assert {p.suffix for p in (finished / "editor").iterdir() if p.is_file()} == {".json", ".safetensors"}
    np.testing.assert_array_equal(editor.photos, PHOTOS)
    editor.save(tmp_path / "copy")
    np.testing.assert_array_equal(CutEditor.load(tmp_path / "copy")(FRAMES), editor(FRAMES))
    with pytest.raises(BadInput, match="not a CUT editor"):
        CutEditor.load(tmp_path)
    next((tmp_path / "copy").glob("*.safetensors")).write_bytes(b"damaged")
    with pytest.raises(BadInput, match="does not load as a CUT editor"):
        CutEditor.load(tmp_path / "copy")


def test_a_frame_is_translated_by_itself_whatever_the_photos(finished: Path) -> None:
    editor = CutEditor.load(finished / "editor")
    noise = editor.initial_latents(2, torch.Generator())
    assert noise.shape == (2, 1, 1, 1)
    images = editor.edit(to_images(FRAMES[:2]), to_images(PHOTOS), noise)
    assert 0 <= images.min() <= images.max() <= 1
    torch.testing.assert_close(editor.edit(to_images(FRAMES[1:2])), images[1:])


def test_augment_takes_it_for_an_editor(finished: Path, store: Path, tmp_path: Path) -> None:
    editor = CutEditor.load(finished / "editor")
    summary = augment(store, editor, tmp_path / "out.zarr", AugmentSettings(precision="fp32"))
    assert summary["frames_edited"] == summary["frames_passed"] == 21
    out, source = ReplayBuffer.open(tmp_path / "out.zarr"), ReplayBuffer.open(store)
    expected = to_frames(editor.edit(to_images(source.images())))
    assert np.abs(out.images().astype(int) - expected).max() <= 1
    for name in ("action", "state", "tactile"):
        np.testing.assert_array_equal(out.read(name), source.read(name))
    record = out.attrs["augmentation"]
    assert record["editor_hash"] == weights_hash(editor.components)
    assert record["edit_settings"]["photos_per_edit"] == 0
    assert len(record["photos"]) == 2


@pytest.mark.parametrize("whose", ["discriminator", "generator"])
def test_a_loss_that_is_not_finite_is_a_fault_and_the_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    module = "sim2real_aug.augment.unpaired"
    name = {"discriminator": "discriminator_loss", "generator": "patch_nce"}[whose]
    interrupt_at(monkeypatch, RunFolder, "log", lambda: train(tmp_path, replace(TINY, log_every=3)))
    kept = (tmp_path / "checkpoints" / "cut.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", lambda *args: args[0][0].sum() * math.nan)
        with pytest.raises(Fault, match=rf"the {whose}'s loss is nan.* at step 2; the last checkpoint stays"):
            train(tmp_path)
    assert (tmp_path / "checkpoints" / "cut.pt").read_bytes() == kept
    assert train(tmp_path).image_size == SIZE


def test_bad_settings_are_all_named() -> None:
    with pytest.raises(BadInput) as error:
        CutSettings(
            steps=0, batch_size=-1, learning_rate=math.nan, adam_betas=(0.5, 1.0), crop=18, blocks=1, patches=1,
            temperature=0, nce_weight=-1,
        )  # fmt: skip
    message = str(error.value)
    assert message.startswith("cut: steps must be at least 1; got 0; batch_size must be at least 1; got -1; ")
    for name in ("learning_rate", "adam_betas", "crop", "blocks", "patches", "temperature", "nce_weight"):
        assert f"; {name} must be" in message


def test_bad_images_are_refused(tmp_path: Path) -> None:
    run = open_run(tmp_path)
    with pytest.raises(
        BadInput, match=r"photos must be \(count, side, side, 3\) uint8; got \(0, 16, 16, 3\)"
    ):
        train_cut(FRAMES, PHOTOS[:0], TINY, run)
    with pytest.raises(BadInput, match=r"frames must be .* float32"):
        train_cut(FRAMES.astype(np.float32), PHOTOS, TINY, run)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least crop=72; got 16 and 16"):
        train_cut(FRAMES, PHOTOS, CutSettings(), run)
    with pytest.raises(BadInput, match=r"same side.* got 16 and 12"):
        train_cut(FRAMES, PHOTOS[:, :12, :12], TINY, run)


def test_what_is_saved_is_json(finished: Path) -> None:
    made_from = json.loads((finished / "summary.json").read_text())["made_from"]
    assert made_from["adam_betas"] == [0.5, 0.999]
    assert "device" not in made_from
