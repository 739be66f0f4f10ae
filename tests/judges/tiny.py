"""Tiny random checkpoints of the real transformers classes, saved as the hub's are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
    SwinConfig,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
WORDS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 200: "the", 201: "block"}
WORDS |= {
    202: "table",
    1012: ".",
    1029: "?",
}  # BERT's numbers: Grounding DINO knows those of its marks by heart


def frames(count: int, height: int, width: int) -> Tensor:
    """Images (B, 3, H, W) of whole steps of 1/255, so that a processor of 8-bit images sees the same."""
    noise = torch.randint(
        0, 256, (count, 3, height // 4, width // 4), generator=torch.Generator().manual_seed(3)
    )
    return noise.repeat_interleave(4, 2).repeat_interleave(4, 3).float() / 255


def as_arrays(images: Tensor) -> list[Any]:
    """What a processor takes: (H, W, 3) uint8 each."""
    return list((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def resized_by_pil(images: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """(B, 3, h, w) in [0, 1], a channel at a time in float32: a processor rounds to 8 bits after resizing."""
    height, width = size
    channels = [Image.fromarray(channel.numpy(), "F") for channel in images.flatten(0, 1)]
    small = [np.asarray(channel.resize((width, height), Image.Resampling(resample))) for channel in channels]
    return torch.from_numpy(np.stack(small)).unflatten(0, images.shape[:2]).clamp(0, 1)


def normalized(processor: Any, images: Tensor) -> Tensor:
    """By a processor's own mean and deviation."""
    mean, std = (torch.tensor(part)[:, None, None] for part in (processor.image_mean, processor.image_std))
    return (images - mean) / std


def randomize(model: torch.nn.Module) -> None:
    """Weights large enough to matter: transformers' own start is all but zero, and so are its outputs."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "embed" not in name:
            fan_in = parameter[0].numel()
            parameter.data = torch.randn(parameter.shape, generator=generator) / fan_in**0.5


def save_depth_anything(folder: Path) -> None:
    """Input 56 x 56 pixels, patches of 14."""
    stages = [f"stage{number}" for number in range(1, 5)]
    backbone = Dinov2Config(
        image_size=56, patch_size=14, hidden_size=8, num_hidden_layers=4, num_attention_heads=2,
        out_features=stages, apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone, reassemble_hidden_size=8, patch_size=14, neck_hidden_sizes=[4, 4, 8, 8],
            fusion_hidden_size=4, head_hidden_size=4,
        )
    )  # fmt: skip
    randomize(model)
    torch.nn.init.ones_(model.head.conv3.bias)  # above the ReLU that ends the head
    model.save_pretrained(folder)
    sides = {"height": 56, "width": 56}
    DPTImageProcessorPil(
        size=sides, ensure_multiple_of=14, keep_aspect_ratio=True, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)


def save_grounding_dino(folder: Path) -> None:
    """Input of a shorter side of 96 pixels, at most 160 the longer; 5 boxes an image."""
    words = [WORDS.get(number, f"[unused{number}]") for number in range(1030)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    swin = SwinConfig(
        window_size=7, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, image_size=64,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    text = BertConfig(
        vocab_size=1030, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    model = GroundingDinoForObjectDetection(
        GroundingDinoConfig(
            backbone_config=swin, text_config=text, d_model=32, encoder_layers=1, encoder_ffn_dim=8,
            encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=8, decoder_attention_heads=2,
            num_queries=5, encoder_n_points=2, decoder_n_points=2, max_text_len=16,
        )
    )  # fmt: skip
    randomize(model)
    model.save_pretrained(folder)
    pictures = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160})
    GroundingDinoProcessor(pictures, BertTokenizer(vocab=str(folder / "vocab.txt"))).save_pretrained(folder)


def save_sam2(folder: Path) -> None:
    """Input 96 x 96 pixels; the video model, as the hub's checkpoints are.

    Its preprocessor settings are written by hand: transformers' class for them needs torchvision.
    """
    hiera = Sam2HieraDetConfig(
        hidden_size=4, num_attention_heads=1, image_size=[96, 96], blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[4, 8, 16, 32], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[32, 16, 8, 4],
        backbone_feature_sizes=[[24, 24], [12, 12], [6, 6]], fpn_hidden_size=16,
    )  # fmt: skip
    prompts = Sam2PromptEncoderConfig(hidden_size=16, image_size=96, patch_size=16, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    model = Sam2VideoModel(
        Sam2VideoConfig(
            vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder, image_size=96,
            memory_attention_hidden_size=16, memory_attention_num_layers=1,
            memory_attention_feed_forward_hidden_size=16, memory_encoder_hidden_size=16,
            memory_encoder_output_channels=4, mask_downsampler_embed_dim=16, memory_fuser_num_layers=1,
            memory_fuser_embed_dim=16, memory_fuser_intermediate_dim=16,
        )
    )  # fmt: skip
    randomize(model)
    model.save_pretrained(folder)
    sides = {"height": 96, "width": 96}
    settings = {"image_processor_type": "Sam2ImageProcessorFast", "image_mean": MEAN, "image_std": STD}
    settings |= {"size": sides, "resample": 2, "mask_size": {"height": 24, "width": 24}, "crop_size": None}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def save_dinov2(folder: Path) -> None:
    """Crops of 56 x 56 pixels from 64, patches of 14."""
    model = Dinov2Model(
        Dinov2Config(image_size=56, patch_size=14, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)
    )
    randomize(model)
    model.save_pretrained(folder)
    crop = {"height": 56, "width": 56}
    BitImageProcessorPil(
        size={"shortest_edge": 64}, crop_size=crop, image_mean=MEAN, image_std=STD
    ).save_pretrained(folder)


def save_clip(folder: Path) -> None:
    """Input 32 x 32 pixels, patches of 8; both towers."""
    tower = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tower, "image_size": 32, "patch_size": 8, "projection_dim": 6}
    text = {**tower, "vocab_size": 50, "max_position_embeddings": 8, "projection_dim": 6}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6))
    randomize(model)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
