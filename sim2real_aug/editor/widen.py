"""From a plain InstructPix2Pix checkpoint to an editor with visual prompt: the paper's start.

conv_in gets four more input channels whose weights are zero, the fusion layer's output projection is zero: the
widened editor's output is the plain one's exactly, whatever the photo, until training moves them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from sim2real_aug.editor.architecture import pipeline_class, read_index
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion
from sim2real_aug.editor.parts import IGNORED, NEEDED, load_parts
from sim2real_aug.errors import BadInput
from sim2real_aug.hub import fetch


def widen_unet(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A UNet with `channels` more input channels, with zero weights, where the old one is; all else is copied."""
    with unet.device:
        wide = UNet2DConditionModel.from_config(
            {**unet.config, "in_channels": unet.config.in_channels + channels}
        )
    state = unet.state_dict()
    kernel = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat(
        [kernel, kernel.new_zeros(kernel.shape[0], channels, *kernel.shape[2:])], dim=1
    )
    wide.load_state_dict(state)
    return wide.to(unet.dtype)


def stochastic_scheduler(config: dict[str, Any]) -> DDIMScheduler:
    """DDIM with a checkpoint's betas, set so that every step has a variance.

    Hub checkpoints carry other schedulers (Euler ancestral, PNDM), and DDIMScheduler's defaults (clip_sample and
    set_alpha_to_one true, steps_offset 0) end in a step without one.
    """
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    kept = {key: config[key] for key in keys if key in config}
    return DDIMScheduler(
        **kept, timestep_spacing="leading", steps_offset=1, clip_sample=False, set_alpha_to_one=False
    )


def from_instruct_pix2pix(
    path: str | Path = "timbrooks/instruct-pix2pix",
    image_size: int | None = None,
    gradient_checkpointing: bool = False,
) -> Editor:
    """Load a checkpoint of InstructPix2Pix's diffusers layout, by hub name or folder, and widen it; float32.

    image_size: pixels a side that it is trained and edits at, None: as the checkpoint was. gradient_checkpointing:
    less memory in training for a third more time. Raises BadInput where a part is missing or does not fit.
    """
    folder = fetch(path, NEEDED, IGNORED)
    if pipeline_class(read_index(folder)) == "Editor":
        raise BadInput(f"{folder} is an editor already: load it with editor=compact editor.path={folder}")
    parts = load_parts(folder, "an InstructPix2Pix checkpoint")
    latent = parts["vae"].config.latent_channels
    if parts["unet"].config.in_channels != 2 * latent:
        raise BadInput(
            f"{folder / 'unet'} takes {parts['unet'].config.in_channels} channels; InstructPix2Pix takes {2 * latent}"
        )
    scheduler = stochastic_scheduler(parts.pop("scheduler").config)
    return widened(parts, scheduler, image_size, gradient_checkpointing)


def widened(
    parts: dict[str, Any], scheduler: DDIMScheduler, image_size: int | None, gradient_checkpointing: bool
) -> Editor:
    """The editor of InstructPix2Pix's `parts`, with new channels and a fusion layer at zero; frozen."""
    vae, unet, text_encoder = parts["vae"], parts["unet"], parts["text_encoder"]
    latent = vae.config.latent_channels
    wide = widen_unet(unet, latent)
    fusion = ConditioningFusion(2 * latent, text_encoder.config.hidden_size)
    editor = Editor(vae, text_encoder, parts["tokenizer"], wide, fusion, scheduler)
    if image_size is not None:
        if image_size % editor.size_multiple:
            raise BadInput(f"image_size must be a multiple of {editor.size_multiple}; got {image_size}")
        wide.register_to_config(sample_size=image_size // editor.latent_stride)
    if gradient_checkpointing:
        wide.enable_gradient_checkpointing()
    for module in (vae, text_encoder, wide, fusion):
        module.requires_grad_(False).eval()
    editor.set_progress_bar_config(disable=True)
    return editor
