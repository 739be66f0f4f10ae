"""One pass a step in place of guidance's up to four: what the guided editor predicts, distilled into its own weights.

    sim2real-aug distill DATASET.zarr --photos DIR --out RUN editor.path=RUN

Stage one of Meng et al. 2023 ("On Distillation of Guided Diffusion Models", section 3.1), for the scales that the
editor edits with and for the steps that it takes: the student predicts in a single pass what the teacher's guided
passes do, where the teacher's own sampling comes by. Both are one network, the student's with an adapter.

Legend: B edits, T denoising steps, S of them learned from; images (B, 3, H, W) in [0, 1]; latents (B, c, h, w).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from sim2real_aug.augment.provenance import weights_hash
from sim2real_aug.config import make
from sim2real_aug.config import settings as settings_from
from sim2real_aug.d3po.inputs import open_photos, training_images, with_inputs
from sim2real_aug.d3po.rollouts import TrainingImages, make_conditions
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.devices import memory_advice, resolve_device
from sim2real_aug.editor.adapter import (
    LoraSettings,
    add_lora,
    merge_adapter,
    reference,
    require_targets,
    trainable_parameters,
)
from sim2real_aug.editor.composition import composer_for, composition_of
from sim2real_aug.editor.editor import Conditioning, Editor, EditSettings, photo_tensors
from sim2real_aug.editor.guidance import GuidanceScales, active_passes
from sim2real_aug.editor.prompts import draw_photos, photos_in_turn
from sim2real_aug.errors import BadInput, below_least
from sim2real_aug.pixels import to_frames
from sim2real_aug.pretrain.held_out import mean_psnr
from sim2real_aug.pretrain.loop import Draw, FitSettings, Loss, fit
from sim2real_aug.report.pictures import grid
from sim2real_aug.runs import RunFolder
from sim2real_aug.seeding import derive_seed, torch_generator

SINGLE = GuidanceScales(1.0, 1.0, 1.0)
FREE = ("device", "dataset", "photos")  # a run may go on with others: of inputs the hashes decide
GRID_ROWS = 6


@dataclass(frozen=True)
class DistillSettings:
    """steps_per_edit: denoising steps that an edit teaches, drawn for each batch among those that it takes, or all
    where it takes fewer. held_out_frames: compared in the summary and the picture, never trained on."""

    steps_per_edit: int = 4
    held_out_frames: int = 12

    def __post_init__(self) -> None:
        if wrong := below_least(self, steps_per_edit=1, held_out_frames=1):
            raise BadInput("; ".join(wrong))


@dataclass(frozen=True)
class GuidedPath:
    """The teacher's sampling, step by step: latents and guided outputs (B, T, c, h, w), timesteps (T,)."""

    latents: Tensor
    outputs: Tensor
    timesteps: Tensor


def distill(
    config: DictConfig, dataset: str | Path, photos: Path | None, out: str | Path, overwrite: bool = False
) -> dict[str, Any]:
    """Distil the editor that `configs/distill.yaml` describes; returns the summary that is saved with the run.

    RUN/editor edits in one pass a step, with scales of 1. psnr: in dB, of its held-out edits from the guided ones,
    beside that of the editor's single pass before. The same call continues an interrupted run. Raises BadInput before
    anything is written, also for an editor without guidance, and Fault where the loss is not finite, or memory ends.
    """
    settings = settings_from(DistillSettings, {key: config[key] for key in ("steps_per_edit", "held_out_frames")})
    fitting, device = settings_from(FitSettings, config.fit, "fit"), resolve_device(config.device)
    store = ReplayBuffer.open(dataset)
    editor: Editor = make(config.editor).to(device)
    if len(active_passes(editor.edit_settings.scales)) == 1:
        raise BadInput(
            f"this editor takes one pass a step already, with {editor.edit_settings.scales}; give one with guidance, "
            "editor.path=RUN or a checkpoint"
        )
    if config.gradient_checkpointing:
        editor.unet.enable_gradient_checkpointing()
    lora = settings_from(LoraSettings, config.lora, "lora")
    require_targets(editor, lora)
    images = _images(config, settings, editor, store, photos)
    hashes = {
        "editor_hash": weights_hash(editor.components),
        "composition": composition_of(editor),
        "dataset_hash": store.content_hash(),
        "photo_hashes": list(images.photo_set.hashes),
    }
    run = RunFolder.open(out, with_inputs(config, dataset, photos, hashes), overwrite, FREE)
    finished = run.already_done()
    if finished is not None:
        return finished
    guided, single = editor.edit_settings, single_pass(editor.edit_settings)
    edits = {
        "guided": held_out_edits(editor, images, guided, config.seed),
        "one pass before": held_out_edits(editor, images, single, config.seed),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "adapter"))
        add_lora(editor, lora)
    trained = nn.ParameterList(trainable_parameters(editor))
    loss = distillation_loss(editor, images, settings.steps_per_edit, fitting.batch_size)
    with memory_advice("fit.batch_size", fitting.batch_size, also="--overwrite"):
        fit("student", trained, loss, fitting, run, config.seed, config.bf16)
    merge_adapter(editor)
    edits["distilled"] = held_out_edits(editor, images, single, config.seed)
    editor.edit_settings, editor.photo_set = single, images.kept_photos
    editor.save_pretrained(run.path / "editor")
    return write_summary(run, images, edits, len(active_passes(guided.scales)))


