"""A UNet that says what an edit differs from its visual prompt by: the formula, the passes, saving, refusal."""

from pathlib import Path

import pytest
import torch

from sim2real_aug.editor import load_editor
from sim2real_aug.editor.ddim import style_velocity
from sim2real_aug.editor.editor import Conditioning, Editor
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.errors import BadInput

from ..tiny_editor import build_editor

TIMESTEPS = torch.tensor([999, 500, 20])


def residual_editor() -> Editor:
    editor = build_editor()
    editor.scheduler.register_to_config(prediction_type="v_prediction")
    editor.register_to_config(style_residual=True)
    return editor


def test_it_is_the_velocity_without_noise() -> None:
    scheduler = build_editor().scheduler
    style = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    theirs = scheduler.get_velocity(style, torch.zeros_like(style), TIMESTEPS)
    torch.testing.assert_close(style_velocity(scheduler, style, TIMESTEPS), theirs)


@torch.no_grad()
def test_every_pass_that_sees_the_prompt_adds_it() -> None:
    editor = residual_editor()
    draw = torch.Generator().manual_seed(0)
    size = (3, editor.vae.config.latent_channels, 6, 6)
    noisy, source, style = (torch.randn(size, generator=draw) for _ in range(3))
    text, null = (editor.encode_text([words] * 3) for words in ("make it look real", ""))
    conditioning = Conditioning(source, style, text, null)
    scales = GuidanceScales(1.5, 2.0, 7.5)
    with_residual = editor.predict(noisy, TIMESTEPS, conditioning, scales)
    editor.register_to_config(style_residual=False)
    without = editor.predict(noisy, TIMESTEPS, conditioning, scales)
    added = style_velocity(editor.scheduler, style * editor.vae.config.scaling_factor, TIMESTEPS)
    torch.testing.assert_close(with_residual - without, (-5.5 + 7.5) * added, atol=1e-4, rtol=1e-4)


def test_it_is_saved(tmp_path: Path) -> None:
    residual_editor().save_pretrained(tmp_path)
    assert load_editor(tmp_path).config.style_residual
    build_editor().save_pretrained(tmp_path / "plain")
    assert not load_editor(tmp_path / "plain").config.style_residual


def test_it_needs_a_velocity() -> None:
    parts = build_editor().components
    parts["scheduler"].register_to_config(prediction_type="epsilon")
    with pytest.raises(BadInput, match="style_residual needs a scheduler of prediction_type v_prediction; got epsilon"):
        Editor(**parts, style_residual=True)
