"""How well an image answers a text by CLIP (Radford et al. 2021): CLIP_txt, the cosine of their two embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPModel

from sim2real_aug.judges.checkpoints import fetch, load_model
from sim2real_aug.judges.preprocessing import Preprocessing, read_preprocessing
from sim2real_aug.judges.text_scoring import TokenScorer, load_words


class ClipText(TokenScorer):
    """`scale` x cosine, by any network of CLIP's two towers."""

    def __init__(
        self, model: Any, tokenizer: Any, preprocess: Preprocessing, scale: float, batch_size: int
    ) -> None:
        super().__init__(tokenizer, model.config.text_config.max_position_embeddings, preprocess, batch_size)
        self.model, self.scale = model, scale
        self.config["scale"] = scale

    def answers(self, pixels: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
        found = self.model(pixel_values=pixels, input_ids=tokens, attention_mask=known)
        cosines: Tensor = (found.image_embeds * found.text_embeds).sum(1)  # they have unit length
        return self.scale * cosines


def clip_scorer(model: Any, folder: Path, scale: float, batch_size: int) -> ClipText:
    """A CLIPModel with the tokenizer and the preprocessor settings in `folder`.

    Raises BadInput where the tokenizer is not the model's, or one of them is not there.
    """
    tokenizer = load_words(folder, model.config.text_config.vocab_size)
    return ClipText(model, tokenizer, read_preprocessing(folder), scale, batch_size)


def load_clip_text(name: str | Path = "openai/clip-vit-large-patch14", batch_size: int = 32) -> ClipText:
    """CLIP_txt, -1..1, by a checkpoint's hub name or folder. Raises BadInput, see `checkpoints`."""
    folder = fetch(name)
    return clip_scorer(load_model(CLIPModel, folder, ("clip",)), folder, 1.0, batch_size)
