"""The editor: InstructPix2Pix with a visual prompt, as a diffusers pipeline.

The UNet's conv_in takes z_t, E(I_og) and E(I_sty), C channels each: 4 in Stable Diffusion, 8 in the compact editor.
E() is the VAE's mode, not scaled by the scaling factor, as InstructPix2Pix does. Before conv_in `fusion` lets the
two conditioning latents attend to the instruction. ∅ is a zero latent for an image and the empty prompt for text.

Legend: B edits, P photos; images (B, 3, H, W) float in [0, 1]; frames (B, H, W, 3) uint8; latents (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from sim2real_aug.data.frames import as_frames
from sim2real_aug.data.photos import PhotoSet, as_photo_set, read_photos, write_photos
from sim2real_aug.editor.architecture import pipeline_class, require_editor, require_fit, write_classes
from sim2real_aug.editor.coding import decode_latents, encode_texts, latent_stride, nearest_size
from sim2real_aug.editor.composition import Composer, composer_for, prompt_size, with_change
from sim2real_aug.editor.ddim import ddim_step, sampling_timesteps, velocity_of
from sim2real_aug.editor.fusion import ConditioningFusion
from sim2real_aug.editor.guidance import GuidanceScales, active_passes
from sim2real_aug.editor.parts import PARTS, load_parts
from sim2real_aug.editor.prompts import photos_in_turn
from sim2real_aug.errors import BadInput
from sim2real_aug.loading import loaded, quiet
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.seeding import torch_generator


@dataclass(frozen=True)
class EditSettings:
    """How an editor edits when nothing else is said; stored with its weights.

    photos_per_edit: photos that an edit takes after, the mean of their latents; 0: all. change: the share of its change
    to its prompt that an editor that composes prompts draws, above 0; 1 for the others.
    """

    instruction: str = "make it look like a real photo"
    num_inference_steps: int = 20
    image_guidance_scale: float = 1.5
    style_guidance_scale: float = 1.5
    guidance_scale: float = 7.5
    photos_per_edit: int = 1
    change: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.change <= 1:
            raise BadInput(f"change must be above 0 and at most 1; got {self.change}")
        if self.photos_per_edit < 0:
            raise BadInput(f"photos_per_edit must be at least 1, or 0 for all photos; got {self.photos_per_edit}")

    def require_change(self, composes: bool) -> None:
        """Raises BadInput for a share of the change where there is no prompt to change."""
        if self.change != 1 and not composes:
            told = "an editor that takes photos as they are draws its edits whole"
            raise BadInput(f"{told}: edit_settings.change must be 1; got {self.change}")

    @property
    def scales(self) -> GuidanceScales:
        return GuidanceScales(self.image_guidance_scale, self.style_guidance_scale, self.guidance_scale)


@dataclass(frozen=True)
class Conditioning:
    """What B edits are conditioned on: source and style latents (B, C, h, w), text and null_text (B, L, D).

    detail: (B, 3, H, W), what the drawn share of the autoencoder's image lacks of composed visual prompts; None of an
    editor that composes none.
    """

    source: Tensor
    style: Tensor
    text: Tensor
    null_text: Tensor
    detail: Tensor | None = None

    def __len__(self) -> int:
        return len(self.source)

    def index(self, chosen: Tensor | slice) -> Conditioning:
        """The conditioning of some of the edits."""
        return self._each(lambda part: part[chosen])

    @staticmethod
    def join(parts: Sequence[Conditioning]) -> Conditioning:
        """The conditioning of several batches as one."""
        needed = ([getattr(part, name) for part in parts] for name in ("source", "style", "text", "null_text"))
        source, style, text, null_text = map(torch.cat, needed)
        details = [part.detail for part in parts if part.detail is not None]
        return Conditioning(source, style, text, null_text, torch.cat(details) if details else None)

    def repeat(self, times: int) -> Conditioning:
        """Each edit's conditioning `times` times in a row: edits 0, 0, 1, 1, ..."""
        return self._each(lambda part: part.repeat_interleave(times, dim=0))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        source, style, text, null_text = map(change, (self.source, self.style, self.text, self.null_text))
        return Conditioning(source, style, text, null_text, None if self.detail is None else change(self.detail))


