"""The weights of the tiny InstructPix2Pix as its authors publish theirs: one file, by their own names."""

from __future__ import annotations

import re
from pathlib import Path

from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "down_blocks.0.resnets.0": "input_blocks.1.0", "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op", "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2", "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0", "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0", "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0", "up_blocks.1.attentions.1": "output_blocks.3.1",
}  # fmt: skip
VAE = {
    "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2", "mid_block.attentions.0": "mid.attn_1", ".group_norm.": ".norm.",
    ".to_q.": ".q.", ".to_k.": ".k.", ".to_v.": ".v.", ".to_out.0.": ".proj_out.",
}  # fmt: skip


def write_single_file(pipeline: DiffusionPipeline, file: Path) -> None:
    """Two blocks down and up, one layer each, as `tiny_pix2pix` has them."""
    unet = {f"model.diffusion_model.{_of_unet(name)}": each for name, each in pipeline.unet.state_dict().items()}
    vae = dict(_of_vae(name, each) for name, each in pipeline.vae.state_dict().items())
    text = {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": each
        for name, each in pipeline.text_encoder.state_dict().items()
    }
    weights = unet | {f"first_stage_model.{name}": each for name, each in vae.items()} | text
    save_file({name: each.contiguous() for name, each in weights.items()}, file)


def _of_unet(name: str) -> str:
    start = next(start for start in sorted(UNET, key=len, reverse=True) if name.startswith(f"{start}."))
    rest = name.removeprefix(start)
    if ".resnets." in start:
        layer = rest.split(".")[1]
        rest = rest.replace(layer, RESNET[layer], 1)
    return UNET[start] + rest


def _of_vae(name: str, weight: Tensor) -> tuple[str, Tensor]:
    attention = ".attentions." in name
    for new, old in VAE.items():
        name = name.replace(new, old)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{1 - int(found[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{1 - int(found[1])}.upsample", name)
    return name, weight[..., None, None] if attention and weight.ndim == 2 else weight
