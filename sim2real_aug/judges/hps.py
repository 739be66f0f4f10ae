"""How well an image answers a text by the Human Preference Score v2 (Wu et al. 2023), 100 x the cosine of a CLIP ViT-H.

Its weights are one file under open_clip's names (xswu/HPSv2); the architecture, the tokenizer and the preprocessor
settings are those of the network that it was tuned from, in transformers' layout. The paper's tables have 20 to 22, as
v2.0 gives; v2.1's scores are on another scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.checkpoints import read_json
from sim2real_aug.judges.clip_text import ClipText, clip_scorer
from sim2real_aug.judges.text_scoring import fetch_words
from sim2real_aug.judges.torch_file import fetch_file, filled, read_weights, renamed, unstacked

SCALE = 100.0
TRANSPOSED = ("visual.proj", "text_projection")  # open_clip multiplies by them from the right
STARTS = (
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("visual.proj", "visual_projection.weight"),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    ("text_projection", "text_projection.weight"),
)
PARTS = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.", ".self_attn."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)


def load_hps(
    name: str | Path = "xswu/HPSv2",
    architecture: str | Path = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    file: str = "HPS_v2_compressed.pt",
    batch_size: int = 32,
) -> ClipText:
    """HPSv2 by the file of its weights, or the hub name or folder that has `file`.

    architecture: hub name or folder of config.json, tokenizer and preprocessor settings, without weights.
    Raises BadInput, see `torch_file` and `checkpoints`, and where the two do not fit.
    """
    path, folder = fetch_file(name, file), fetch_words(architecture)
    settings = read_json(folder, "config.json")
    if (found := settings.get("model_type")) != "clip":
        raise BadInput(f"{folder} is a checkpoint of '{found}'; HPSv2 takes the architecture of clip")
    weights = from_open_clip(read_weights(path, "state_dict"))
    model = filled(CLIPModel(CLIPConfig.from_dict(settings)), weights, path)
    return clip_scorer(model, folder, SCALE, batch_size)


def from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of open_clip's CLIP by the names and in the shapes of transformers' CLIPModel."""
    upright = {name: each.T if name in TRANSPOSED else each for name, each in weights.items()}
    return unstacked(renamed(upright, STARTS, PARTS), ".in_proj_", ".{}_proj.")
