"""A tiny random editor of the real classes, for tests of what is built on the editor."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion

SIZE = 16


def build_editor(seed: int = 0, num_inference_steps: int = 4) -> Editor:
    """Random weights, 16x16 images, 8x8 latents; the scheduler that trajectories need, one guidance pass."""
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
        "num_inference_steps": num_inference_steps,
        "image_guidance_scale": 1.0,
        "style_guidance_scale": 1.0,
        "guidance_scale": 1.0,
    }
    fusion = ConditioningFusion(text_dim=16, inner_dim=16, heads=2)
    editor = Editor(vae, CLIPTextModel(text), tokenizer, unet, fusion, scheduler, settings)
    for module in (editor.vae, editor.text_encoder, editor.unet, editor.fusion):
        module.requires_grad_(False).eval()
    return editor
