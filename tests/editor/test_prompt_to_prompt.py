"""Prompt-to-prompt's alignment of captions by hand, its attention against numpy."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from sim2real_aug.editor.prompt_to_prompt import (
    SourceAttention,
    TokenAlignment,
    align,
    replaced_steps,
    source_attention,
    word_tokens,
)

LENGTH, HEADS, WIDTH = 8, 2, 6


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    """Every letter is a token, so that a word has as many tokens as letters; eight with beginning and end."""
    pieces = [
        "<|startoftext|>",
        "<|endoftext|>",
        *(letter + end for letter in "abcde" for end in ("", "</w>")),
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return CLIPTokenizer(vocabulary, [], unk_token=pieces[1], model_max_length=LENGTH)


def entries(alignment: TokenAlignment) -> dict[tuple[int, int], float]:
    """The weights that are not 0, by source and target token."""
    return {(int(i), int(j)): float(alignment.weights[i, j]) for i, j in alignment.weights.nonzero()}


def diagonal(*pairs: tuple[int, int]) -> dict[tuple[int, int], float]:
    return dict.fromkeys(pairs, 1.0)


def test_a_swapped_word_stands_for_the_word_in_its_place(tokenizer: CLIPTokenizer) -> None:
    for target in ("a b c", "a d c", "d e a"):
        assert torch.equal(align(tokenizer, "a b c", target).weights, torch.eye(LENGTH))


def test_a_swapped_word_of_more_tokens_shares_the_map_out(tokenizer: CLIPTokenizer) -> None:
    """a b c end pad pad pad -> a d e c end pad pad: b's map halves on d and e, what follows moves by one."""
    alignment = align(tokenizer, "a b c", "a de c")
    expected = diagonal((0, 0), (1, 1), (3, 4), (4, 5), (5, 6), (6, 7)) | {(2, 2): 0.5, (2, 3): 0.5}
    assert entries(alignment) == expected
    assert alignment.aligned.all()


def test_a_swapped_word_of_fewer_tokens_gathers_the_maps(tokenizer: CLIPTokenizer) -> None:
    """a d e c end pad pad -> a b c end pad pad pad: b takes what d and e had; the last padding has no counterpart."""
    alignment = align(tokenizer, "a de c", "a b c")
    assert entries(alignment) == diagonal((0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6))
    assert alignment.aligned.tolist() == [True] * 7 + [False]


def test_new_words_keep_their_own_maps_and_shared_ones_are_found(tokenizer: CLIPTokenizer) -> None:
    longer = align(tokenizer, "a c", "a b c")
    assert entries(longer) == diagonal((0, 0), (1, 1), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7))
    assert longer.aligned.tolist() == [True, True, False, True, True, True, True, True]
    shorter = align(tokenizer, "a b c", "b c")
    assert entries(shorter) == diagonal((0, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6))
    unlike = align(tokenizer, "a b", "c d e")
    assert entries(unlike) == diagonal((0, 0), (3, 4), (4, 5), (5, 6), (6, 7))
    repeated = align(tokenizer, "a b", "a a b")
    assert entries(repeated) == diagonal((0, 0), (1, 1), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7))


def test_words_are_cut_where_the_tokenizer_cuts_the_caption(tokenizer: CLIPTokenizer) -> None:
    for caption in ("", "a", "ab c", "a bc d e", "abc de abc", "a b c d e a b c"):
        whole = tokenizer(caption, truncation=True, max_length=LENGTH).input_ids
        assert list(chain.from_iterable(word_tokens(tokenizer, caption))) == whole[1:-1]
        assert torch.equal(align(tokenizer, caption, caption).weights, torch.eye(LENGTH))
    cut = align(tokenizer, "a b c d e a b", "a b c d e abc b")
    assert torch.equal(cut.weights, torch.eye(LENGTH)), (
        "the sixth word is cut to one token, the seventh is gone"
    )


def test_replaced_maps_by_hand(tokenizer: CLIPTokenizer) -> None:
    """a c -> a b c: b keeps the target's, the others take the source's."""
    source = torch.tensor([[[0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0]]])
    target = torch.tensor([[[0.1, 0.1, 0.6, 0.1, 0.1, 0.0, 0.0, 0.0]]])
    replaced = align(tokenizer, "a c", "a b c").replace(source, target)
    torch.testing.assert_close(replaced, torch.tensor([[[0.4, 0.3, 0.6, 0.2, 0.1, 0.0, 0.0, 0.0]]]))


