"""Null-text inversion on a tiny Stable Diffusion: known answers, diffusers' own pipeline and scheduler."""

from collections.abc import Callable
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline
from torch import Tensor

from sim2real_aug.editor import null_text
from sim2real_aug.editor.null_text import (
    NullTextEditor,
    NullTextSettings,
    load_null_text_editor,
    positions_at_half,
)
from sim2real_aug.editor.prompt_to_prompt import align
from sim2real_aug.errors import BadInput

from ..tiny_pix2pix import instruct_pix2pix

SOURCE, TARGET = "s n o", "w n o"


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the hub's layout, with the scheduler that Stable Diffusion 1.4 carries."""
    folder, parts = tmp_path_factory.mktemp("stable-diffusion"), instruct_pix2pix()
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet.from_config({**parts.unet.config, "in_channels": 4}),
        scheduler=PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def load(stable_diffusion: Path) -> Callable[..., NullTextEditor]:
    return lambda **settings: load_null_text_editor(stable_diffusion, **settings)


def images(count: int, seed: int = 0, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def noise(seed: int = 3) -> Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def null_texts(editor: NullTextEditor, spread: float) -> Tensor:
    """The empty prompt's at every step, plus noise of its own."""
    empty = editor.encode_text([""]).expand(editor.settings.num_inference_steps, 1, -1, -1)
    return empty + spread * torch.randn(empty.shape, generator=torch.Generator().manual_seed(4))


def test_the_sampler_is_ddim_with_the_checkpoints_betas(load: Callable[..., NullTextEditor]) -> None:
    editor = load()
    config = editor.scheduler.config
    assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")
    assert (config.clip_sample, config.set_alpha_to_one) == (False, False)
    assert editor.timesteps().tolist() == list(range(981, 0, -20))
    assert editor.settings == NullTextSettings(50, 7.5, 10, 0.8, 0.4)


def test_a_step_back_and_forth_is_the_same_latent_and_diffusers_step(
    load: Callable[..., NullTextEditor],
) -> None:
    editor = load(num_inference_steps=10)
    for t in editor.timesteps()[[0, 5, 9]]:
        latents, output = noise(1), noise(2)
        expected = editor.scheduler.step(output, int(t), latents).prev_sample
        torch.testing.assert_close(editor.step(output, t, latents), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(editor.inverse_step(output, t, expected), latents, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_inversion_equals_diffusers_inverse_scheduler(load: Callable[..., NullTextEditor]) -> None:
    editor = load(num_inference_steps=5)
    inverse = DDIMInverseScheduler.from_config(editor.scheduler.config)
    inverse.set_timesteps(5)
    latents, text = editor.encode_image(images(1)), editor.encode_text([SOURCE])
    for t, pivot in zip(inverse.timesteps, editor.invert(latents, text)[1:], strict=True):
        output = editor.unet(latents, t, encoder_hidden_states=text).sample
        latents = inverse.step(output, int(t), latents).prev_sample
        torch.testing.assert_close(pivot, latents, atol=1e-4, rtol=1e-4)


def test_inversion_tends_to_the_known_answer(load: Callable[..., NullTextEditor]) -> None:
    """Latents drawn from N(0, s²) have a known noise prediction, by which z_t / std(z_t) stays what it was."""
    editor, s = load(), 2.0
    alphas = editor.scheduler.alphas_cumprod
    editor.predict = lambda z, t, text: (1 - alphas[t]).sqrt() * z / (alphas[t] * s**2 + 1 - alphas[t])
    z0, errors = noise(), []
    for steps in (10, 20, 40, 80):
        editor.settings = NullTextSettings(num_inference_steps=steps)
        pivots = editor.invert(z0, torch.zeros(1, 8, 16))
        assert pivots.shape == (steps + 1, 1, 4, 16, 16)
        assert torch.equal(pivots[0], z0)
        first, last = alphas[0], alphas[editor.timesteps()[0]]
        expected = z0 * ((last * s**2 + 1 - last) / (first * s**2 + 1 - first)).sqrt()
        errors.append(((pivots[-1] - expected).norm() / expected.norm()).item())
    assert errors[-1] < 0.03
    for coarse, fine in pairwise(errors):
        assert 1.5 < coarse / fine < 2.5, "of first order: twice the steps, half the error"


def test_sampling_after_inversion_comes_nearer_with_more_steps(load: Callable[..., NullTextEditor]) -> None:
    errors = []
    for steps in (4, 16):
        editor = load(num_inference_steps=steps, guidance_scale=1)
        editor.unet.conv_out.weight *= 0.03  # a random network is too rough to be inverted
        text = editor.encode_text([SOURCE])
        pivots = editor.invert(editor.encode_image(images(1)), text)
        alignment = align(editor.tokenizer, SOURCE, SOURCE)
        back = editor.sample(pivots[-1], text.repeat(2, 1, 1), null_texts(editor, 0), alignment)[:1]
        errors.append((back - pivots[0]).square().mean().sqrt().item())
    assert errors[1] < 0.75 * errors[0]
    assert errors[1] < 0.01


def test_fitted_null_texts_bring_the_guided_run_nearer_to_the_pivots(
    load: Callable[..., NullTextEditor],
) -> None:
    editor = load(num_inference_steps=4, inner_steps=8)
    text = editor.encode_text([SOURCE])
    pivots = editor.invert(editor.encode_image(images(1)), text)
    fitted = editor.fit_null_texts(pivots, text)
    assert fitted.shape == (4, 1, 8, 16)
    assert not fitted.requires_grad
    alignment = align(editor.tokenizer, SOURCE, SOURCE)
    unfitted_error, fitted_error = (
        (editor.sample(pivots[-1], text.repeat(2, 1, 1), texts, alignment)[0] - pivots[0]).square().mean()
        for texts in (null_texts(editor, 0), fitted)
    )
    assert fitted_error < 0.9 * unfitted_error
    assert all(parameter.grad is None for parameter in editor.unet.parameters())


def test_null_texts_equal_algorithm_1_with_diffusers_scheduler(load: Callable[..., NullTextEditor]) -> None:
    editor = load(num_inference_steps=3, inner_steps=2)
    scheduler = DDIMScheduler.from_config(editor.scheduler.config)
    scheduler.set_timesteps(3)
    pivots, text = [noise(seed) for seed in range(4)], editor.encode_text([SOURCE])
    fitted = editor.fit_null_texts(torch.stack(pivots), text)

    def reached(latents: Tensor, null: Tensor, t: Tensor) -> Tensor:
        for_null, for_text = (editor.unet(latents, t, encoder_hidden_states=c).sample for c in (null, text))
        return scheduler.step(7.5 * for_text - 6.5 * for_null, int(t), latents).prev_sample

    latents, null = pivots[3], editor.encode_text([""]).detach()
    for i, t in enumerate(scheduler.timesteps):
        null = null.clone().requires_grad_()
        optimizer = torch.optim.Adam([null], lr=0.01 - 0.0001 * i)
        for _ in range(2):
            optimizer.zero_grad()
            (reached(latents, null, t) - pivots[2 - i]).square().mean().backward()
            optimizer.step()
        null = null.detach()
        latents = reached(latents, null, t)
        torch.testing.assert_close(fitted[i], null, atol=1e-4, rtol=0)


def test_without_inner_steps_null_texts_are_the_empty_prompts(load: Callable[..., NullTextEditor]) -> None:
    editor = load(num_inference_steps=2, inner_steps=0)
    text = editor.encode_text([SOURCE])
    fitted = editor.fit_null_texts(editor.invert(editor.encode_image(images(1)), text), text)
    assert torch.equal(fitted, null_texts(editor, 0))


def test_the_learning_rate_falls_with_the_step(load: Callable[..., NullTextEditor]) -> None:
    """Adam's first step moves by the learning rate: 0.01 at step 0, 0.006 at step 40."""
    editor = load(inner_steps=1)
    null, conditional = editor.encode_text([""]), noise(5)
    for i, rate in ((0, 0.01), (40, 0.006)):
        fitted = editor.fit_null_text(null, conditional, editor.timesteps()[i], noise(6), noise(7), i)
        assert (fitted - null).abs().max().item() == pytest.approx(rate, rel=1e-2)


def test_fitting_stops_where_the_error_is_small(load: Callable[..., NullTextEditor]) -> None:
    editor, seen = load(inner_steps=4), []
    null, conditional, latents, t = editor.encode_text([""]), noise(5), noise(6), editor.timesteps()[10]
    reached = editor.guided_step(editor.predict(latents, t, null), conditional, t, latents)
    predict = editor.predict
    editor.predict = lambda *arguments: seen.append(1) or predict(*arguments)
    editor.fit_null_text(null, conditional, t, latents, reached + 0.1, 10)
    assert len(seen) == 4
    editor.fit_null_text(null, conditional, t, latents, reached + 0.014, 10)
    assert len(seen) == 5, "0.014 squared is below 1e-5 + 10 · 2e-5"


def test_same_captions_with_full_replacement_give_the_reconstruction(
    load: Callable[..., NullTextEditor],
) -> None:
    editor = load(num_inference_steps=4, cross_replace=1.0, self_replace=1.0)
    alignment = align(editor.tokenizer, SOURCE, SOURCE)
    texts = editor.encode_text([SOURCE, SOURCE])
    source, edit = editor.sample(noise(), texts, null_texts(editor, 0.1), alignment)
    torch.testing.assert_close(edit, source, atol=1e-5, rtol=0)


def test_reconstruction_does_not_depend_on_the_target(load: Callable[..., NullTextEditor]) -> None:
    editor, branches = load(num_inference_steps=4), []
    nulls = null_texts(editor, 0.1)
    for target in (SOURCE, TARGET, "w o"):
        alignment = align(editor.tokenizer, SOURCE, target)
        branches.append(editor.sample(noise(), editor.encode_text([SOURCE, target]), nulls, alignment))
    for branch in branches[1:]:
        torch.testing.assert_close(branch[0], branches[0][0], atol=1e-4, rtol=1e-4)
        assert (branch[1] - branch[0]).abs().max() > 1e-2


@torch.no_grad()
def test_without_replacement_the_edit_is_diffusers_guided_sampling(
    stable_diffusion: Path, load: Callable[..., NullTextEditor]
) -> None:
    """diffusers' pipeline from the same x_T, its null text changed after every step."""
    editor = load(num_inference_steps=5, cross_replace=0, self_replace=0)
    texts, nulls = editor.encode_text([SOURCE, TARGET]), null_texts(editor, 0.3)
    pipeline = StableDiffusionPipeline.from_pretrained(stable_diffusion, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(editor.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)

    def next_null_text(_: Any, step: int, __: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        following = nulls[min(step + 1, len(nulls) - 1)]
        return {"prompt_embeds": torch.cat([following, tensors["prompt_embeds"][1:]])}

    edits = editor.sample(noise(), texts, nulls, align(editor.tokenizer, SOURCE, TARGET))
    for text, edit in zip(texts.split(1), edits.split(1), strict=True):
        expected = pipeline(
            prompt_embeds=text, negative_prompt_embeds=nulls[0], latents=noise(), num_inference_steps=5,
            guidance_scale=7.5, output_type="latent", callback_on_step_end=next_null_text,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        ).images  # fmt: skip
        torch.testing.assert_close(edit, expected, atol=1e-4, rtol=1e-4)
        image = editor.decode(edit)
        decoded = pipeline.vae.decode(expected / pipeline.vae.config.scaling_factor).sample / 2 + 0.5
        torch.testing.assert_close(image, decoded.clamp(0, 1), atol=1e-4, rtol=0)


def test_attention_is_replaced_in_the_first_steps(
    load: Callable[..., NullTextEditor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 5 steps 0.8 are four, 0.4 are two; latents of 16 x 16 are 8 x 8 at half."""
    editor, seen = load(num_inference_steps=5), []

    @contextmanager
    def recorded(unet: Any, alignment: Any, tokens: int) -> Any:
        seen.append((alignment is not None, tokens))
        yield

    monkeypatch.setattr(null_text, "source_attention", recorded)
    alignment = align(editor.tokenizer, SOURCE, TARGET)
    editor.sample(noise(), editor.encode_text([SOURCE, TARGET]), null_texts(editor, 0), alignment)
    assert seen == [(True, 64), (True, 64), (True, 0), (True, 0), (False, 0)]


def test_the_largest_replaced_self_attention_by_hand() -> None:
    assert positions_at_half(64, 64) == 32**2, "google/prompt-to-prompt's, of 512 pixels a side"
    assert positions_at_half(32, 43) == 16 * 22, "256 x 344 pixels; the UNet rounds up"


def test_an_edit_depends_on_its_own_image_and_captions_only(load: Callable[..., NullTextEditor]) -> None:
    editor = load(num_inference_steps=2, inner_steps=1)
    three, sources, targets = images(3), [SOURCE, "s", SOURCE], [TARGET, "s n", "w o"]
    together = editor.edit(three, sources, targets)
    assert together.shape == three.shape
    assert 0 <= together.min() <= together.max() <= 1
    for i in range(3):
        alone = editor.edit(three[i : i + 1], sources[i : i + 1], targets[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=0)
    again = editor.edit(three.flip(0), sources[::-1], targets[::-1]).flip(0)
    torch.testing.assert_close(again, together, atol=1e-6, rtol=0)
    other = editor.edit(three[:1], [SOURCE], ["o o"])
    assert (other - together[:1]).abs().max() > 1e-3


def test_images_of_any_size_come_back_at_their_own(load: Callable[..., NullTextEditor]) -> None:
    editor = load(num_inference_steps=1, inner_steps=0)
    assert editor.size_multiple == 2, "of whole latents, as in every other editor of the same autoencoder"
    assert editor.edit(images(1, size=(30, 45)), [SOURCE], [TARGET]).shape == (1, 3, 30, 45)
    assert editor.edit(images(0), [], []).shape == (0, 3, 32, 32)


def test_settings_list_every_mistake() -> None:
    with pytest.raises(BadInput) as error:
        NullTextSettings(0, 0.5, -1, 1.5, float("nan"))
    for name in ("num_inference_steps", "guidance_scale", "inner_steps"):
        assert f"{name} must be at least" in str(error.value)
    assert "cross_replace must lie in 0..1; got 1.5; self_replace must lie in 0..1; got nan" in str(
        error.value
    )
    with pytest.raises(BadInput, match=r"num_inference_steps must be at most 100, .*; got 101"):
        NullTextSettings(num_inference_steps=101)


def test_wrong_images_and_captions_are_refused_together(load: Callable[..., NullTextEditor]) -> None:
    editor = load(num_inference_steps=1)
    with pytest.raises(
        BadInput, match=r"images must be \(B, 3, H, W\) float.*uint8; target_captions must be a"
    ):
        editor.edit(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), [SOURCE], [SOURCE, TARGET])
    with pytest.raises(
        BadInput, match=r"images must lie in \[0, 1\]; got 0 to 255; source_captions must be a list"
    ):
        editor.edit(torch.tensor([0.0, 255.0, 1.0]).reshape(1, 3, 1, 1), SOURCE, [TARGET])


def test_wrong_checkpoints_are_refused_in_one_line(
    checkpoint: Path, stable_diffusion: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="this UNet takes 8 channels, not 4") as error:
        load_null_text_editor(checkpoint)
    assert str(checkpoint) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="not a Stable Diffusion checkpoint: it has no folder 'vae'"):
        load_null_text_editor(tmp_path)
    with pytest.raises(BadInput, match=r"^no/such/model is neither a folder nor"):
        load_null_text_editor("no/such/model")
    with pytest.raises(BadInput, match="Did you mean 'inner_steps'"):
        load_null_text_editor(stable_diffusion, inner_step=3)
