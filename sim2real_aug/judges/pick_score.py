"""How well an image answers a text by PickScore (Kirstain et al. 2023), a CLIP ViT-H tuned on what people picked.

The score is exp(logit_scale) x cosine, with a logit_scale of the checkpoint's; the paper's tables have about 19.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CLIPModel

from sim2real_aug.judges.checkpoints import fetch, load_model
from sim2real_aug.judges.clip_text import ClipText, clip_scorer
from sim2real_aug.judges.text_scoring import fetch_words


def load_pick_score(
    name: str | Path = "yuvalkirstain/PickScore_v1",
    processor: str | Path = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    batch_size: int = 32,
) -> ClipText:
    """PickScore by the hub names or folders of its weights and of its tokenizer and preprocessor settings.

    Raises BadInput, see `checkpoints`, and where the two do not fit.
    """
    folder, words = fetch(name), fetch_words(processor)
    model = load_model(CLIPModel, folder, ("clip",))
    return clip_scorer(model, words, model.logit_scale.exp().item(), batch_size)
