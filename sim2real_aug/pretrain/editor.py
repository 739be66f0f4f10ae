"""Pretraining of the compact base editor, with its visual prompt.

An example is (source, visual prompt, instruction) -> target: the same state in two looks, and a prompt of other states
in the target's look, composed for an editor that composes. Conditionings are dropped so that every pass of guidance is
trained. The autoencoder is frozen and its latents are computed once. Target: the velocity (Salimans & Ho 2022), which
keeps few-step sampling sharp; D3PO's step formulas take either kind of prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from hydra.utils import get_method
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel

from sim2real_aug.editor.editor import Conditioning, Editor
from sim2real_aug.editor.fusion import ConditioningFusion
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.pretrain.frames import ExampleIndex
from sim2real_aug.pretrain.instructions import (
    MAX_TOKENS,
    instruction_for,
    train_tokenizer,
    vocabulary_corpus,
)
from sim2real_aug.pretrain.loop import Draw, Loss
from sim2real_aug.pretrain.prompts import PromptSource

DROP = 0.05  # share of each kind of dropout, InstructPix2Pix's p
FLAT = 0
FLAT_SOURCE_SHARE = 0.65
FLAT_TARGET_SHARE = 0.06
SINGLE_PASS = GuidanceScales(1.0, 1.0, 1.0)


@dataclass(frozen=True)
class EditorArchitecture:
    """Sizes of the compact editor's UNet and text encoder."""

    block_out_channels: tuple[int, ...]
    attention_heads: tuple[int, ...]
    norm_num_groups: int
    text_hidden_size: int
    text_layers: int
    latent_size: int


def compact_scheduler() -> DDIMScheduler:
    """Stable Diffusion's betas, rescaled to end in pure noise; velocity and trailing steps for few-step sampling.

    Without the rescaling (Lin et al. 2023) x_T keeps 7 % of the target, whose mean over 576 latents is its colour:
    the network read the colour there instead of in the photo, and edits from pure noise had random hues.
    `set_alpha_to_one=False` keeps a variance in the last step, so that it has a log-probability.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=True,
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def build_editor(
    vae: AutoencoderKL, architecture: EditorArchitecture, scenes: list[Any], tokenizer_folder: Path
) -> Editor:
    """A new, untrained editor around a trained autoencoder; `scenes` teach the tokenizer its words."""
    tokenizer = train_tokenizer(tokenizer_folder, vocabulary_corpus(scenes))
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=architecture.text_hidden_size,
            intermediate_size=2 * architecture.text_hidden_size,
            num_hidden_layers=architecture.text_layers,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    attention_levels = len(architecture.block_out_channels) - 1
    unet = UNet2DConditionModel(
        sample_size=architecture.latent_size,
        in_channels=3 * vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attention_levels,
        up_block_types=("CrossAttnUpBlock2D",) * attention_levels + ("UpBlock2D",),
        block_out_channels=architecture.block_out_channels,
        layers_per_block=1,
        cross_attention_dim=architecture.text_hidden_size,
        # The class reads `attention_head_dim` as the number of heads (diffusers#2011).
        attention_head_dim=architecture.attention_heads,
        norm_num_groups=architecture.norm_num_groups,
    )
    fusion = ConditioningFusion(2 * vae.config.latent_channels, architecture.text_hidden_size)
    return Editor(vae, text_encoder, tokenizer, unet, fusion, compact_scheduler())


def draw_examples(rng: np.random.Generator, shape: tuple[int, ...], batch: int) -> ExampleIndex:
    """Random examples from frames of `shape` (G, V, K, ...); the visual prompt is never the target itself."""
    groups, looks, states = shape[:3]
    state = rng.integers(states, size=batch)
    source = np.where(rng.random(batch) < FLAT_SOURCE_SHARE, FLAT, rng.integers(1, looks, size=batch))
    target = np.where(rng.random(batch) < FLAT_TARGET_SHARE, FLAT, rng.integers(1, looks, size=batch))
    style = (state + rng.integers(1, states, size=batch)) % states
    return ExampleIndex(rng.integers(groups, size=batch), source, target, state, style)


def dropout_masks(draws: NDArray[np.floating]) -> tuple[NDArray[np.bool_], ...]:
    """Whether source, style and text are kept, from uniform `draws` (B,): DROP of the batch has none of them,
    as much has the source only, source and style, source and text."""
    source = draws >= DROP
    style = (draws >= 2 * DROP) & ~((draws >= 3 * DROP) & (draws < 4 * DROP))
    text = draws >= 3 * DROP
    return source, style, text


def draw_timesteps(rng: np.random.Generator, count: int) -> Tensor:
    """Timesteps (count,) in 0..999 with a density that grows linearly: what an edit looks like is decided early."""
    return torch.from_numpy((1000 * np.sqrt(rng.random(count))).astype(np.int64))


def editor_loss(
    editor: Editor, prompts: PromptSource, latents: Tensor, sample_scene: str, batch_size: int
) -> Loss:
    """Mean squared error of the velocity on a random batch of examples."""
    frames = prompts.frames
    scenes = get_method(sample_scene)
    device = editor.device

    def conditioning(index: ExampleIndex, rng: np.random.Generator) -> Conditioning:
        keep_source, keep_style, keep_text = dropout_masks(rng.random(batch_size))
        source = latents[index.groups, index.source_looks, index.states].to(device).float()
        if editor.composes:
            style = editor.encode_images(prompts.composed(index, rng, device))
        else:
            style = latents[index.groups, index.target_looks, index.style_states].to(device).float()
        texts = [
            instruction_for(None if look == FLAT else scenes(int(frames.scenes[group, look - 1])), rng)
            if keep
            else ""
            for group, look, keep in zip(index.groups, index.target_looks, keep_text, strict=True)
        ]
        tokens = editor.encode_text(texts)
        return Conditioning(
            source * _column(keep_source, device), style * _column(keep_style, device), tokens, tokens
        )

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        index = draw_examples(draw.numpy, latents.shape, batch_size)
        target = latents[index.groups, index.target_looks, index.states].to(device).float()
        target = target * editor.vae.config.scaling_factor
        noise = torch.randn(target.shape, generator=draw.torch).to(device)
        timesteps = draw_timesteps(draw.numpy, batch_size).to(device)
        noisy = editor.scheduler.add_noise(target, noise, timesteps)
        velocity = editor.scheduler.get_velocity(target, noise, timesteps)
        output = editor.predict(noisy, timesteps, conditioning(index, draw.numpy), SINGLE_PASS)
        error = F.mse_loss(output.float(), velocity, reduction="none").mean((1, 2, 3))
        late = timesteps >= 500
        return error.mean(), {"mse_late": error[late].mean(), "mse_early": error[~late].mean()}

    return loss


def _column(keep: NDArray[np.bool_], device: torch.device) -> Tensor:
    return torch.from_numpy(keep).to(device).float()[:, None, None, None]


def trained_modules(editor: Editor) -> nn.ModuleDict:
    """What the editor's pretraining moves: everything but the autoencoder."""
    return nn.ModuleDict({"unet": editor.unet, "fusion": editor.fusion, "text_encoder": editor.text_encoder})