def write_summary(
    run: RunFolder, images: TrainingImages, edits: dict[str, Tensor], guided_passes: int
) -> dict[str, Any]:
    """RUN/samples.png and RUN/summary.json of the held-out `edits` by what made them."""
    columns = [images.read(images.held_out), *map(to_frames, edits.values())]
    rows = list(zip(*(column[:GRID_ROWS] for column in columns), strict=True))
    summary = {
        "editor": str(run.path / "editor"),
        "picture": str(grid(rows, run.path / "samples.png", ["source", *edits])),
        "guided_passes": guided_passes,
        "psnr_of_one_pass_before": mean_psnr(edits["one pass before"], edits["guided"]),
        "psnr": mean_psnr(edits["distilled"], edits["guided"]),
        "seconds": max((line["seconds"] for line in run.metrics()), default=0.0),
    }
    run.write_summary(summary)
    return summary


def _images(
    config: DictConfig, settings: DistillSettings, editor: Editor, store: ReplayBuffer, folder: Path | None
) -> TrainingImages:
    photos, size = open_photos(folder, editor, store), editor.image_size
    composer = composer_for(editor, *photo_tensors(photos.resized(size), size, editor.device))
    redraw = None if composer is None else config.frame_geometry
    return training_images(store, photos, size, settings.held_out_frames, config.seed, redraw, composer)


def single_pass(settings: EditSettings) -> EditSettings:
    """The same edits without guidance: scales of 1, of which one pass runs."""
    return replace(
        settings,
        image_guidance_scale=SINGLE.image,
        style_guidance_scale=SINGLE.style,
        guidance_scale=SINGLE.text,
    )


def distillation_loss(editor: Editor, images: TrainingImages, steps_per_edit: int, batch_size: int) -> Loss:
    """Mean squared error of the student's single pass from the teacher's guided prediction (Meng et al. 2023, equation
    3, whose weight is 1 here): of random training frames and photos, at some of the teacher's own steps."""
    photos_per_edit, instruction = editor.edit_settings.photos_per_edit, editor.edit_settings.instruction

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        frames = draw.numpy.choice(images.train, batch_size, replace=batch_size > len(images.train))
        photos = draw_photos(draw.numpy, len(images.photos), batch_size, photos_per_edit)
        (conditions,) = make_conditions(images, editor.device, frames, photos, batch_size)
        with torch.no_grad(), reference(editor):
            conditioning = editor.condition(conditions.source, conditions.visual_prompts, instruction)
            path = guided_path(editor, conditioning, editor.initial_latents(batch_size, draw.torch))
        total = len(path.timesteps)
        steps = torch.randperm(total, generator=draw.torch)[:steps_per_edit].to(editor.device)
        latents, guided = (part[:, steps].flatten(0, 1) for part in (path.latents, path.outputs))
        output = editor.predict(
            latents, path.timesteps[steps].repeat(batch_size), conditioning.repeat(len(steps)), SINGLE
        )
        error = (output - guided).square().mean()
        return error, {"relative_error": error.detach() / guided.square().mean()}

    return loss


@torch.no_grad()
def guided_path(editor: Editor, conditioning: Conditioning, latents: Tensor) -> GuidedPath:
    """All that an edit from `latents` on passes on its way."""
    timesteps, outputs, denoised = zip(*editor.denoise(latents, conditioning), strict=True)
    passed = [latents, *denoised[:-1]]
    return GuidedPath(torch.stack(passed, dim=1), torch.stack(outputs, dim=1), torch.stack(timesteps))


@torch.no_grad()
def held_out_edits(editor: Editor, images: TrainingImages, settings: EditSettings, seed: int) -> Tensor:
    """The held-out frames' edits (M, 3, H, W), photos in turn, one x_T for all."""
    own, editor.edit_settings = editor.edit_settings, settings
    photos = photos_in_turn(len(images.photos), len(images.held_out), settings.photos_per_edit)
    noise = editor.initial_latents(1, torch_generator(seed, "held-out latents"))
    edits = [
        editor.edit(conditions.source, conditions.visual_prompts, noise.expand(len(conditions.source), -1, -1, -1))
        for conditions in make_conditions(images, editor.device, images.held_out, photos, 1)
    ]
    editor.edit_settings = own
    return torch.cat(edits)
