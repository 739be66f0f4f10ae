"""The editors that are compared, each a row of the table. `configs/benchmark.yaml` names them.

Legend: B images; images (B, H, W, 3) uint8 RGB of one size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from numpy.typing import NDArray

from sim2real_aug.augment.classical import CLASSICAL
from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.benchmark.cache import key_of
from sim2real_aug.benchmark.samples import Edit
from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.coding import latent_stride, nearest_size
from sim2real_aug.editor.composition import composition_of
from sim2real_aug.editor.null_text import load_null_text_editor
from sim2real_aug.editor.parts import IGNORED, NEEDED, PARTS, load_parts
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.hub import fetch
from sim2real_aug.loading import loaded
from sim2real_aug.pixels import resized, to_frames, to_images
from sim2real_aug.seeding import torch_generator

Frames = NDArray[np.uint8]
WITHOUT = {"safety_checker": None, "feature_extractor": None, "image_encoder": None, "requires_safety_checker": False}


@dataclass(frozen=True)
class Request:
    """One edit of B images. photos: its visual prompts with their masks; an edit takes after the first.

    image_guidance_scale: s_I, None: the editor's own.
    """

    images: Frames
    edit: Edit
    photos: PhotoSet
    seed: int = 0
    image_guidance_scale: float | None = None


class RowEditor(Protocol):
    """What a row is made by. identity: of weights and settings, so that edits are kept by it. batch_size: images at
    a time; each edit depends on its own image only."""

    identity: str
    batch_size: int

    def __call__(self, request: Request) -> Frames:
        """The edited images, each of its image's size."""


class Specialist:
    """An editor of ours, base or specialist. path: run or checkpoint, None: the one that ships."""

    def __init__(self, path: str | None = None, batch_size: int = 8, device: str = "cpu") -> None:
        self.editor, self.batch_size = load_editor(path), batch_size
        self.editor.to(device)
        self.settings = self.editor.edit_settings
        composition = composition_of(self.editor)
        self.identity = key_of(weights_hash(self.editor.components), asdict(self.settings), composition)

    def __call__(self, request: Request) -> Frames:
        if request.image_guidance_scale is not None:
            self.editor.edit_settings = replace(
                self.settings, image_guidance_scale=request.image_guidance_scale
            )
        edit = partial(self.editor, seed=request.seed, instruction=request.edit.instruction)
        try:
            if self.editor.composes:  # after the first photo, with bench and pushers of all
                return np.concatenate([edit(image[None], request.photos) for image in request.images])
            return edit(request.images, request.photos.images[: self.settings.photos_per_edit or None])
        finally:
            self.editor.edit_settings = self.settings


class InstructPix2Pix:
    """A checkpoint of InstructPix2Pix's layout by hub name or folder, or a single file, edited by diffusers' pipeline.

    MagicBrush says on the hub that it is a StableDiffusionPipeline: the class is named here. suffix: what is added to
    an instruction; HIVE's conditional checkpoints want ", image quality is five out of five". architecture: hub name
    or folder of what a single file, .safetensors or .ckpt, lacks: the parts' configurations and the tokenizer.
    """

    def __init__(
        self,
        path: str,
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        image_guidance_scale: float = 1.5,
        suffix: str = "",
        architecture: str = "timbrooks/instruct-pix2pix",
        batch_size: int = 4,
        device: str = "cpu",
    ) -> None:
        _require_guided(guidance_scale, image_guidance_scale)
        self.settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        self.image_guidance_scale, self.suffix, self.batch_size = image_guidance_scale, suffix, batch_size
        self.pipeline = _load_pipeline(path, architecture).to(device)
        weights = weights_hash(self.pipeline.components)
        self.identity = key_of(weights, self.settings, image_guidance_scale, suffix)

    def __call__(self, request: Request) -> Frames:
        images = to_images(request.images)
        height, width = images.shape[-2:]
        scale = self.image_guidance_scale if request.image_guidance_scale is None else request.image_guidance_scale
        _require_guided(self.settings["guidance_scale"], scale)
        edits: torch.Tensor = self.pipeline(
            prompt=[request.edit.instruction + self.suffix] * len(images),
            image=resized(images, nearest_size(height, width, latent_stride(self.pipeline.vae))),
            image_guidance_scale=scale,
            generator=[torch_generator(request.seed, "noise") for _ in images],
            output_type="pt",
            **self.settings,
        ).images
        return to_frames(resized(edits.cpu(), (height, width)))


