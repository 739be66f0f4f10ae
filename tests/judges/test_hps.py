"""HPSv2 through our adapter against transformers' CLIPModel, whose weights are written here as open_clip names them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPModel

from sim2real_aug.judges.hps import load_hps

from .test_checkpoints import refusal
from .test_clip_text import logits
from .tiny import frames
from .tiny_words import TEXTS, save_clip_with_words

FILE = "HPS_v2_compressed.pt"


def named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": weight for name, weight in module.state_dict().items()}


def blocks(prefix: str, layers: nn.ModuleList) -> dict[str, Tensor]:
    """The layers of transformers as open_clip's resblocks."""
    weights: dict[str, Tensor] = {}
    for number, layer in enumerate(layers):
        place, attention = f"{prefix}transformer.resblocks.{number}", layer.self_attn
        threefold = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights |= named(f"{place}.ln_1", layer.layer_norm1)
        weights[f"{place}.attn.in_proj_weight"] = torch.cat([each.weight for each in threefold])
        weights[f"{place}.attn.in_proj_bias"] = torch.cat([each.bias for each in threefold])
        weights |= named(f"{place}.attn.out_proj", attention.out_proj)
        weights |= named(f"{place}.ln_2", layer.layer_norm2)
        weights |= named(f"{place}.mlp.c_fc", layer.mlp.fc1)
        weights |= named(f"{place}.mlp.c_proj", layer.mlp.fc2)
    return weights


@torch.no_grad()
def in_open_clip(model: CLIPModel) -> dict[str, Tensor]:
    """What open_clip's CLIP would save of the same network."""
    vision, text = model.vision_model, model.text_model
    weights = {
        "positional_embedding": text.embeddings.position_embedding.weight,
        "text_projection": model.text_projection.weight.T,
        "logit_scale": model.logit_scale,
        "visual.class_embedding": vision.embeddings.class_embedding,
        "visual.positional_embedding": vision.embeddings.position_embedding.weight,
        "visual.proj": model.visual_projection.weight.T,
        "visual.conv1.weight": vision.embeddings.patch_embedding.weight,
        "token_embedding.weight": text.embeddings.token_embedding.weight,
    }
    weights |= named("visual.ln_pre", vision.pre_layrnorm) | named("visual.ln_post", vision.post_layernorm)
    weights |= blocks("visual.", vision.encoder.layers) | blocks("", text.encoder.layers)
    weights |= named("ln_final", text.final_layer_norm)
    return {name: weight.detach().clone() for name, weight in weights.items()}


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What HPSv2 was tuned from: all but its weights is used."""
    folder = tmp_path_factory.mktemp("architecture")
    save_clip_with_words(folder)
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Another network's folder, as transformers saves it, and its weights as open_clip does."""
    folder = tmp_path_factory.mktemp("tuned")
    return folder, in_open_clip(save_clip_with_words(folder, seed=1))


def save(file: Path, weights: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": weights, "epoch": 3}, file)
    return file


@pytest.fixture
def file(tuned: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> Path:
    return save(tmp_path / FILE, tuned[1])


def test_a_hundred_times_the_cosine(
    architecture: Path, tuned: tuple[Path, dict[str, Tensor]], file: Path
) -> None:
    images = frames(3, 32, 32)
    expected, scale = logits(tuned[0], images, TEXTS)
    scores = load_hps(file, architecture, batch_size=2).score(images, TEXTS)
    torch.testing.assert_close(scores, 100 * expected / scale, atol=1e-4, rtol=0)
    torch.testing.assert_close(load_hps(file, architecture).score(images, TEXTS), scores)


def test_the_weights_by_a_folder_and_another_file(architecture: Path, file: Path) -> None:
    images = frames(3, 32, 32)
    expected = load_hps(file, architecture).score(images, TEXTS)
    torch.testing.assert_close(load_hps(file.parent, architecture).score(images, TEXTS), expected)
    file.rename(file.with_name("HPS_v2.1_compressed.pt"))
    other = load_hps(file.parent, architecture, file="HPS_v2.1_compressed.pt")
    torch.testing.assert_close(other.score(images, TEXTS), expected)
    with refusal(rf"has no {FILE}; give that file, a folder with it, or a model on the hub with it"):
        load_hps(file.parent, architecture)


def test_half_precision_becomes_single(
    architecture: Path, tuned: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    file = save(tmp_path / FILE, {name: each.half() for name, each in tuned[1].items()})
    model = load_hps(file, architecture).model
    kinds = {(each.dtype, each.requires_grad) for each in model.parameters()}
    assert kinds == {(torch.float32, False)}
    assert not model.training


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("visual.ln_pre.bias", None, "lacks 1 weights of CLIPModel, such as vision_model.pre_layrnorm.bias"),
        (
            "visual.ln_pre.twice",
            8,
            "has 1 weights that CLIPModel has not, such as vision_model.pre_layrnorm.twice",
        ),
        ("ln_final.weight", 9, r"text_model.final_layer_norm.weight is \(9,\) instead of \(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    architecture: Path, file: Path, name: str, other: int | None, message: str
) -> None:
    weights = torch.load(file, weights_only=True)["state_dict"]
    weights.pop(name, None)
    if other is not None:
        weights[name] = torch.zeros(other)
    with refusal(message):
        load_hps(save(file, weights), architecture)


def test_what_is_no_file_of_weights_is_refused(architecture: Path, file: Path) -> None:
    whole = file.read_bytes()
    for content in (b"", b"<html>not found</html>", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with refusal(rf"{FILE} is not a file of tensors alone, written by torch.save: \w+"):
            load_hps(file, architecture)
    torch.save({"state_dict": nn.Linear(2, 2)}, file)  # code, not tensors
    with refusal("is not a file of tensors alone"):
        load_hps(file, architecture)
    for kept in ({"ln_final.weight": torch.ones(3)}, {"state_dict": {"epoch": 3}}, [1.0]):
        torch.save(kept, file)
        with refusal("does not hold tensors by their names under 'state_dict'"):
            load_hps(file, architecture)


def test_another_architecture_is_refused(architecture: Path, checkpoints: Path, file: Path) -> None:
    with refusal("dinov2 is a checkpoint of 'dinov2'; HPSv2 takes the architecture of clip"):
        load_hps(file, checkpoints / "dinov2")
    with refusal(
        "has 32 weights that CLIPModel has not, such as text_model.encoder.layers.1."
    ):  # of its 2 layers
        load_hps(file, checkpoints / "clip")
