"""What the adapters of text scorers share: texts become tokens, and no more images than fit are scored at a time.

An image that is not square is stretched, as `preprocessing` says, where CLIP's and ImageReward's own code crops it and
HPSv2's pads it: figures of such images are not comparable with theirs.

Legend: images (B, 3, H, W) float in [0, 1]; tokens (B, L) numbers of words' pieces; known (B, L) 1, or 0 where a text
is shorter than the longest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sim2real_aug import hub
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.checkpoints import in_batches, load_tokenizer
from sim2real_aug.judges.preprocessing import Preprocessing


class TokenScorer(nn.Module):
    """A TextScorer, but for `answers`. config: all but weights and vocabulary that its answers depend on.

    longest: tokens of a text that are read, its marks of beginning and end among them; the rest is cut off.
    """

    def __init__(self, tokenizer: Any, longest: int, preprocess: Preprocessing, batch_size: int) -> None:
        super().__init__()
        self.tokenizer, self.longest = tokenizer, longest
        self.preprocess, self.batch_size = preprocess, batch_size
        self.config: dict[str, Any] = {"preprocess": preprocess, "longest": longest}

    def score(self, images: Tensor, texts: list[str]) -> Tensor:
        """Images (B, 3, H, W) and a text of each to (B,); higher is better. Raises BadInput where some lack one."""
        if len(images) != len(texts):
            raise BadInput(f"each image is scored by a text of its own; got {len(images)} and {len(texts)}")
        options = {"padding": True, "truncation": True, "max_length": self.longest, "return_tensors": "pt"}
        words = self.tokenizer(texts, **options)
        tokens, known = (words[key].to(images.device) for key in ("input_ids", "attention_mask"))
        return in_batches(self._score, self.batch_size, images, tokens, known)

    def _score(self, images: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
        return self.answers(self.preprocess(images), tokens, known)

    def answers(self, pixels: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
        """The scores (B,) of preprocessed images (B, 3, h, w)."""
        raise NotImplementedError


def fetch_words(name: str | Path) -> Path:
    """The folder of a tokenizer and the settings beside it, without the weights there; see `hub.fetch`."""
    return hub.fetch(name, ("*.json", "*.txt"), ("*/*",))


def load_words(folder: Path, *vocabularies: int) -> Any:
    """The tokenizer in `folder`. vocabularies: how many tokens it may know.

    A tokenizer of another network would give numbers that mean other words, or none. Raises BadInput for one of
    another size, and where there is none.
    """
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) not in vocabularies:
        accepted = " or ".join(map(str, vocabularies))
        raise BadInput(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens; the network's has {accepted}"
        )
    return tokenizer
