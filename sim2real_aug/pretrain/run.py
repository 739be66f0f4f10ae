"""The whole pretraining, part by part: frames, autoencoder, judge, editor, measurement on held-out scenes, weights.

    sim2real-aug pretrain --out runs/pretrain

Each part takes up its own checkpoint, so the same command goes on where the last one stopped. With
`initial_weights` the parts begin as they are in a folder of weights, and one of 0 steps stays so. The result is
OUT/weights/{editor,judge}, float16, in the layout that ships with the package, OUT/weights/MODEL_CARD.md, and
OUT/curves.png.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from hydra.utils import get_method
from omegaconf import DictConfig
from torch import Tensor

from sim2real_aug.config import settings
from sim2real_aug.devices import resolve_device
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.editor import Editor, EditSettings
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.compact import CompactJudge, load_compact_judge
from sim2real_aug.pixels import to_images
from sim2real_aug.pretrain.autoencoder import (
    autoencoder_loss,
    build_autoencoder,
    color_axes,
    decoder_loss,
    encode_frames,
    fold_color_axes,
    set_scaling_factor,
)
from sim2real_aug.pretrain.editor import (
    EditorArchitecture,
    build_editor,
    editor_loss,
    trained_modules,
)
from sim2real_aug.pretrain.frames import FIRST_SCENE, FrameGroups, FrameSettings, build_frames
from sim2real_aug.pretrain.held_out import draw_held_out, measure
from sim2real_aug.pretrain.judge import embedding_loss, reading_loss
from sim2real_aug.pretrain.loop import PARTS, FitSettings, fit
from sim2real_aug.pretrain.model_card import model_card
from sim2real_aug.pretrain.prompts import PromptSource, read_regions
from sim2real_aug.progress import say
from sim2real_aug.report.curves import Panel, draw_curves
from sim2real_aug.runs import RunFolder
from sim2real_aug.seeding import derive_seed, numpy_generator

TOKENIZER_SCENES = 400
SCALING_FRAMES = 256
UNDRAWN = ("step", "part", "grad_norm", "seconds")


@dataclass(frozen=True)
class Start:
    """The networks that a pretraining goes on from."""

    editor: Editor
    judge: CompactJudge


def pretrain(config: DictConfig, out: str | Path, overwrite: bool = False) -> dict[str, Any]:
    """Train what `configs/pretrain.yaml` describes; returns the summary that is saved with the run.

    Raises BadInput before anything is written or removed.
    """
    device, start = check(config)
    run = RunFolder.open(out, config, overwrite)
    finished = run.already_done()
    if finished is not None:
        return finished
    frames = read_frames(config, run)
    torch.manual_seed(derive_seed(config.seed, "pretraining weights"))
    vae = train_autoencoder(config, run, frames, device, start)
    train_decoder(config, run, frames, vae)
    judge = train_judge(config, run, frames, device, start)
    editor = train_base_editor(config, run, frames, vae, judge, start)
    held_out = draw_held_out(config)
    editor.photos = held_out.photos
    write_weights(editor, judge, run)
    summary = {**measure(editor, judge, held_out), "seconds": training_seconds(run)}
    (run.path / "weights" / "MODEL_CARD.md").write_text(model_card(config, summary))
    shutil.copy(run.path / "config.yaml", run.path / "weights")
    draw_training(run)
    run.write_summary(summary)
    say(f"weights: {run.path / 'weights'}")
    return summary


def check(config: DictConfig) -> tuple[torch.device, Start | None]:
    """The device, and the weights to go on from. Raises BadInput for one that is not there, and for wrong settings."""
    for part in PARTS:
        settings(FitSettings, config[part].fit, f"{part}.fit")
    settings(EditorArchitecture, config.editor.architecture, "editor.architecture")
    start = read_start(config)
    kept = None if config.editor.fit.steps > 0 or start is None else start.editor
    composes = config.editor.composes if kept is None else kept.composes
    settings(EditSettings, config.editor.edit_settings, "editor.edit_settings").require_change(composes)
    stride = 2 ** (len(config.autoencoder.block_out_channels) - 1)
    size = config.editor.architecture.latent_size * stride if start is None else start.editor.image_size
    if frame_settings(config).image_size != size:
        raise BadInput(
            f"frames.image_size must be {size}, the editor's (editor.architecture.latent_size times 2 for each halving "
            f"by the autoencoder); got {config.frames.image_size}"
        )
    if config.held_out.photos < 1:
        raise BadInput(f"held_out.photos must be at least 1; got {config.held_out.photos}")
    return resolve_device(config.device), start


def frame_settings(config: DictConfig) -> FrameSettings:
    keys = ("groups", "states_per_group", "image_size", "renderer")
    return settings(FrameSettings, {**{key: config.frames[key] for key in keys}, "seed": config.seed}, "frames")


def read_frames(config: DictConfig, run: RunFolder) -> FrameGroups:
    return build_frames(frame_settings(config), Path(config.cache) if config.cache else run.path / "cache")


def read_start(config: DictConfig) -> Start | None:
    """The weights to go on from. Raises BadInput where a part of 0 steps would stay untrained."""
    if config.initial_weights is not None:
        folder = Path(config.initial_weights)
        return Start(load_editor(folder / "editor"), load_compact_judge(folder / "judge"))
    needed = [part for part in PARTS if part != "decoder"]  # the autoencoder has one already
    untrained = [f"{part}.fit.steps" for part in needed if not config[part].fit.steps]
    if untrained:
        raise BadInput(
            f"{', '.join(untrained)} is 0: give initial_weights=FOLDER, whose weights it keeps, or at least 1"
        )
    return None


def train_autoencoder(
    config: DictConfig, run: RunFolder, frames: FrameGroups, device: torch.device, start: Start | None
) -> AutoencoderKL:
    part = config.autoencoder
    fitting = settings(FitSettings, part.fit)
    axes = frame_color_axes(config, frames)
    if start is None:
        vae = build_autoencoder(
            list(part.block_out_channels), part.norm_num_groups, config.frames.image_size, part.latent_channels
        )
    else:
        vae = start.editor.vae
        if fitting.steps == 0:
            return vae.to(device, memory_format=torch.channels_last)
        fold_color_axes(vae.requires_grad_(True), torch.linalg.inv(axes))
    vae = vae.to(device, memory_format=torch.channels_last)
    loss = autoencoder_loss(vae, frames, fitting.batch_size, axes, device)
    fit("autoencoder", vae, loss, fitting, run, config.seed, config.bf16)
    fold_color_axes(vae, axes)
    flat = frames.images.reshape(-1, *frames.images.shape[-3:])
    chosen = numpy_generator(config.seed, "scaling factor").integers(len(flat), size=SCALING_FRAMES)
    set_scaling_factor(vae, to_images(flat[chosen], device) * 2 - 1)
    return vae.requires_grad_(False).eval()


def frame_color_axes(config: DictConfig, frames: FrameGroups) -> Tensor:
    flat = frames.images.reshape(-1, *frames.images.shape[-3:])
    return color_axes(flat, numpy_generator(config.seed, "colour axes"))


def frame_latents(run: RunFolder, frames: FrameGroups, vae: AutoencoderKL) -> Tensor:
    return encode_frames(vae, frames, run.checkpoint("latents.pt"))


def train_decoder(config: DictConfig, run: RunFolder, frames: FrameGroups, vae: AutoencoderKL) -> None:
    fitting = settings(FitSettings, config.decoder.fit)
    if fitting.steps == 0:
        return
    latents = frame_latents(run, frames, vae)
    decoder = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder]).requires_grad_(True).train()
    loss = decoder_loss(vae, frames, latents, fitting.batch_size, frame_color_axes(config, frames))
    fit("decoder", decoder, loss, fitting, run, config.seed, config.bf16)
    vae.requires_grad_(False).eval()


def train_judge(
    config: DictConfig, run: RunFolder, frames: FrameGroups, device: torch.device, start: Start | None
) -> CompactJudge:
    judge = CompactJudge() if start is None else start.judge.requires_grad_(True)
    judge = judge.to(device, memory_format=torch.channels_last)
    networks = {"reader": (judge.reader, reading_loss), "embedder": (judge.embedder, embedding_loss)}
    for part, (network, make_loss) in networks.items():
        fitting = settings(FitSettings, config[part].fit)
        loss = make_loss(judge, frames, fitting.batch_size, device)
        fit(part, network, loss, fitting, run, config.seed, config.bf16)
    return judge.requires_grad_(False).eval()


def train_base_editor(
    config: DictConfig,
    run: RunFolder,
    frames: FrameGroups,
    vae: AutoencoderKL,
    judge: CompactJudge,
    start: Start | None,
) -> Editor:
    editor = new_editor(config, run, vae) if start is None else start.editor
    fitting = settings(FitSettings, config.editor.fit)
    if fitting.steps > 0:
        editor.register_to_config(composes=config.editor.composes)
    editor.edit_settings = settings(EditSettings, config.editor.edit_settings)
    editor.to(vae.device)
    if fitting.steps == 0:
        return editor
    editor.unet.to(memory_format=torch.channels_last)
    latents = frame_latents(run, frames, vae)
    prompts = PromptSource(frames, read_regions(judge, frames, run.checkpoint("regions.pt")))
    loss = editor_loss(editor, prompts, latents, config.frames.sample_scene, fitting.batch_size)
    modules = trained_modules(editor).requires_grad_(True).train()
    fit("editor", modules, loss, fitting, run, config.seed, config.bf16)
    modules.requires_grad_(False).eval()
    return editor


def new_editor(config: DictConfig, run: RunFolder, vae: AutoencoderKL) -> Editor:
    sample_scene = get_method(config.frames.sample_scene)
    scenes = [sample_scene(FIRST_SCENE + number) for number in range(TOKENIZER_SCENES)]
    architecture = settings(EditorArchitecture, config.editor.architecture)
    return build_editor(vae, architecture, scenes, run.path / "tokenizer")


def write_weights(editor: Editor, judge: CompactJudge, run: RunFolder) -> None:
    """Save both in float16 and leave them in float32, rounded as they will be loaded."""
    folder = run.path / "weights"
    for name, model in (("editor", editor), ("judge", judge)):
        model.to(torch.float16).save_pretrained(str(folder / name))
        model.to(torch.float32)


def draw_training(run: RunFolder) -> None:
    """OUT/curves.png: a panel for each part that was trained."""
    lines = [
        {"step": line["step"]}
        | {f"{line['part']}: {name}": line[name] for name in line if name not in UNDRAWN}
        for line in run.metrics()
    ]
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    parts = dict.fromkeys(name.split(":")[0] for name in names)
    panels = [Panel(part, tuple(n for n in names if n.startswith(f"{part}:")), logarithmic=True) for part in parts]
    draw_curves(lines, panels, run.path / "curves.png", "step")


def training_seconds(run: RunFolder) -> dict[str, float]:
    """Wall-clock seconds of each part."""
    return {line["part"]: line["seconds"] for line in run.metrics()}
