"""ImageReward through our adapter against its forward pass written here under BLIP's own names."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sim2real_aug.judges.image_reward import load_image_reward

from .test_checkpoints import refusal
from .tiny import frames
from .tiny_words import save_bert_words, save_clip_with_words

WIDTH, PATCH, SIDE = 128, 8, 32  # of the image tower: two heads of 64
MED = {
    "hidden_act": "gelu", "hidden_size": 24, "intermediate_size": 40, "layer_norm_eps": 1e-12,
    "max_position_embeddings": 48, "num_attention_heads": 3, "num_hidden_layers": 2, "vocab_size": 1032,
    "add_cross_attention": True, "encoder_width": 24, "model_type": "bert",
}  # fmt: skip
TEXTS = ["the block.", "the", "the table. the block. [UNK] the ? " + 40 * "block "]
MEAN, STD = (
    torch.tensor([0.48145466, 0.4578275, 0.40821073]),
    torch.tensor([0.26862954, 0.26130258, 0.27577711]),
)


def shapes() -> dict[str, tuple[int, ...]]:
    """Of every weight in ImageReward.pt, at these sizes."""
    width, sizes = MED["hidden_size"], {"blip.visual_encoder.cls_token": (1, 1, WIDTH)}
    see, read = "blip.visual_encoder", "blip.text_encoder"
    sizes[f"{see}.pos_embed"] = (1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    linear = {f"{see}.blocks.{n}.attn.qkv": (3 * WIDTH, WIDTH) for n in range(2)}
    linear |= {f"{see}.blocks.{n}.attn.proj": (WIDTH, WIDTH) for n in range(2)}
    linear |= {f"{see}.blocks.{n}.mlp.fc1": (48, WIDTH) for n in range(2)}
    linear |= {f"{see}.blocks.{n}.mlp.fc2": (WIDTH, 48) for n in range(2)}
    linear[f"{see}.patch_embed.proj"] = (WIDTH, 3, PATCH, PATCH)
    norms = [f"{see}.norm", *(f"{see}.blocks.{n}.norm{which}" for n in range(2) for which in (1, 2))]
    norms = [*norms, f"{read}.embeddings.LayerNorm"]
    sizes[f"{read}.embeddings.word_embeddings.weight"] = (MED["vocab_size"], width)
    sizes[f"{read}.embeddings.position_embeddings.weight"] = (MED["max_position_embeddings"], width)
    for layer in (f"{read}.encoder.layer.{n}" for n in range(2)):
        for attention, seen in (("attention", width), ("crossattention", WIDTH)):
            linear[f"{layer}.{attention}.self.query"] = (width, width)
            linear |= {f"{layer}.{attention}.self.{part}": (width, seen) for part in ("key", "value")}
            linear[f"{layer}.{attention}.output.dense"] = (width, width)
            norms.append(f"{layer}.{attention}.output.LayerNorm")
        linear[f"{layer}.intermediate.dense"] = (40, width)
        linear[f"{layer}.output.dense"] = (width, 40)
        norms.append(f"{layer}.output.LayerNorm")
    linear |= {"blip.vision_proj": (8, WIDTH), "blip.text_proj": (8, width)}  # of BLIP's training alone
    steps = {0: (1024, width), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}
    linear |= {f"mlp.layers.{number}": size for number, size in steps.items()}
    for name, size in linear.items():
        sizes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    for name in norms:
        side = WIDTH if name.startswith(see) else width
        sizes |= {f"{name}.weight": (side,), f"{name}.bias": (side,)}
    return sizes


def random_weights() -> dict[str, Tensor]:
    """What enters the first layer norm is small, so that what the norm adds to the variance counts; what leaves the
    head is not, so that images and texts do."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, size in shapes().items():
        fan_in = math.prod(size[1:]) if len(size) > 1 else 16
        weights[name] = torch.randn(size, generator=generator) / fan_in**0.5
        if "orm" in name and name.endswith("weight"):
            weights[name] += 1
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
        weights[f"blip.visual_encoder.{name}"] *= 0.01
    weights["mlp.layers.7.weight"] *= 10
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(48)[None]  # as old transformers saved
    return weights


