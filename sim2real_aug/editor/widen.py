"""From a plain InstructPix2Pix checkpoint to an editor with visual prompt: the paper's start.

conv_in gets four more input channels whose weights are zero, the fusion layer's output projection is zero: the
widened editor's output is the plain one's exactly, whatever the photo, until training moves them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion
from sim2real_aug.errors import BadInput


def widen_unet(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """A UNet with `channels` more input channels, with zero weights; everything else is copied."""
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


def from_instruct_pix2pix(path: str | Path, dtype: torch.dtype = torch.float32) -> Editor:
    """Load a folder in InstructPix2Pix's diffusers layout and widen it.

    Raises BadInput where a part is missing or the UNet does not take noise and a source image.
    """
    folder = Path(path)
    parts: dict[str, tuple[Any, dict[str, Any]]] = {
        "vae": (AutoencoderKL, {"dtype": dtype}),
        "text_encoder": (CLIPTextModel, {"dtype": dtype}),
        "tokenizer": (CLIPTokenizer, {}),
        "unet": (UNet2DConditionModel, {"dtype": dtype}),
    }
    loaded = {}
    for name, (kind, options) in parts.items():
        if not (folder / name).is_dir():
            raise BadInput(f"{folder} is not an InstructPix2Pix checkpoint: it has no folder '{name}'")
        try:
            loaded[name] = kind.from_pretrained(folder / name, **options)
        except (OSError, ValueError) as error:
            raise BadInput(f"{folder / name} does not load: {' '.join(str(error).split())}") from error
    latent = loaded["vae"].config.latent_channels
    if loaded["unet"].config.in_channels != 2 * latent:
        raise BadInput(
            f"{folder / 'unet'} takes {loaded['unet'].config.in_channels} channels; InstructPix2Pix takes {2 * latent}"
        )
    unet = widen_unet(loaded["unet"], latent)
    fusion = ConditioningFusion(2 * latent, loaded["text_encoder"].config.hidden_size).to(dtype)
    scheduler = stochastic_scheduler(DDIMScheduler.load_config(folder / "scheduler"))
    editor = Editor(loaded["vae"], loaded["text_encoder"], loaded["tokenizer"], unet, fusion, scheduler)
    editor.set_progress_bar_config(disable=True)
    return editor