class NullTextInversion:
    """Null-text inversion with prompt-to-prompt: needs both captions, no photos, and knows no s_I."""

    def __init__(self, path: str, device: str = "cpu", **settings: Any) -> None:
        self.editor, self.batch_size = load_null_text_editor(path, **settings), 1
        self.editor.to(device)
        self.identity = key_of(weights_hash(self.editor.components), asdict(self.editor.settings))

    def __call__(self, request: Request) -> Frames:
        edit = request.edit
        if request.image_guidance_scale is not None:
            raise BadInput(
                "null-text inversion has no image guidance scale to sweep; leave it out of sweep.rows"
            )
        captions = [edit.source_caption], [edit.target_caption]
        return np.concatenate(
            [to_frames(self.editor.edit(to_images(image[None]), *captions)) for image in request.images]
        )


class ColorTransfer:
    """A classical colour transfer from all photos. name: a key of CLASSICAL, BadInput for another."""

    def __init__(self, name: str, batch_size: int = 32, device: str = "cpu") -> None:
        if name not in CLASSICAL:
            raise unknown_name("colour transfer", name, CLASSICAL)
        self.transfer, self.batch_size, self.identity = CLASSICAL[name], batch_size, key_of(name)

    def __call__(self, request: Request) -> Frames:
        if request.image_guidance_scale is not None:
            raise BadInput(
                "a colour transfer has no image guidance scale to sweep; leave it out of sweep.rows"
            )
        return self.transfer(request.images, request.photos.images)


def _require_guided(guidance_scale: float, image_guidance_scale: float) -> None:
    """Raises BadInput for scales at which diffusers' pipeline turns guidance off, by image and instruction."""
    if guidance_scale <= 1 or image_guidance_scale < 1:
        raise BadInput(
            "InstructPix2Pix must have a guidance_scale above 1 and an image_guidance_scale of at least 1, else "
            f"diffusers turns all guidance off; got {guidance_scale:g} and {image_guidance_scale:g}"
        )


def _load_pipeline(path: str, architecture: str) -> Any:
    file = Path(path).expanduser()
    single = file.is_file()
    place = file if single else fetch(path, NEEDED, IGNORED)
    pipeline = loaded(place, partial(_read_file, file, architecture) if single else partial(_read_folder, place))
    found, expected = pipeline.unet.config.in_channels, 2 * pipeline.vae.config.latent_channels
    if found != expected:
        raise BadInput(f"the UNet of {place} takes {found} channels; InstructPix2Pix takes {expected}")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _read_folder(folder: Path) -> Any:
    trained = {name: kind for name, kind in PARTS.items() if name != "scheduler"}  # it is the checkpoint's own kind
    parts = load_parts(folder, "a checkpoint of InstructPix2Pix's layout", trained)
    return StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, **parts, **WITHOUT)


def _read_file(file: Path, architecture: str) -> Any:
    folder = fetch(architecture, [pattern for pattern in NEEDED if "safetensors" not in pattern], IGNORED)
    lacks = BadInput(f"{file} lacks weights of the networks that {folder} describes")
    try:
        pipeline = StableDiffusionInstructPix2PixPipeline.from_single_file(
            str(file), config=str(folder), local_files_only=True, **WITHOUT
        )
    except NotImplementedError as error:  # a weight without a value cannot be moved
        raise lacks from error
    if any(each.is_meta for name in ("unet", "vae", "text_encoder") for each in getattr(pipeline, name).parameters()):
        raise lacks
    return pipeline
