"""Prompt-to-prompt: where the words of a source caption lie in its image, their counterparts lie in the edit.

Source and target are denoised from one x_T as two branches of a batch. In the first steps the target takes over the
source's cross-attention maps of the words that the captions share or swap, and its small self-attention maps, which
hold the layout; later steps are its own.

Source: Prompt-to-Prompt (Hertz et al. 2022, arXiv:2208.01626), section 3.2 and algorithm 1; google/prompt-to-prompt.
Without its local blending and re-weighting, which ask for words chosen by hand for every edit.
Legend: L tokens of a caption with its padding; n, m tokens of the words of source and target; h heads; Q positions of
a layer's map; K what they attend to, L tokens or Q positions; maps (h, Q, K), whose rows sum to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from transformers import CLIPTokenizer


@dataclass(frozen=True)
class TokenAlignment:
    """What each target token stands for in the source caption.

    weights: (L, L), in [0, 1]; column j says how much of each source token's map goes into that of target token j, and
    is 0 for a token that the source has not.
    """

    weights: Tensor

    @property
    def aligned(self) -> Tensor:
        """Which target tokens have a counterpart, (L,) bool."""
        return self.weights.any(dim=0)

    def replace(self, source: Tensor, target: Tensor) -> Tensor:
        """The target's cross-attention maps with the source's of aligned tokens, all (h, Q, L).

        Prompt-to-Prompt, section 3.2, Edit(M_t, M*_t, t) of "Word Swap" and "Adding a New Phrase": (M_t)_{i,A(j)}
        where A(j) exists, else (M*_t)_{i,j}.
        """
        return torch.where(self.aligned, source @ self.weights.to(source.dtype), target)


def align(
    tokenizer: CLIPTokenizer, source: str, target: str, device: torch.device | str = "cpu"
) -> TokenAlignment:
    """Word by word where the captions have the same number of words, else by the tokens that they share.

    What does not fit into the text encoder's length is cut off, as diffusers' pipelines do.
    """
    old, new = word_tokens(tokenizer, source), word_tokens(tokenizer, target)
    if len(old) == len(new):
        words = swapped_words(old, new)
    else:
        words = shared_tokens(list(chain.from_iterable(old)), list(chain.from_iterable(new)))
    n, m = words.shape
    length = tokenizer.model_max_length
    weights = torch.zeros(length, length)
    weights[0, 0] = 1  # beginning of text
    weights[1 : n + 1, 1 : m + 1] = words
    # End of text and padding, in order. google/prompt-to-prompt takes what follows the last swapped word, or all
    # padding, from the same position instead, which is another word's where n is not m.
    rest = length - 1 - max(n, m)
    weights[n + 1 : n + 1 + rest, m + 1 : m + 1 + rest] = torch.eye(rest)
    return TokenAlignment(weights.to(device))


def word_tokens(tokenizer: CLIPTokenizer, caption: str) -> list[list[int]]:
    """The token ids of each word of a caption, without beginning and end of text; words that are cut off have none.

    CLIP's tokens never reach over a space, so that a word's are the same alone.
    """
    room = tokenizer.model_max_length - 2
    words: list[list[int]] = []
    for word in caption.split():
        words.append(list(tokenizer(word, add_special_tokens=False).input_ids)[:room])
        room -= len(words[-1])
    return words


def swapped_words(source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> Tensor:
    """Weights (n, m) that give each word's maps to the word in its place; both captions have as many words.

    Where a word has other than its counterpart's number of tokens, their maps are summed and shared out evenly, so
    that a row of the map sums to what it did.
    """
    weights = torch.zeros(sum(map(len, source)), sum(map(len, target)))
    i = j = 0
    for old, new in zip(source, target, strict=True):
        same = len(old) == len(new)
        block = torch.eye(len(old)) if same else torch.ones(len(old), len(new)) / max(len(new), 1)
        weights[i : i + len(old), j : j + len(new)] = block
        i, j = i + len(old), j + len(new)
    return weights


def shared_tokens(source: Sequence[int], target: Sequence[int]) -> Tensor:
    """Weights (n, m), 0 or 1, of a longest common subsequence; of several, the target's earliest tokens.

    google/prompt-to-prompt's global alignment with gap 0, match 1 and mismatch -1 is this: two gaps cost less than a
    mismatch.
    """
    n, m = len(source), len(target)
    longest = [[0] * (m + 1) for _ in range(n + 1)]  # of the first i and j tokens
    for i, old in enumerate(source):
        for j, new in enumerate(target):
            either = max(longest[i][j + 1], longest[i + 1][j])
            longest[i + 1][j + 1] = longest[i][j] + 1 if old == new else either
    weights = torch.zeros(n, m)
    i, j = n, m
    while i and j:
        if longest[i][j] == longest[i][j - 1]:
            j -= 1
        elif longest[i][j] == longest[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            weights[i, j] = 1
    return weights


@dataclass(frozen=True)
class SourceAttention:
    """A diffusers attention processor that gives a batch's last sample the maps of the one before it.

    The batch is (null text of source and target, source, target): the unconditional half keeps its own maps.
    alignment: of the captions, for cross-attention; None leaves it. self_tokens: self-attention is replaced in maps of
    at most so many positions. otherwise: the layer's own processor, which does what is not replaced.
    """

    alignment: TokenAlignment | None
    self_tokens: int
    otherwise: Any

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The layer's output (B, Q, C) for hidden_states (B, Q, C) and, in cross-attention, the text (B, L, D)."""
        crosses = encoder_hidden_states is not None
        replaces = self.alignment is not None if crosses else hidden_states.shape[1] <= self.self_tokens
        if not replaces:
            unchanged: Tensor = self.otherwise(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
            return unchanged
        seen = encoder_hidden_states if crosses else hidden_states
        query, key, value = (
            attn.head_to_batch_dim(project(states))
            for project, states in ((attn.to_q, hidden_states), (attn.to_k, seen), (attn.to_v, seen))
        )
        mask = attn.prepare_attention_mask(attention_mask, key.shape[1], len(hidden_states))
        maps = attn.get_attention_scores(query, key, mask).unflatten(0, (-1, attn.heads))
        *others, source, target = maps.unbind(0)
        replaced = self.alignment.replace(source, target) if crosses and self.alignment else source
        maps = torch.stack([*others, source, replaced]).flatten(0, 1)
        # The attention of a transformer block has neither norm nor residual of its own.
        output: Tensor = attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(maps @ value)))
        return output


@contextmanager
def source_attention(
    unet: UNet2DConditionModel, alignment: TokenAlignment | None, self_tokens: int
) -> Iterator[None]:
    """Inside, the UNet's transformer blocks attend as `SourceAttention` says; with None and 0, as ever."""
    own = dict(unet.attn_processors)
    if alignment is not None or self_tokens:
        unet.set_attn_processor(
            {
                name: SourceAttention(alignment, self_tokens, processor)
                if ".transformer_blocks." in name
                else processor
                for name, processor in own.items()
            }
        )
    try:
        yield
    finally:
        unet.set_attn_processor(own)


def replaced_steps(share: float, num_inference_steps: int) -> int:
    """How many of the steps, from the first, are in a share of them: the τ of section 3.2, counted from x_T."""
    return int(share * num_inference_steps + 1e-9)  # 0.29 of 100 is 28.999...
