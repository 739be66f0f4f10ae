"""The paper's start: a plain InstructPix2Pix checkpoint, widened, is still InstructPix2Pix."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from PIL import Image

from sim2real_aug.config import compose, make
from sim2real_aug.editor.editor import Editor, EditSettings
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.editor.widen import from_instruct_pix2pix, widen_unet
from sim2real_aug.errors import BadInput
from sim2real_aug.pixels import to_images


@pytest.fixture
def editor(checkpoint: Path) -> Editor:
    return from_instruct_pix2pix(checkpoint)


def images(count: int, seed: int) -> torch.Tensor:
    frames = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return to_images(frames)


@torch.no_grad()
def test_widened_output_is_the_plain_one_bit_for_bit_whatever_the_photo(
    checkpoint: Path, editor: Editor
) -> None:
    plain = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    t = torch.tensor(321)
    for seed in (2, 3):
        conditioning = editor.condition(images(2, 1), images(2, seed), "s n o w")
        wide = editor.predict(latents, t, conditioning, GuidanceScales(1, 1, 1))
        narrow = plain(
            torch.cat([latents, conditioning.source], 1), t, encoder_hidden_states=conditioning.text
        ).sample
        assert torch.equal(wide, narrow)


@torch.no_grad()
@pytest.mark.parametrize("style_scale", [0.0, 1.0, 5.0])
def test_sampler_equals_diffusers_instruct_pix2pix(
    checkpoint: Path, editor: Editor, style_scale: float
) -> None:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(checkpoint, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(editor.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    frame = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    noise = editor.initial_latents(1, torch.Generator().manual_seed(7))
    expected = pipeline(
        "s n o w", image=Image.fromarray(frame), num_inference_steps=6, guidance_scale=7.5,
        image_guidance_scale=1.5, latents=noise.clone(), output_type="np",
    ).images  # fmt: skip
    editor.edit_settings = EditSettings("s n o w", 6, 1.5, style_scale, 7.5)
    edited = editor.edit(to_images(frame[None]), images(1, 9), noise)
    np.testing.assert_allclose(edited.permute(0, 2, 3, 1).numpy(), expected, atol=1e-4)


def test_a_network_on_another_device_stays_there(checkpoint: Path) -> None:
    plain = UNet2DConditionModel.from_pretrained(checkpoint / "unet").to("meta", torch.bfloat16)
    wide = widen_unet(plain, 4)
    assert {(each.device.type, each.dtype) for each in wide.parameters()} == {("meta", torch.bfloat16)}


@torch.no_grad()
def test_style_guidance_term_is_zero_at_the_start(editor: Editor) -> None:
    conditioning = editor.condition(images(1, 1), images(1, 2), "s")
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    weak, strong = (
        editor.predict(latents, torch.tensor(500), conditioning, GuidanceScales(1.5, s, 7.5))
        for s in (0.5, 6.0)
    )
    torch.testing.assert_close(weak, strong, atol=1e-5, rtol=0)


def test_saves_and_loads_in_diffusers_layout(editor: Editor, tmp_path: Path) -> None:
    editor.photos = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    editor.edit_settings = EditSettings("s n", 3, 1.0, 2.0, 3.0)
    editor.save_pretrained(tmp_path / "editor")
    again = Editor.from_pretrained(tmp_path / "editor")
    assert (tmp_path / "editor" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert again.edit_settings == EditSettings("s n", 3, 1.0, 2.0, 3.0)
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(again(frames), editor(frames))


def test_edit_does_not_depend_on_the_batch(editor: Editor) -> None:
    editor.edit_settings = EditSettings("s n", 3, 1.5, 2.0, 3.0)
    frames = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8)
    photos = frames[:1]
    together = editor(frames, photos)
    alone = np.concatenate([editor(frame[None], photos) for frame in frames])
    assert np.abs(together.astype(int) - alone).max() <= 1


def test_wrong_checkpoints_are_refused_in_one_line(checkpoint: Path, editor: Editor, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no folder 'vae'"):
        from_instruct_pix2pix(tmp_path)
    with pytest.raises(BadInput, match=r"no model_index\.json"):
        Editor.from_pretrained(tmp_path)
    with pytest.raises(BadInput, match="not an Editor; widen"):
        Editor.from_pretrained(checkpoint)
    with pytest.raises(BadInput, match="multiples of 2"):
        editor.encode_images(torch.zeros(1, 3, 31, 31))


def test_the_configuration_sd15_loads_a_folder_and_trains_with_checkpointing(checkpoint: Path) -> None:
    node = compose("train_editor", ["editor=sd15", f"editor.path={checkpoint}", "editor.image_size=48"]).editor
    editor = make(node)
    assert editor.image_size == 48
    assert editor.unet.is_gradient_checkpointing
    assert not any(parameter.requires_grad for parameter in editor.unet.parameters())
    with pytest.raises(BadInput, match="image_size must be a multiple of 2; got 51"):
        from_instruct_pix2pix(checkpoint, image_size=51)
    editor.save_pretrained(checkpoint.parent / "wide")
    with pytest.raises(BadInput, match="is an editor already"):
        from_instruct_pix2pix(checkpoint.parent / "wide")


def test_a_name_that_the_hub_cannot_have_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^no/such/model is neither a folder nor, as ORG/MODEL"):
        from_instruct_pix2pix("no/such/model")
