"""A tiny random editor (the real class), a judge that is plain arithmetic, and a small store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sim2real_aug.data import ReplayBufferWriter
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion

SIZE = 16
CHUNK = 8
LENGTHS = (5, 1, 9, 6)  # 21 frames: three chunks of 8, the last one short


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def build_editor(seed: int = 0) -> Editor:
    """Random weights, 16x16 images, 8x8 latents, two steps, one guidance pass."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=SIZE,
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2,
        in_channels=12,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>"]
    text = CLIPTextConfig(
        vocab_size=3,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    numbered = {word: index for index, word in enumerate(words)}
    tokenizer = CLIPTokenizer(numbered, [], unk_token=words[1], model_max_length=8)
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    settings = {
        "instruction": "a",
        "num_inference_steps": 2,
        "image_guidance_scale": 1.0,
        "style_guidance_scale": 1.0,
        "guidance_scale": 1.0,
    }
    fusion = ConditioningFusion(text_dim=16, inner_dim=16, heads=2)
    editor = Editor(vae, CLIPTextModel(text), tokenizer, unet, fusion, scheduler, settings)
    editor.photos = np.random.default_rng(seed).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    for module in (editor.vae, editor.text_encoder, editor.unet, editor.fusion):
        module.requires_grad_(False).eval()
    return editor


class BrightnessJudge:
    """Depth is brightness, the block is what is bright, an embedding is the mean colour."""

    def depth(self, images: Tensor) -> Tensor:
        return images.mean(1)

    def segment(self, images: Tensor, phrase: str) -> Tensor:
        return images.mean(1) > 0.5

    def embed(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.nn.functional.normalize((images * masks[:, None]).flatten(2).mean(-1) + 1e-6, dim=-1)


@pytest.fixture(scope="session")
def editor() -> Editor:
    return build_editor()


def write_store(
    path: Path, size: int = SIZE, zarr_format: int = 2, lengths: tuple[int, ...] = LENGTHS
) -> Path:
    """A store of random frames with an all-zero array and one that no one expects."""
    rng = np.random.default_rng(0)
    with ReplayBufferWriter.create(
        path, zarr_format, chunk_frames=CHUNK, attrs={"made": "by a test"}
    ) as writer:
        for n in lengths:
            writer.append_episode(
                {
                    "img": rng.integers(0, 256, (n, size, size, 3)).astype(np.uint8),
                    "state": rng.normal(size=(n, 5)).astype(np.float32),
                    "action": rng.normal(size=(n, 2)).astype(np.float32),
                    "n_contacts": np.zeros((n, 1), np.float32),
                    "tactile": rng.integers(0, 9, (n, 3, 2)).astype(np.int16),
                }
            )
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "source.zarr")