def layer(cross_dim: int | None) -> Attention:
    torch.manual_seed(0)
    return Attention(WIDTH, cross_attention_dim=cross_dim, heads=HEADS, dim_head=3).requires_grad_(False)


def by_numpy(
    attn: Attention,
    states: NDArray[np.float32],
    seen: NDArray[np.float32],
    weights: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """The output of each sample, the last with the maps of the one before it, mapped by `weights` if there are any."""
    q, k, v = (
        (x @ part.weight.numpy().T).reshape(len(x), -1, HEADS, 3).transpose(0, 2, 1, 3)
        for part, x in ((attn.to_q, states), (attn.to_k, seen), (attn.to_v, seen))
    )
    scores = np.exp(q @ k.transpose(0, 1, 3, 2) / np.sqrt(3))
    maps = scores / scores.sum(-1, keepdims=True)
    maps[3] = maps[2] if weights is None else np.where(weights.any(0), maps[2] @ weights, maps[3])
    joined = (maps @ v).transpose(0, 2, 1, 3).reshape(len(states), -1, WIDTH)
    return joined @ attn.to_out[0].weight.numpy().T + attn.to_out[0].bias.numpy()


def test_target_has_the_sources_cross_attention_of_aligned_tokens(tokenizer: CLIPTokenizer) -> None:
    attn, rng = layer(cross_dim=5), np.random.default_rng(1)
    states, text = (rng.normal(size=(4, n, c)).astype(np.float32) for n, c in ((9, WIDTH), (LENGTH, 5)))
    for target in ("a c", "a d", "a b c", "ab c", "b"):
        alignment = align(tokenizer, "a c", target)
        attn.set_processor(SourceAttention(alignment, 0, AttnProcessor2_0()))
        found = attn(torch.from_numpy(states), torch.from_numpy(text))
        np.testing.assert_allclose(found, by_numpy(attn, states, text, alignment.weights.numpy()), atol=1e-5)


@pytest.mark.parametrize(("tokens", "replaced"), [(9, True), (8, False), (0, False)])
def test_self_attention_is_replaced_in_small_maps_only(tokens: int, replaced: bool) -> None:
    attn, states = (
        layer(cross_dim=None),
        np.random.default_rng(1).normal(size=(4, 9, WIDTH)).astype(np.float32),
    )
    plain = attn(torch.from_numpy(states))
    attn.set_processor(SourceAttention(None, tokens, AttnProcessor2_0()))
    found = attn(torch.from_numpy(states))
    if replaced:
        np.testing.assert_allclose(found, by_numpy(attn, states, states, None), atol=1e-5)
        assert (found[3] - plain[3]).abs().max() > 1e-2
    else:
        assert torch.equal(found, plain)


@torch.no_grad()
def test_only_the_target_changes_and_the_unets_own_attention_comes_back(
    checkpoint: Path, tokenizer: CLIPTokenizer
) -> None:
    """`checkpoint` has self-attention at 16 x 16 and, in the middle, at 8 x 8."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    generator = torch.Generator().manual_seed(0)
    latents, text = (torch.randn(4, *shape, generator=generator) for shape in ((8, 16, 16), (LENGTH, 16)))
    own, plain = dict(unet.attn_processors), unet(latents, 500, text).sample
    outputs = []
    for alignment, tokens in ((align(tokenizer, "a b", "a c"), 0), (None, 64), (None, 256)):
        with source_attention(unet, alignment, tokens):
            outputs.append(unet(latents, 500, text).sample)
        assert unet.attn_processors == own
        torch.testing.assert_close(outputs[-1][:3], plain[:3], atol=1e-4, rtol=0)
    changes = [(output[3] - plain[3]).abs().max() for output in outputs]
    assert min(changes) > 1e-3
    assert not torch.allclose(outputs[1], outputs[2], atol=1e-3)
    with source_attention(unet, None, 0):
        assert torch.equal(unet(latents, 500, text).sample, plain)


def test_the_unets_own_attention_comes_back_after_an_error(checkpoint: Path) -> None:
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    own = dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="stopped"), source_attention(unet, None, 64):
        raise RuntimeError("stopped")
    assert unet.attn_processors == own


def test_steps_in_a_share_by_hand() -> None:
    assert [replaced_steps(share, 50) for share in (0.0, 0.4, 0.8, 1.0)] == [0, 20, 40, 50]
    assert [replaced_steps(share, 4) for share in (0.2, 0.5, 0.8)] == [0, 2, 3]
    assert replaced_steps(0.29, 100) == 29
