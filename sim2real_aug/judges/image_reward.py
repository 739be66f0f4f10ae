"""How well an image answers a text by ImageReward (Xu et al. 2023): BLIP reads the text in sight of the image, and a
head makes a number of what stands at its first token, about -2..2 (THUDM/ImageReward).

Its weights are one file under BLIP's own names. What makes transformers' BLIP equal to that code, beside the names: the
image tower's layer norms add 1e-6, not 1e-5, to the variance; the heads are 64 wide; med_config.json, not the default,
says how many the text tower has. The head has no activations: THUDM/ImageReward has them commented out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.checkpoints import read_json
from sim2real_aug.judges.preprocessing import Preprocessing
from sim2real_aug.judges.text_scoring import TokenScorer, fetch_words, load_words
from sim2real_aug.judges.torch_file import fetch_file, filled, read_weights, renamed

MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of rewards, ImageReward.py
LONGEST = 35  # tokens of a text
PIXELS_MEAN, PIXELS_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTH = 64
ADDED_TOKENS = 2  # [DEC] and [ENC], which BLIP adds to BERT's and no text has
STARTS = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("blocks.", "encoder.layers."),
    ("norm.", "post_layernorm."),
)
PARTS = (
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.proj.", ".self_attn.projection."),
    (".attn.qkv.", ".self_attn.qkv."),
)
FROM_BERT = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", "layer_norm_eps",
)  # fmt: skip


class RewardHead(nn.Sequential):
    """Five linear layers; nothing stands where ImageReward has dropout, so that the layers keep their numbers."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, 1024),
            nn.Identity(),
            nn.Linear(1024, 128),
            nn.Identity(),
            nn.Linear(128, 64),
            nn.Identity(),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )


class ImageReward(TokenScorer):
    """(head(first token) - MEAN) / STD. vision, text: BLIP's towers, the text's attending to the image's tokens."""

    def __init__(self, vision: Any, text: Any, head: nn.Module, tokenizer: Any, batch_size: int) -> None:
        sides = dict.fromkeys(("height", "width"), vision.config.image_size)
        preprocess = Preprocessing(PIXELS_MEAN, PIXELS_STD, sides, bilinear=False)
        super().__init__(tokenizer, LONGEST, preprocess, batch_size)
        self.vision, self.text, self.head = vision, text, head

    def answers(self, pixels: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(input_ids=tokens, attention_mask=known, encoder_hidden_states=seen).last_hidden_state
        rewards: Tensor = self.head(read[:, 0])[:, 0]
        return (rewards - MEAN) / STD


def load_image_reward(
    name: str | Path = "THUDM/ImageReward",
    tokenizer: str | Path = "google-bert/bert-base-uncased",
    batch_size: int = 32,
) -> ImageReward:
    """ImageReward by the file of its weights, or the hub name or folder that has ImageReward.pt.

    med_config.json must lie beside the file. tokenizer: hub name or folder. Raises BadInput, see `torch_file` and
    `checkpoints`, and where the parts do not fit.
    """
    path, words = fetch_file(name, "ImageReward.pt", "med_config.json"), fetch_words(tokenizer)
    weights = read_weights(path)
    vision = vision_tower(part(weights, "blip.visual_encoder."), path)
    text = text_tower(part(weights, "blip.text_encoder."), vision.config.hidden_size, path)
    head = filled(RewardHead(text.config.hidden_size), part(weights, "mlp.layers."), path)
    vocabulary = text.config.vocab_size
    return ImageReward(
        vision, text, head, load_words(words, vocabulary - ADDED_TOKENS, vocabulary), batch_size
    )


def part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What begins with `prefix`, by the rest of its name."""
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}


def vision_tower(weights: Mapping[str, Tensor], file: Path) -> Any:
    """timm's ViT as transformers' BlipVisionModel, its sizes read from the weights. Raises BadInput unless they fit."""
    named = renamed(weights, STARTS, PARTS)
    try:
        width, _, patch, _ = named["embeddings.patch_embedding.weight"].shape
        places = named["embeddings.position_embedding"].shape[1] - 1  # the first is not of a patch
        inner = named["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise BadInput(f"{file} is not a checkpoint of ImageReward: its image tower lacks {error}") from error
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=sum(name.endswith(".layer_norm1.weight") for name in named),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=patch * math.isqrt(places),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    return filled(BlipVisionModel(config), named, file)


def text_tower(weights: Mapping[str, Tensor], vision_width: int, file: Path) -> Any:
    """BLIP's BERT as transformers' BlipTextModel. Raises BadInput unless weights and med_config.json fit."""
    settings = read_json(file.parent, "med_config.json")
    if missing := [key for key in FROM_BERT if key not in settings]:
        raise BadInput(f"{file.parent / 'med_config.json'} does not give {', '.join(missing)}")
    config = BlipTextConfig(encoder_hidden_size=vision_width, **{key: settings[key] for key in FROM_BERT})
    own = {name: each for name, each in weights.items() if name != "embeddings.position_ids"}  # 0, 1, 2, ...
    return filled(BlipTextModel(config, add_pooling_layer=False), own, file)
