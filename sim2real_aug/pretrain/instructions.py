"""Templated instructions about materials, light and realism, and the tokenizer that knows their words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

MAX_TOKENS = 20

GENERIC = (
    "make it look like a real photo",
    "make it look real",
    "make it realistic",
    "make it photorealistic",
    "turn the simulation into a photo",
    "turn it into a real photo of the table",
    "make the simulated image look like the lab",
    "make it look like the photo",
    "match the style of the photo",
    "as seen by a real camera",
)
SPECIFIC = (
    "make it look like a real photo of a {block} block on a {table} table",
    "a {block} block on a {table} table",
    "put a {block} block on a {table} table",
    "turn the table into {table}",
    "make the table {table}",
    "make the block {block}",
    "turn the block into {block}",
    "{table} table, light from the {side}",
    "light from the {side} with {shadow} shadows",
    "a {block} block with {shadow} shadows",
    "make it real: {block} block, {table} table, {shadow} shadows",
)
FLAT_INSTRUCTIONS = ("make it look like the simulator", "turn it into a flat drawing")
SIDES = ("right", "bottom", "left", "top")


class _Surface(Protocol):
    material: str
    color_name: str


class _Light(Protocol):
    azimuth: float
    softness: float


class DescribedScene(Protocol):
    """What an instruction may speak of."""

    table: _Surface
    block: _Surface
    light: _Light


def scene_words(scene: DescribedScene) -> dict[str, str]:
    """The words that fill the templates: "white board", "black plastic", "left", "soft"."""
    quarter = round(scene.light.azimuth / (math.pi / 2)) % 4
    return {
        "table": f"{scene.table.color_name} {scene.table.material}",
        "block": f"{scene.block.color_name} {scene.block.material}",
        "side": SIDES[quarter],
        "shadow": "soft" if scene.light.softness > 8 else "hard",
    }


def instruction_for(scene: DescribedScene | None, rng: np.random.Generator) -> str:
    """A random instruction whose result `scene` is: half speak of realism only; None is the flat look."""
    if scene is None:
        return str(rng.choice(FLAT_INSTRUCTIONS))
    if rng.random() < 0.5:
        return str(rng.choice(GENERIC))
    return str(rng.choice(SPECIFIC)).format(**scene_words(scene))


def train_tokenizer(folder: Path, corpus: list[str], vocab_size: int = 1024) -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's format (vocab.json, merges.txt), learned from `corpus`."""
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    # CLIP's order: the bytes, the bytes that end a word, the merges, the special tokens.
    words = [
        *alphabet,
        *(letter + "</w>" for letter in alphabet),
        *("".join(pair.split(" ")) for pair in pairs),
    ]
    vocab = {word: index for index, word in enumerate(dict.fromkeys([*words, *special]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=MAX_TOKENS
    )


def vocabulary_corpus(scenes: list[DescribedScene]) -> list[str]:
    """Sentences that show the tokenizer every word of the templates."""
    filled = [template.format(**scene_words(scene)) for scene in scenes for template in SPECIFIC]
    return [*GENERIC, *FLAT_INSTRUCTIONS] * 10 + filled
