"""Null-text inversion: edit a real image by a plain Stable Diffusion, from a caption of it to another caption.

DDIM inversion finds the noise that the image comes from, but only without guidance. So the embedding of the empty
prompt is fitted at every step until the guided run retraces the inversion; the edit is that run once more, with the
target caption and the attention of the source (`prompt_to_prompt`).

Source: Null-text Inversion (Mokady et al. 2022, arXiv:2211.09794), section 3 and algorithm 1; google/prompt-to-prompt,
null_text_w_ptp.ipynb. No maintained library has it.
Legend: B images (B, 3, H, W) float in [0, 1]; T steps; latents (1, C, h, w), scaled; z*_t the pivots, from z*_0, the
image, to z*_T, the noise; ∅_t null texts and texts (1, L, D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from sim2real_aug.devices import autocast
from sim2real_aug.editor.coding import decode_latents, encode_texts, latent_stride, nearest_size
from sim2real_aug.editor.ddim import ddim_step, sampling_timesteps
from sim2real_aug.editor.parts import IGNORED, NEEDED, load_parts
from sim2real_aug.editor.prompt_to_prompt import TokenAlignment, align, replaced_steps, source_attention
from sim2real_aug.editor.widen import stochastic_scheduler
from sim2real_aug.errors import BadInput, below_least, unknown_name
from sim2real_aug.hub import fetch
from sim2real_aug.pixels import resized

# google/prompt-to-prompt's: Adam at LEARNING_RATE · (1 − i / DECAY_STEPS) at step i from the noise, until the error is
# below TOLERANCE + i · TOLERANCE_GROWTH.
LEARNING_RATE, DECAY_STEPS = 1e-2, 100
TOLERANCE, TOLERANCE_GROWTH = 1e-5, 2e-5


@dataclass(frozen=True)
class NullTextSettings:
    """How an edit is made; the defaults are the paper's. BadInput lists every mistake.

    inner_steps: Adam steps for each null text, 0: they stay the empty prompt's. cross_replace, self_replace: shares of
    the steps, from the noise, in which the target has the source's attention; 0.4 lets a swapped word move more than
    0.8.
    """

    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    inner_steps: int = 10
    cross_replace: float = 0.8
    self_replace: float = 0.4

    def __post_init__(self) -> None:
        mistakes = below_least(self, num_inference_steps=1, inner_steps=0)
        if self.num_inference_steps > DECAY_STEPS:
            mistakes.append(
                f"num_inference_steps must be at most {DECAY_STEPS}, where the learning rate has fallen to 0; "
                f"got {self.num_inference_steps}"
            )
        if not 1 <= self.guidance_scale < math.inf:
            mistakes.append(f"guidance_scale must be at least 1 and finite; got {self.guidance_scale}")
        mistakes += [
            f"{name} must lie in 0..1; got {value}"
            for name in ("cross_replace", "self_replace")
            if not 0 <= (value := getattr(self, name)) <= 1
        ]
        if mistakes:
            raise BadInput("; ".join(mistakes))


class NullTextEditor(DiffusionPipeline):
    """Edits images by source and target caption. Load one with `load_null_text_editor`."""

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: DDIMScheduler,
        settings: NullTextSettings | None = None,
    ) -> None:
        """Raises BadInput for parts that are not a plain Stable Diffusion's, and for more steps than it has."""
        super().__init__()
        require_plain(vae, text_encoder, unet)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
        )
        self.settings = NullTextSettings() if settings is None else settings
        sampling_timesteps(scheduler, self.settings.num_inference_steps)

    @property
    def size_multiple(self) -> int:
        """An image's sides must be multiples of this."""
        return latent_stride(self.vae)

    @torch.no_grad()
    def edit(self, images: Tensor, source_captions: list[str], target_captions: list[str]) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] that show what the target captions say, one of each caption for each image.

        Images whose sides are no multiples of `size_multiple` are edited at the nearest size that is and come back at
        their own. Nothing is drawn and each image is edited by itself: its edit depends on nothing else. Raises
        BadInput that lists what does not fit.
        """
        require_images(images, source_captions, target_captions)
        height, width = images.shape[-2:]
        fitting = resized(images.to(self.device), nearest_size(height, width, self.size_multiple))
        edits = [
            self.edit_one(image[None], source, target)
            for image, source, target in zip(fitting, source_captions, target_captions, strict=True)
        ]
        return resized(torch.cat(edits), (height, width)) if edits else images

    @torch.no_grad()
    def edit_one(self, image: Tensor, source_caption: str, target_caption: str) -> Tensor:
        """The edit of one image, (1, 3, H, W), whose sides fit."""
        texts = self.encode_text([source_caption, target_caption])
        with autocast(self.device, "fp32"):  # whatever is entered outside: bf16 has no digits for the fit
            pivots = self.invert(self.encode_image(image), texts[:1].float())
            null_texts = self.fit_null_texts(pivots, texts[:1].float())
        alignment = align(self.tokenizer, source_caption, target_caption, self.device)
        return self.decode(self.sample(pivots[-1], texts, null_texts, alignment)[1:])

    def encode_image(self, image: Tensor) -> Tensor:
        """z*_0 of an image (1, 3, H, W): the mode of the VAE's posterior, scaled."""
        posterior = self.vae.encode(image.to(self.vae.dtype) * 2 - 1).latent_dist
        return posterior.mode().float() * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (1, C, h, w) to an image (1, 3, H, W) in [0, 1]."""
        return decode_latents(self.vae, latents)

    def encode_text(self, captions: list[str]) -> Tensor:
        """The text encoder's last hidden states, (B, L, D)."""
        return encode_texts(self.tokenizer, self.text_encoder, captions)

    def predict(self, latents: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """The UNet's output (B, C, h, w), float32, for latents (B, C, h, w) and text (B, L, D)."""
        output: Tensor = self.unet(latents.to(self.unet.dtype), t, encoder_hidden_states=text).sample
        return output.float()

    def timesteps(self) -> Tensor:
        """(T,), falling: the order of sampling."""
        return sampling_timesteps(self.scheduler, self.settings.num_inference_steps).to(self.device)

    def step(self, output: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """z_{t-1} from z_t, both (B, C, h, w): DDIM equation 12 with σ = 0."""
        mean, _ = ddim_step(self.scheduler, output, t, latents, self.settings.num_inference_steps, eta=0.0)
        return mean

    def guided_step(self, unconditional: Tensor, conditional: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """z_{t-1}(z̄_t, ∅_t, C) from the outputs for ∅_t and for C."""
        return self.step(guided(unconditional, conditional, self.settings.guidance_scale), t, latents)

    def inverse_step(self, output: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """z_t from z_{t-1}, both (B, C, h, w): DDIM equation 13 towards the noise.

        `step` is gain · z_t + shift(output), so it is solved for z_t, whatever the model predicts.
        """
        gain = self.step(torch.zeros_like(output), t, torch.ones_like(latents))
        shift = self.step(output, t, torch.zeros_like(latents))
        return (latents - shift) / gain

    @torch.no_grad()
    def invert(self, latents: Tensor, text: Tensor) -> Tensor:
        """The pivots z*_0 .. z*_T, (T + 1, 1, C, h, w), from z*_0: section 3.2, with guidance scale 1.

        The output at z_t, which is sought, is taken at z_{t-1}: the more steps, the nearer.
        """
        pivots = [latents]
        for t in self.timesteps().flip(0):
            pivots.append(self.inverse_step(self.predict(pivots[-1], t, text), t, pivots[-1]))
        return torch.stack(pivots)

    @torch.no_grad()
    def fit_null_texts(self, pivots: Tensor, text: Tensor) -> Tensor:
        """∅_T .. ∅_1, (T, 1, L, D), by which the guided run from z*_T retraces the pivots: section 3.3, algorithm 1.

        Each starts from the one before it, the first from the empty prompt's, at the latents z̄_t where the fitted run
        is by then.
        """
        latents, null_text = pivots[-1], self.encode_text([""])
        fitted = []
        for i, (t, pivot) in enumerate(zip(self.timesteps(), pivots[:-1].flip(0), strict=True)):
            conditional = self.predict(latents, t, text)
            null_text = self.fit_null_text(null_text, conditional, t, latents, pivot, i)
            latents = self.guided_step(self.predict(latents, t, null_text), conditional, t, latents)
            fitted.append(null_text)
        return torch.stack(fitted)

    def fit_null_text(
        self, null_text: Tensor, conditional: Tensor, t: Tensor, latents: Tensor, pivot: Tensor, i: int
    ) -> Tensor:
        """∅_t at step i from the noise: equation 3, min over ∅_t of ‖z*_{t-1} − z_{t-1}(z̄_t, ∅_t, C)‖², by Adam.

        The mean, not the sum, over latent elements: TOLERANCE depends on it. As in the original the error that stops
        is that before its own step.
        """
        with torch.enable_grad():
            null_text = null_text.clone().requires_grad_()
            optimizer = torch.optim.Adam([null_text], lr=LEARNING_RATE * (1 - i / DECAY_STEPS))
            for _ in range(self.settings.inner_steps):
                unconditional = self.predict(latents, t, null_text)
                error = F.mse_loss(self.guided_step(unconditional, conditional, t, latents), pivot)
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                if error.item() < TOLERANCE + i * TOLERANCE_GROWTH:
                    break
        return null_text.detach()

    @torch.no_grad()
    def sample(self, noise: Tensor, texts: Tensor, null_texts: Tensor, alignment: TokenAlignment) -> Tensor:
        """Latents (2, C, h, w) of the reconstructed source and of the edit: Prompt-to-Prompt's algorithm 1.

        noise: x_T (1, C, h, w), of both; texts (2, L, D): source and target; null_texts (T, 1, L, D), of both.
        """
        settings = self.settings
        steps = settings.num_inference_steps
        cross_until = replaced_steps(settings.cross_replace, steps)
        self_until = replaced_steps(settings.self_replace, steps)
        latents = noise.repeat(2, 1, 1, 1)
        for i, (t, null_text) in enumerate(zip(self.timesteps(), null_texts, strict=True)):
            tokens = positions_at_half(*noise.shape[-2:]) if i < self_until else 0
            with source_attention(self.unet, alignment if i < cross_until else None, tokens):
                both = torch.cat([null_text.repeat(2, 1, 1), texts])
                unconditional, conditional = self.predict(latents.repeat(2, 1, 1, 1), t, both).chunk(2)
            latents = self.guided_step(unconditional, conditional, t, latents)
        return latents


def guided(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """ε̃ = scale · ε(z_t, t, C) + (1 − scale) · ε(z_t, t, ∅): null-text inversion, section 3.1.

    Classifier-free guidance (Ho & Salimans 2022), equation 6, whose w is scale − 1.
    """
    return unconditional + scale * (conditional - unconditional)


def positions_at_half(height: int, width: int) -> int:
    """Positions of the largest self-attention map that is replaced: of latents (h, w) halved once, as the UNet halves
    them. google/prompt-to-prompt's null_text_w_ptp.ipynb says 32 ** 2, of the 64 x 64 of 512 pixels; we keep the
    share at every size."""
    return math.ceil(height / 2) * math.ceil(width / 2)


def require_plain(vae: Any, text_encoder: Any, unet: Any) -> None:
    """Raises BadInput that lists what makes a checkpoint other than a plain Stable Diffusion."""
    latent, text = vae.config.latent_channels, text_encoder.config.hidden_size
    widths = [
        ("takes", unet.config.in_channels, latent, "channels"),
        ("gives", unet.config.out_channels, latent, "channels"),
        ("attends to", unet.config.cross_attention_dim, text, "text features"),
    ]
    wrong = [
        f"{verb} {found} {what}, not {wanted}" for verb, found, wanted, what in widths if found != wanted
    ]
    if wrong:
        raise BadInput(
            "null-text inversion edits with a plain Stable Diffusion, such as CompVis/stable-diffusion-v1-4; "
            f"this UNet {', '.join(wrong)}"
        )


def require_images(images: Tensor, source_captions: list[str], target_captions: list[str]) -> None:
    """Raises BadInput that lists what `NullTextEditor.edit` cannot take."""
    mistakes = []
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        mistakes.append(
            f"images must be (B, 3, H, W) float in [0, 1]; got {tuple(images.shape)} {images.dtype}"
        )
    elif images.numel() and not (images.min() >= 0 and images.max() <= 1):
        mistakes.append(f"images must lie in [0, 1]; got {images.min():g} to {images.max():g}")
    mistakes += [
        f"{name} must be a list of {len(images)} texts, one for each image; got {captions!r}"
        for name, captions in (("source_captions", source_captions), ("target_captions", target_captions))
        if isinstance(captions, str) or len(captions) != len(images)
    ]
    if mistakes:
        raise BadInput("; ".join(mistakes))


def load_null_text_editor(
    path: str | Path = "CompVis/stable-diffusion-v1-4", **settings: Any
) -> NullTextEditor:
    """Load a plain Stable Diffusion of diffusers' layout, by hub name or folder; float32, safetensors only.

    settings: fields of `NullTextSettings`. The betas are the checkpoint's; the sampler is DDIM whatever it carries.
    Raises BadInput for settings out of range and where a part is missing or does not fit.
    """
    names = [field.name for field in fields(NullTextSettings)]
    for name in settings:
        if name not in names:
            raise unknown_name("setting of null-text inversion", name, names)
    chosen = NullTextSettings(**settings)
    folder = fetch(path, NEEDED, IGNORED)
    parts = load_parts(folder, "a Stable Diffusion checkpoint")
    scheduler = stochastic_scheduler(parts.pop("scheduler").config)
    try:
        editor = NullTextEditor(**parts, scheduler=scheduler, settings=chosen)
    except BadInput as error:
        raise BadInput(f"{folder}: {error}") from error
    for module in (editor.vae, editor.text_encoder, editor.unet):
        module.requires_grad_(False).eval()  # no gradients but the null text's
    return editor
