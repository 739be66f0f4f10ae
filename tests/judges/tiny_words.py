"""Tiny random checkpoints of what scores an image by a text, saved as they are published."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from .tiny import WORDS

LETTERS = [
    "s</w>",
    "n</w>",
    "o</w>",
    "w</w>",
    "<|startoftext|>",
    "<|endoftext|>",
]  # the end has the last number
TEXTS = [
    "s n o w",
    "s",
    "w o n s n o w s",
]  # of other lengths; the last is longer than a network of CLIP reads


def scramble(network: torch.nn.Module, seed: int) -> None:
    """Every weight by chance, biases and norms too, so that none can stand for another."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        noise = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
        parameter.data = parameter.data + noise if "norm" in name or "logit" in name else noise


def save_clip_with_words(folder: Path, seed: int = 0) -> CLIPModel:
    """Input 32 x 32 pixels, patches of 8; texts of 8 tokens; GELU, as CLIP ViT-H."""
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "hidden_act": "gelu"}
    words = {"vocab_size": len(LETTERS), "max_position_embeddings": 8, "num_attention_heads": 4}
    words |= {"bos_token_id": 4, "eos_token_id": 5, "pad_token_id": 5, "projection_dim": 6}
    sides = {"image_size": 32, "patch_size": 8, "num_attention_heads": 2, "projection_dim": 6}
    model = CLIPModel(
        CLIPConfig(text_config={**tower, **words}, vision_config={**tower, **sides}, projection_dim=6)
    )
    scramble(model, seed)
    model.eval().save_pretrained(folder)
    CLIPTokenizer(
        {word: number for number, word in enumerate(LETTERS)}, [], unk_token=LETTERS[5]
    ).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return model


def save_bert_words(folder: Path) -> BertTokenizer:
    """A BERT tokenizer of 1030 tokens, without a network."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "vocab.txt"
    file.write_text("\n".join(WORDS.get(number, f"[unused{number}]") for number in range(1030)))
    tokenizer = BertTokenizer(vocab=str(file))
    tokenizer.save_pretrained(folder)
    return tokenizer
