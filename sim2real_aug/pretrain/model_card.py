"""The model card that is written beside pretrained weights, from the run's own configuration and figures."""

from __future__ import annotations

import platform
from typing import Any

import torch
from omegaconf import DictConfig

from sim2real_aug.pretrain.loop import PARTS

TEMPLATE = """\
# Compact editor and judge

Weights of sim2real-aug's compact scale, float16 safetensors. Made by `sim2real-aug pretrain` with the configuration
beside this card (`config.yaml` of the run), seed {seed}, on {machine}.

## What they are
- `editor/`: InstructPix2Pix with a visual prompt, at 96 x 96: AutoencoderKL (4 times smaller latents),
  UNet2DConditionModel (noise, source, visual prompt: 3 x {latent_channels} channels), CLIPTextModel, a
  cross-attention that fuses the conditionings. It edits in {steps} DDIM steps, one network pass a step.
  {prompts}
  `photos/` holds {photos} sample visual prompts, rendered in scene `randomized/{photo_scene}`.
- `judge/`: depth and segmentation (table, block, goal, pusher) by one network, the reader, and embedding of masked
  regions by another, the embedder.

## What they have seen
{groups} groups of {states} Push-T states, each drawn flat and in two scenes of the `randomized` domain
(procedural textures, light, camera): {scenes} scenes. No real photo, no path-traced scene, no pretrained weights.

## How they were trained
| part | steps | batch | seconds |
|---|---|---|---|
{training}

## How good they are
On {held_out} scenes of the `randomized` domain that training cannot draw (numbers from {first_scene}):

| measure | value |
|---|---|
| autoencoder, PSNR of reconstructions | {autoencoder[psnr]} dB |
| judge, IoU of the block's mask, scene / flat look | {judge[block_iou]} / {judge[block_iou_flat]} |
| judge, mean absolute error of relative depth (0..1) | {judge[depth_l1]} |
| judge, right scene of {held_out} retrieved from another state | {judge[scene_retrieval]} |
| editor, PSNR of the edit against the scene's own drawing | {editor[psnr]} dB |
| the same for the unedited flat frame | {editor[psnr_unedited]} dB |
| editor, IoU of the block read back from the edit by the judge | {editor[block_iou]} |
| editor, edits nearest to their own visual prompt's scene | {editor[scene_retrieval]} |
| the same for the unedited flat frame | {editor[scene_retrieval_unedited]} |

## Limits
Push-T seen from above and nothing else; 96 x 96 pixels. Instructions: materials, colours, light and realism, in the
words of `sim2real_aug/pretrain/instructions.py`. The judge has seen no real photo: look at the sample grids of
your run before you trust its scores.
"""


COMPOSED = "Visual prompts are composed in the source's layout; {change} of its change to them is drawn."
WHOLE = "Visual prompts are photos as they are."


def model_card(config: DictConfig, summary: dict[str, Any]) -> str:
    rows = (
        f"| {part} | {config[part].fit.steps} | {config[part].fit.batch_size} | {summary['seconds'].get(part, '')} |"
        for part in PARTS
    )
    return TEMPLATE.format(
        seed=config.seed,
        machine=f"{config.device} ({platform.machine()}, {torch.get_num_threads()} threads)",
        steps=config.editor.edit_settings.num_inference_steps,
        prompts=COMPOSED.format(change=config.editor.edit_settings.change) if config.editor.composes else WHOLE,
        latent_channels=config.autoencoder.latent_channels,
        photos=config.held_out.photos,
        photo_scene=config.held_out.photo_scene,
        groups=config.frames.groups,
        states=config.frames.states_per_group,
        scenes=2 * config.frames.groups,
        training="\n".join(rows),
        held_out=config.held_out.scenes,
        first_scene=config.held_out.first_scene,
        **{part: summary[part] for part in ("autoencoder", "judge", "editor")},
    )
