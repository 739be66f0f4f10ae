"""The editor that a configuration loads, without its weights: architecture alone, nothing is fetched.

Its tensors are of torch's meta device: they have shapes and take no memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from omegaconf import DictConfig
from transformers import CLIPTextConfig, CLIPTextModel

from sim2real_aug.editor import editor_folder
from sim2real_aug.editor.architecture import read_index, require_editor
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion
from sim2real_aug.editor.widen import widened
from sim2real_aug.errors import BadInput

# What the checkpoints of Stable Diffusion 1.5, and so of InstructPix2Pix, have in */config.json where it is not the
# default of diffusers or transformers. 860 M, 84 M and 123 M parameters.
STABLE_DIFFUSION: dict[str, dict[str, Any]] = {
    "unet": {"sample_size": 64, "in_channels": 8, "cross_attention_dim": 768},
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "sample_size": 512,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
}
LOAD, WIDEN = "sim2real_aug.editor.load_editor", "sim2real_aug.editor.widen.from_instruct_pix2pix"


def outline(node: DictConfig) -> Editor:
    """The editor of a node of `configs/editor/`. A name of the hub is taken for Stable Diffusion 1.5's architecture.

    Raises BadInput for a folder that holds another one, and for a `_target_` that is neither of ours.
    """
    with torch.device("meta"):
        if node.get("_target_") == LOAD:
            return _saved(editor_folder(node.get("path")))
        if node.get("_target_") == WIDEN:
            folder = Path(str(node.path)).expanduser()
            configs = {part: _config(folder, part) for part in STABLE_DIFFUSION} if folder.is_dir() else None
            parts = {**networks(configs or STABLE_DIFFUSION), "tokenizer": None}
            return widened(parts, DDIMScheduler(), node.get("image_size"), node.get("gradient_checkpointing", False))
    raise BadInput(f"what {node.get('_target_')} needs is not known; known: {LOAD}, {WIDEN}")


def _saved(folder: Path) -> Editor:
    require_editor(folder)
    parts = networks({part: _config(folder, part) for part in STABLE_DIFFUSION})
    fusion = ConditioningFusion.from_config(_config(folder, "fusion"))
    scheduler = DDIMScheduler.from_config(_config(folder, "scheduler", "scheduler_config.json"))
    options = {key: value for key, value in read_index(folder).items() if key in ("edit_settings", "composes")}
    return Editor(tokenizer=None, fusion=fusion, scheduler=scheduler, **options, **parts)


def networks(configs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """UNet, VAE and text encoder of their configurations, untrained, on torch's default device."""
    return {
        "unet": UNet2DConditionModel.from_config(configs["unet"]),
        "vae": AutoencoderKL.from_config(configs["vae"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig.from_dict(configs["text_encoder"])),
    }


def _config(folder: Path, part: str, name: str = "config.json") -> dict[str, Any]:
    file = folder / part / name
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