class Editor(DiffusionPipeline):
    """Edits frames by source image, visual prompt and instruction. Load one with `sim2real_aug.load_editor`.

    Where this package is installed, `diffusers.DiffusionPipeline.from_pretrained(path, trust_remote_code=True)` reads
    a saved one too, from a folder or the hub. The argument is diffusers' rule: it finds a class that is not its own
    through two files in the folder, which do no more than import ours (`architecture.CLASSES`).
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        fusion: ConditioningFusion,
        scheduler: DDIMScheduler,
        edit_settings: dict[str, Any] | None = None,
        composes: bool = False,
    ) -> None:
        """composes: trained on visual prompts in the source's layout (`composition`), and to predict what an edit
        differs from its prompt by. Raises BadInput for a scheduler that such an editor cannot have."""
        super().__init__()
        if composes and scheduler.config.prediction_type != "v_prediction":
            raise BadInput(
                "an editor that composes its prompts predicts v; its scheduler's prediction_type is "
                f"'{scheduler.config.prediction_type}'"
            )
        chosen = EditSettings(**(edit_settings or {}))
        chosen.require_change(composes)
        require_fit(vae, text_encoder, unet, fusion)
        vae.to(memory_format=torch.channels_last)  # two thirds of the time on a CPU; slower for the UNet
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            fusion=fusion,
            scheduler=scheduler,
        )
        self.register_to_config(edit_settings=asdict(chosen), composes=composes)
        self._kept: tuple[tuple[Tensor, Tensor], Composer | None] | None = None

    @property
    def composes(self) -> bool:
        """Whether visual prompts are to be made by `composition.composer_for`."""
        return bool(self.config.composes)

    @cached_property
    def photo_set(self) -> PhotoSet | None:
        """What edits take after where no other photos are given, with masks; at first those saved with it."""
        folder = self.config.get("_name_or_path")
        return None if folder is None else read_photos(Path(folder) / "photos")

    @property
    def photos(self) -> NDArray[np.uint8] | None:
        """The images of `photo_set`, (P, S, S, 3)."""
        return None if self.photo_set is None else self.photo_set.images

    @photos.setter
    def photos(self, images: NDArray[np.uint8] | None) -> None:
        self.photo_set = None if images is None else as_photo_set(images)

    @property
    def edit_settings(self) -> EditSettings:
        return EditSettings(**self.config.edit_settings)

    @edit_settings.setter
    def edit_settings(self, settings: EditSettings) -> None:
        settings.require_change(self.composes)
        self.register_to_config(edit_settings=asdict(settings))

    @property
    def image_size(self) -> int:
        """Pixels a side of the images that the editor was trained on."""
        return int(self.unet.config.sample_size * self.latent_stride)

    @property
    def latent_stride(self) -> int:
        """Pixels a side of one latent."""
        return latent_stride(self.vae)

    @property
    def size_multiple(self) -> int:
        """An image's sides must be multiples of this: whole latents, of which the UNet takes any number."""
        return self.latent_stride

    def nearest_size(self, height: int, width: int) -> tuple[int, int]:
        """The size nearest to an image's that the editor can edit at."""
        return nearest_size(height, width, self.size_multiple)

    def encode_images(self, images: Tensor) -> Tensor:
        """E(I): the mode of the VAE's posterior, unscaled, (B, C, h, w). Raises BadInput for an unfit size."""
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise BadInput(
                f"image sides must be multiples of {self.size_multiple} for this editor; got {height} x {width}"
            )
        return self.vae.encode(images.to(self.vae.dtype) * 2 - 1).latent_dist.mode()

    def encode_text(self, instructions: list[str]) -> Tensor:
        """The text encoder's last hidden states, (B, L, D)."""
        return encode_texts(self.tokenizer, self.text_encoder, instructions)

    def condition(self, source: Tensor, style: Tensor, instructions: str | list[str]) -> Conditioning:
        """Encode source images and visual prompts (B, 3, H, W) and one instruction for all or one each.

        Visual prompts (B, n, 3, H, W), n an edit, become the mean of their latents.
        """
        batch = len(source)
        if isinstance(instructions, str):
            text = self.encode_text([instructions]).expand(batch, -1, -1)
        else:
            text = self.encode_text(instructions)
        null_text = self.encode_text([""]).expand(batch, -1, -1)
        style = style[:, None] if style.ndim == 4 else style
        prompts = self.encode_images(style.flatten(0, 1)).unflatten(0, style.shape[:2]).mean(1)
        detail = None
        if self.composes:
            seen = self.decode(prompts * self.vae.config.scaling_factor)
            detail = style.mean(1) - self.edit_settings.change * seen
        return Conditioning(self.encode_images(source), prompts, text, null_text, detail)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) to images (B, 3, H, W) in [0, 1]."""
        return decode_latents(self.vae, latents)

    def draw(self, latents: Tensor, conditioning: Conditioning) -> Tensor:
        """The edits (B, 3, H, W) in [0, 1] that scaled latents (B, C, h, w) stand for.

        An editor that composes its prompts changes them, and where it changes nothing a prompt is left as sharp as
        it is: the autoencoder draws the change alone, or `change` of it.
        """
        images = self.decode(latents)
        if conditioning.detail is None:
            return images
        return (self.edit_settings.change * images + conditioning.detail).clamp(0, 1)

    def predict(
        self, latents: Tensor, timestep: Tensor, conditioning: Conditioning, scales: GuidanceScales
    ) -> Tensor:
        """The guided model output (B, C, h, w) float32; only passes with a non-zero coefficient run, in one batch."""
        active = active_passes(scales)
        source, style, text = [], [], []
        for _, (sees_source, sees_style, sees_text) in active:
            source.append(conditioning.source if sees_source else torch.zeros_like(conditioning.source))
            style.append(conditioning.style if sees_style else torch.zeros_like(conditioning.style))
            text.append(conditioning.text if sees_text else conditioning.null_text)
        tokens = torch.cat(text)
        images = self.fusion(torch.cat([torch.cat(source), torch.cat(style)], dim=1), tokens)
        repeated = latents.to(images.dtype).repeat(len(active), 1, 1, 1)
        timesteps = torch.as_tensor(timestep, device=latents.device).expand(len(latents)).repeat(len(active))
        outputs = self.unet(
            torch.cat([repeated, images], dim=1), timesteps, encoder_hidden_states=tokens
        ).sample.float()
        if self.composes:
            prompts = torch.cat(style).float() * self.vae.config.scaling_factor
            outputs = outputs + velocity_of(self.scheduler, prompts, timesteps)
        weighted = [
            weight * part for (weight, _), part in zip(active, outputs.chunk(len(active)), strict=True)
        ]
        return torch.stack(weighted).sum(0) if len(weighted) > 1 else weighted[0]

    def initial_latents(
        self, batch: int, generator: torch.Generator, size: int | tuple[int, int] | None = None
    ) -> Tensor:
        """Standard normal x_T, (B, C, h, w), drawn on the CPU so that it is the same on every device.

        size: of the images, pixels a side or (height, width); None: as the editor was trained on.
        """
        size = self.image_size if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        stride = self.latent_stride
        shape = (batch, self.vae.config.latent_channels, height // stride, width // stride)
        return torch.randn(shape, generator=generator).to(self.unet.device)

    @torch.no_grad()
    def edit(
        self,
        source: Tensor,
        style: Tensor,
        initial_latents: Tensor,
        instruction: str | list[str] | None = None,
    ) -> Tensor:
        """Edited images (B, 3, H, W) in [0, 1]: DDIM with eta = 0 and the editor's own `edit_settings`.

        Visual prompts as in `condition`; initial_latents: (B, C, h, w). Each edit depends on its own source,
        style and noise only, so the batch's make-up does not matter.
        """
        instruction = self.edit_settings.instruction if instruction is None else instruction
        conditioning = self.condition(source, style, instruction)
        latents = initial_latents.float()
        for _, _, denoised in self.denoise(latents, conditioning):
            latents = denoised
        return self.draw(latents, conditioning)

    def denoise(self, latents: Tensor, conditioning: Conditioning) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each step of an edit from `latents` on: its timestep, the guided output, and the latents (B, C, h, w) after
        it."""
        steps, scales = self.edit_settings.num_inference_steps, self.edit_settings.scales
        for t in sampling_timesteps(self.scheduler, steps).to(latents.device):
            output = self.predict(latents, t, conditioning, scales)
            latents, _ = ddim_step(self.scheduler, output, t.expand(len(latents)), latents, steps, eta=0.0)
            yield t, output, latents

    @torch.no_grad()
    def __call__(
        self, frames: NDArray[np.uint8], photos: PhotoSet | NDArray[np.uint8] | None = None, seed: int = 0,
        instruction: str | None = None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """Edit frames (B, H, W, 3) by photos (P, any size, 3) in turn, or by the editor's own photos and their masks.

        Frames whose sides are no multiples of `size_multiple` are edited at the nearest size that is and come back
        at their own; by an editor that composes its prompts, at its own size, and what it changes of prompts as large
        as the frames is enlarged. All frames share one x_T, drawn from `seed`, so that a sequence does not flicker.
        """
        photos = self.photo_set if photos is None else as_photo_set(photos)
        if photos is None:
            raise BadInput("this editor has no photos of its own; pass photos (P, H, W, 3) uint8")
        frames = as_frames(frames)
        chosen = photos_in_turn(len(photos), len(frames), self.edit_settings.photos_per_edit)
        numbers, own_size = torch.from_numpy(chosen).to(self.device), to_images(frames, self.device)
        size = (self.image_size,) * 2 if self.composes else self.nearest_size(*frames.shape[1:3])
        whole_size = prompt_size(self, *frames.shape[1:3]) if self.composes else size
        prompts, masks = photo_tensors(photos, whole_size, self.device)
        composer = self._composer(prompts, masks)
        whole = prompts[numbers] if composer is None else composer(numbers, resized(own_size, whole_size)).images
        style = resized(whole.flatten(0, 1), size).unflatten(0, whole.shape[:2])
        noise = self.initial_latents(1, torch_generator(seed, "noise"), size)
        noise = noise.expand(len(frames), -1, -1, -1)
        edits = with_change(whole, style, self.edit(resized(own_size, size), style, noise, instruction))
        return to_frames(resized(edits, frames.shape[1:3]))

    def _composer(self, photos: Tensor, masks: Tensor) -> Composer | None:
        """`composer_for`, which takes as long as editing a frame: kept for the next call with the same photos."""
        before, composer = self._kept or ((), None)
        if not before or before[0].device != photos.device or not all(map(torch.equal, before, (photos, masks))):
            composer = composer_for(self, photos, masks)
        self._kept = (photos, masks), composer
        return composer

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Save in diffusers' layout, the editor's photos and their masks beside it in photos/."""
        with quiet():
            super().save_pretrained(str(save_directory), **options)
        write_classes(Path(save_directory))
        write_photos(self.photo_set, Path(save_directory) / "photos")

    @classmethod
    def load_config(cls, *path: Any, **options: Any) -> Any:
        """The index without the file of its class: this is the class, and nothing in the folder is run."""
        index = super().load_config(*path, **options)
        return {**index, "_class_name": pipeline_class(index)}

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> Editor:
        """Load a folder that `save_pretrained` wrote. Raises BadInput for anything else."""
        folder = Path(path)
        require_editor(folder)
        if "torch_dtype" in options:  # diffusers' older name of it
            options["dtype"] = options.pop("torch_dtype")
        parts = load_parts(folder, "an editor", {**PARTS, "fusion": ConditioningFusion}, options.get("dtype"))
        load = super().from_pretrained
        editor: Editor = loaded(folder, lambda: load(str(folder), **{**parts, **options}))
        editor.set_progress_bar_config(disable=True)
        editor.photo_set = read_photos(folder / "photos")
        for module in (editor.vae, editor.text_encoder, editor.unet, editor.fusion):
            module.requires_grad_(False).eval()
        return editor


def photo_tensors(photos: PhotoSet, size: int | tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (P, 3, H, W) in [0, 1] and masks (P, H, W), all False where there is none, at `size` and on `device`."""
    masks = torch.from_numpy(photos.mask_of_each)[:, None].float()
    return resized(to_images(photos.images, device), size), (resized(masks, size)[:, 0] > 0.5).to(device)
