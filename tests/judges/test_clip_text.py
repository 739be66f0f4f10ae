"""CLIP_txt and PickScore through our adapters against transformers' own processing."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.clip_text import load_clip_text
from sim2real_aug.judges.pick_score import load_pick_score

from .test_checkpoints import refusal
from .tiny import as_arrays, frames
from .tiny_words import TEXTS, save_bert_words, save_clip_with_words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clip_text")
    save_clip_with_words(place)
    return place


def logits(folder: Path, images: Tensor, texts: list[str]) -> tuple[Tensor, float]:
    """exp(logit_scale) x cosine of each image and its text, and exp(logit_scale), by transformers alone."""
    processor, tokenizer = (
        CLIPImageProcessorPil.from_pretrained(folder),
        CLIPTokenizer.from_pretrained(folder),
    )
    model = CLIPModel.from_pretrained(folder).eval()
    words = tokenizer(texts, padding="max_length", truncation=True, max_length=8, return_tensors="pt")
    with torch.no_grad():
        found = model(**processor(images=as_arrays(images), return_tensors="pt"), **words)
    return found.logits_per_image.diagonal(), model.logit_scale.exp().item()


@pytest.mark.parametrize(("size", "close"), [(32, 1e-4), (96, 0.02)])  # without and with resizing
def test_equals_transformers(folder: Path, size: int, close: float) -> None:
    images = frames(3, size, size)
    expected, scale = logits(folder, images, TEXTS)
    scores = load_clip_text(folder).score(images, TEXTS)
    torch.testing.assert_close(scores, expected / scale, atol=close, rtol=0)
    assert scores.abs().max() <= 1
    assert scores.std() > 0.05
    picked = load_pick_score(folder, folder).score(images, TEXTS)
    torch.testing.assert_close(picked, expected, atol=close * scale, rtol=0)


def test_the_processor_of_another_checkpoint(folder: Path, tmp_path: Path) -> None:
    model = save_clip_with_words(tmp_path / "whole", seed=1)
    model.save_pretrained(tmp_path / "weights")
    images = frames(3, 32, 32)
    expected, _ = logits(tmp_path / "whole", images, TEXTS)
    picked = load_pick_score(tmp_path / "weights", folder).score(images, TEXTS)
    torch.testing.assert_close(picked, expected, atol=1e-4, rtol=0)


def test_no_score_depends_on_what_else_is_scored(folder: Path) -> None:
    images, scorer = frames(3, 32, 32), load_clip_text(folder)
    together = scorer.score(images, TEXTS)
    torch.testing.assert_close(load_clip_text(folder, batch_size=2).score(images, TEXTS), together)
    alone = [scorer.score(images[row : row + 1], TEXTS[row : row + 1]) for row in range(3)]
    torch.testing.assert_close(torch.cat(alone), together)


def test_its_settings_are_part_of_it(folder: Path) -> None:
    cosine, picked = load_clip_text(folder).config, load_pick_score(folder, folder).config
    assert cosine["scale"] == 1
    assert picked == {**cosine, "scale": pytest.approx(logits(folder, frames(1, 32, 32), ["s"])[1])}


def test_images_without_texts_of_their_own_are_refused(folder: Path) -> None:
    with refusal("each image is scored by a text of its own; got 3 and 1"):
        load_clip_text(folder).score(frames(3, 32, 32), ["s n o w"])


def test_a_tokenizer_of_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    save_bert_words(tmp_path / "bert")
    with refusal(r"the tokenizer in .*bert knows 1030 tokens; the network's has 6"):
        load_pick_score(folder, tmp_path / "bert")


def test_other_checkpoints_are_refused(folder: Path, checkpoints: Path, tmp_path: Path) -> None:
    with refusal("dinov2 is a checkpoint of 'dinov2'; CLIPModel takes clip"):
        load_clip_text(checkpoints / "dinov2")
    with pytest.raises(BadInput):  # no tokenizer
        load_clip_text(checkpoints / "clip")
    shutil.copytree(folder, tmp_path / "blind")
    (tmp_path / "blind" / "preprocessor_config.json").write_text(json.dumps({}))
    with refusal("the preprocessor settings of .*blind do not give"):
        load_clip_text(tmp_path / "blind")
