"""distill: the student learns what guidance does, takes one pass, and survives being interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from sim2real_aug.config import compose
from sim2real_aug.d3po.rollouts import TrainingImages
from sim2real_aug.data.photos import as_photo_set
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.adapter import LoraSettings, add_lora
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.guidance import active_passes
from sim2real_aug.errors import BadInput
from sim2real_aug.pretrain import distill as module
from sim2real_aug.pretrain.distill import SINGLE, distill, distillation_loss, guided_path
from sim2real_aug.pretrain.loop import Draw
from sim2real_aug.seeding import numpy_generator, torch_generator

from ..augment.conftest import write_store
from ..tiny_editor import SIZE, build_editor


def guided_editor() -> Editor:
    """Three steps of four passes, two random photos."""
    editor = build_editor(num_inference_steps=3)
    scales = {"image_guidance_scale": 3.0, "style_guidance_scale": 4.0, "guidance_scale": 7.5}
    editor.edit_settings = replace(editor.edit_settings, **scales)
    editor.photos = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    return editor


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    """A store and a saved editor."""
    guided_editor().save_pretrained(tmp_path / "guided")
    return write_store(tmp_path / "source.zarr"), tmp_path / "guided"


def configured(editor: Path, *overrides: str) -> DictConfig:
    small = ["fit.steps=60", "fit.batch_size=4", "fit.learning_rate=0.01", "fit.checkpoint_every=20", "device=cpu"]
    targets = "lora.target_modules=[to_q,to_k,to_v,to_out.0,conv1,conv2]"
    return compose("distill", [f"editor.path={editor}", *small, targets, "held_out_frames=3", *overrides])


def training_images() -> TrainingImages:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
    photos = as_photo_set(rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8))
    return TrainingImages(lambda indices: frames[indices], np.arange(4), np.arange(4, 6), photos)


def test_the_guided_path_ends_at_the_editors_own_edit() -> None:
    editor, (source, style) = guided_editor(), torch.rand(2, 2, 3, SIZE, SIZE)
    noise = editor.initial_latents(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        path = guided_path(editor, editor.condition(source, style, "a"), noise)
    assert path.latents.shape == path.outputs.shape == (2, 3, *noise.shape[1:])
    assert torch.equal(path.latents[:, 0], noise)
    scheduler = editor.scheduler
    scheduler.set_timesteps(3)
    last = scheduler.step(path.outputs[:, -1], path.timesteps[-1], path.latents[:, -1]).prev_sample  # diffusers' own
    assert torch.allclose(editor.decode(last), editor.edit(source, style, noise), atol=1e-5)


def test_before_training_the_loss_is_what_guidance_adds() -> None:
    """The adapter changes nothing yet, so student and teacher differ by their passes alone."""
    editor, images = guided_editor(), training_images()
    scales = editor.edit_settings.scales
    add_lora(editor, LoraSettings())

    def loss() -> float:
        draw = Draw(numpy_generator(0), torch_generator(0))
        return distillation_loss(editor, images, steps_per_edit=3, batch_size=2)(draw)[0].item()

    guided = loss()
    assert guided > 0
    editor.edit_settings = replace(
        editor.edit_settings, image_guidance_scale=1.0, style_guidance_scale=1.0, guidance_scale=1.0
    )
    assert loss() == pytest.approx(0, abs=1e-10)
    assert len(active_passes(scales)) == 4
    assert len(active_passes(SINGLE)) == 1


def test_the_student_edits_in_one_pass_as_the_teacher_does_in_four(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    store, editor = inputs
    summary = distill(configured(editor), store, None, tmp_path / "run")
    assert summary["guided_passes"] == 4
    assert summary["psnr"] > summary["psnr_of_one_pass_before"] + 0.5
    student, teacher = load_editor(tmp_path / "run"), load_editor(editor)
    assert student.edit_settings.scales == SINGLE
    assert replace(student.edit_settings, **scales_of(teacher)) == teacher.edit_settings
    assert np.array_equal(student.photos, teacher.photos)
    assert Path(summary["picture"]).is_file()
    assert distill(configured(editor), store, None, tmp_path / "run") == summary


def scales_of(editor: Editor) -> dict[str, float]:
    names = ("image_guidance_scale", "style_guidance_scale", "guidance_scale")
    return {name: getattr(editor.edit_settings, name) for name in names}


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, editor = inputs
    config = configured(editor, "fit.steps=10", "fit.checkpoint_every=4")
    whole = distill(config, store, None, tmp_path / "whole")
    path, calls = guided_path, 0

    def interrupted(*parts: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return path(*parts)

    monkeypatch.setattr(module, "guided_path", interrupted)
    with pytest.raises(KeyboardInterrupt):
        distill(config, store, None, tmp_path / "again")
    summary = distill(config, store, None, tmp_path / "again")
    assert calls == 7 + 6  # from the checkpoint of step 4
    assert summary["psnr"] == whole["psnr"]
    weights = [load_editor(tmp_path / name).unet.state_dict() for name in ("whole", "again")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["steps_per_edit=0"], "steps_per_edit must be at least 1; got 0"),
        (["fit.learning_rate=0"], "learning_rate must be positive; got 0"),
        (["steps_per_edit=2.5"], "steps_per_edit must be a whole number; got 2.5"),
        (["lora.target_modules=[to_x]"], "LoRA's target_modules must be endings of names"),
        (["lora.rank=0"], "lora: rank must be at least 1 and alpha above 0; got 0 and 16.0"),
    ],
)
def test_bad_settings_write_nothing(
    inputs: tuple[Path, Path], tmp_path: Path, overrides: list[str], message: str
) -> None:
    store, editor = inputs
    with pytest.raises(BadInput, match=message):
        distill(configured(editor, *overrides), store, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_editor_without_guidance_is_refused(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    editor = build_editor()
    editor.photos = guided_editor().photos
    editor.save_pretrained(tmp_path / "single")
    with pytest.raises(BadInput, match="takes one pass a step already"):
        distill(configured(tmp_path / "single"), inputs[0], None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