class Blip:
    """The forward pass of THUDM/ImageReward's ViT, BERT and MLP, by functions of torch alone."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def linear(self, name: str, values: Tensor) -> Tensor:
        return F.linear(values, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, values: Tensor, eps: float) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(values, weight.shape, weight, bias, eps)

    def see(self, pixels: Tensor) -> Tensor:
        place, w = "blip.visual_encoder", self.weights
        patches = F.conv2d(
            pixels, w[f"{place}.patch_embed.proj.weight"], w[f"{place}.patch_embed.proj.bias"], stride=PATCH
        )
        first = w[f"{place}.cls_token"].expand(len(pixels), -1, -1)
        x = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + w[f"{place}.pos_embed"]
        for block in (f"{place}.blocks.{n}" for n in range(2)):
            qkv = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6))
            x = x + self.linear(f"{block}.attn.proj", attended(*qkv.chunk(3, -1), heads=2))
            inner = F.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.linear(f"{block}.mlp.fc2", inner)
        return self.norm(f"{place}.norm", x, 1e-6)

    def attention(self, name: str, x: Tensor, seen: Tensor) -> Tensor:
        query, key, value = (
            self.linear(f"{name}.self.{part}", source)
            for part, source in (("query", x), ("key", seen), ("value", seen))
        )
        out = self.linear(f"{name}.output.dense", attended(query, key, value, heads=3))
        return self.norm(f"{name}.output.LayerNorm", x + out, 1e-12)

    def read(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """One text (1, L) without padding."""
        place, w = "blip.text_encoder.embeddings", self.weights
        x = w[f"{place}.word_embeddings.weight"][tokens]
        x = x + w[f"{place}.position_embeddings.weight"][: tokens.shape[1]]
        x = self.norm(f"{place}.LayerNorm", x, 1e-12)
        for layer in (f"blip.text_encoder.encoder.layer.{n}" for n in range(2)):
            x = self.attention(f"{layer}.attention", x, x)
            x = self.attention(f"{layer}.crossattention", x, seen)
            inner = F.gelu(self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.linear(f"{layer}.output.dense", inner), 1e-12)
        return x

    def reward(self, image: Tensor, tokens: Tensor) -> Tensor:
        seen = self.see(((image - MEAN[:, None, None]) / STD[:, None, None])[None])
        value = self.read(tokens, seen)[:, 0]
        for number in (0, 2, 4, 6, 7):
            value = self.linear(f"mlp.layers.{number}", value)
        return (value[0, 0] - 0.16717362830052426) / 1.0333394966054072


def attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    split = [each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value)]
    weights = (split[0] @ split[1].transpose(-1, -2) / split[0].shape[-1] ** 0.5).softmax(-1)
    return (weights @ split[2]).transpose(1, 2).flatten(2)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    save_bert_words(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.save(random_weights(), tmp_path / "ImageReward.pt")
    (tmp_path / "med_config.json").write_text(json.dumps(MED))
    return tmp_path


def test_equals_its_own_forward_pass(folder: Path, words: Path) -> None:
    images, tokenizer, blip = frames(3, SIDE, SIDE), save_bert_words(words), Blip(random_weights())
    ids = [
        tokenizer(text, truncation=True, max_length=35, return_tensors="pt")["input_ids"] for text in TEXTS
    ]
    assert [each.shape[1] for each in ids] == [5, 3, 35]
    expected = torch.stack([blip.reward(image, tokens) for image, tokens in zip(images, ids, strict=True)])
    scores = load_image_reward(folder, words, batch_size=2).score(images, TEXTS)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
    assert scores.std() > 0.05


def test_no_score_depends_on_what_else_is_scored(folder: Path, words: Path) -> None:
    images, scorer = frames(3, 96, 96), load_image_reward(folder / "ImageReward.pt", words)
    together = scorer.score(images, TEXTS)
    torch.testing.assert_close(load_image_reward(folder, words, batch_size=2).score(images, TEXTS), together)
    alone = [scorer.score(images[row : row + 1], TEXTS[row : row + 1]) for row in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-5)


def test_it_is_frozen_and_its_settings_are_part_of_it(folder: Path, words: Path) -> None:
    scorer = load_image_reward(folder, words)
    assert {each.requires_grad for each in scorer.parameters()} == {False}
    assert not scorer.vision.training
    assert scorer.config["preprocess"].target_size(96, 128) == (SIDE, SIDE)
    assert scorer.config["longest"] == 35


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blip.visual_encoder.norm.bias", "lacks 1 weights of BlipVisionModel, such as post_layernorm.bias"),
        (
            "blip.visual_encoder.pos_embed",
            "not a checkpoint of ImageReward: its image tower lacks 'embeddings.pos",
        ),
        (
            "blip.text_encoder.encoder.layer.1.crossattention.self.key.weight",
            "lacks 1 weights of BlipTextModel, such as encoder.layer.1.crossattention.self.key.weight",
        ),
        ("mlp.layers.7.bias", "lacks 1 weights of RewardHead, such as 7.bias"),
    ],
)
def test_missing_weights_are_refused(folder: Path, words: Path, name: str, message: str) -> None:
    weights = random_weights()
    del weights[name]
    torch.save(weights, folder / "ImageReward.pt")
    with refusal(rf"ImageReward\.pt .*{message}"):
        load_image_reward(folder, words)


def test_other_settings_are_refused(folder: Path, words: Path, tmp_path: Path) -> None:
    (folder / "med_config.json").write_text(json.dumps({**MED, "hidden_size": 48}))
    with refusal(r"does not fit BlipTextModel: .* is \(.*\) instead of \(.*\)"):
        load_image_reward(folder, words)
    (folder / "med_config.json").write_text(json.dumps({"hidden_size": 24}))
    with refusal(r"med_config\.json does not give vocab_size, intermediate_size"):
        load_image_reward(folder, words)
    (folder / "med_config.json").unlink()
    with refusal(r"has no med_config\.json"):
        load_image_reward(folder, words)


def test_a_tokenizer_of_another_network_is_refused(folder: Path, words: Path, tmp_path: Path) -> None:
    save_clip_with_words(tmp_path / "clip")
    with refusal("clip knows 6 tokens; the network's has 1030 or 1032"):
        load_image_reward(folder, tmp_path / "clip")


def test_a_folder_without_the_weights_is_refused(words: Path) -> None:
    with refusal(r"has no ImageReward\.pt; give that file, a folder with it"):
        load_image_reward(words, words)
