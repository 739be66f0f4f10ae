"""A tiny random editor, a reward that needs no judge, and a run small enough for CI."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sim2real_aug.d3po.rollouts import Task, TrainingImages
from sim2real_aug.d3po.scores import Scores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion

SIZE = 16


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small run slower on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build_editor(seed: int = 0) -> Editor:
    """Random weights, 16x16 images, 8x8 latents; the scheduler that trajectories need."""
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
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>"]
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    tokenizer = CLIPTokenizer(
        {word: index for index, word in enumerate(words)}, [], unk_token=words[1], model_max_length=8
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    settings = {
        "instruction": "a",
        "num_inference_steps": 4,
        "image_guidance_scale": 1.0,
        "style_guidance_scale": 1.0,
        "guidance_scale": 1.0,
    }
    fusion = ConditioningFusion(text_dim=16, inner_dim=16, heads=2)
    editor = Editor(vae, CLIPTextModel(text), tokenizer, unet, fusion, scheduler, settings)
    for module in (editor.vae, editor.text_encoder, editor.unet, editor.fusion):
        module.requires_grad_(False).eval()
    return editor


def darkness(source: Tensor, photos: Tensor, edits: Tensor, photo_masks: Tensor) -> Scores:
    """A Scorer whose reward is brightness: the structural distance is 1 - mean of the edit."""
    dark = 1 - edits.flatten(2).mean(-1)
    return Scores(dark, torch.zeros_like(dark))


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """make_task(**settings) -> Task on 8 random frames and 2 photos, 2 of the frames held out."""

    def make(**settings: object) -> Task:
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
        images = TrainingImages(
            read=lambda indices: frames[indices],
            train=np.arange(6),
            held_out=np.arange(6, 8),
            photos=rng.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8),
            photo_masks=np.zeros((2, SIZE, SIZE), bool),
        )
        small = {
            "rounds": 2,
            "conditions_per_round": 2,
            "trajectories_per_condition": 3,
            "num_inference_steps": 4,
            "train_timesteps": 2,
            "batch_size": 3,
            "learning_rate": 1e-3,
            "lora_rank": 2,
            "evaluate_every": 1,
            "sample_grid_every": 1,
        }
        return Task(build_editor(), darkness, images, D3POSettings(**{**small, **settings}))  # type: ignore[arg-type]

    return make


@pytest.fixture
def editor_folder(tmp_path: Path) -> Path:
    """A tiny editor on disk, with two photos."""
    editor = build_editor()
    editor.photos = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    editor.save_pretrained(tmp_path / "editor")
    return tmp_path / "editor"
