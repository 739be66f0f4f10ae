"""Depth Anything through our adapter against transformers' own processing, and the scale that we fix."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from sim2real_aug.judges.depth_anything import DepthAnything, load_depth_anything, stretched

from .test_checkpoints import refusal
from .tiny import as_arrays, frames, normalized, randomize, resized_by_pil


@pytest.fixture(scope="module")
def judge(checkpoints: Path) -> DepthAnything:
    return load_depth_anything(checkpoints / "depth_anything", batch_size=2)


def reference(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Relative disparity (B, H, W) by transformers alone."""
    processor = DPTImageProcessorPil.from_pretrained(folder)
    model = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(**processor(images=as_arrays(images), return_tensors="pt"))
    sizes = [tuple(images.shape[-2:])] * len(images)
    maps = processor.post_process_depth_estimation(out, target_sizes=sizes)
    return torch.stack([each["predicted_depth"] for each in maps])


def test_equals_transformers_where_nothing_is_resized(judge: DepthAnything, checkpoints: Path) -> None:
    images = frames(3, 56, 56)
    expected = reference(checkpoints / "depth_anything", images)
    assert expected.std() > 0.01
    torch.testing.assert_close(-judge.farness(images), expected, atol=1e-4, rtol=1e-4)


def test_other_sizes_are_resized_and_come_back_at_their_own(judge: DepthAnything, checkpoints: Path) -> None:
    images = frames(2, 96, 96)
    assert judge.preprocess(images).shape[-2:] == (56, 56)
    folder = checkpoints / "depth_anything"
    processor = DPTImageProcessorPil.from_pretrained(folder)
    model = DepthAnythingForDepthEstimation.from_pretrained(folder).eval()
    pixels = normalized(processor, resized_by_pil(images, (56, 56), processor.resample))
    with torch.no_grad():
        out = model(pixels)
    maps = processor.post_process_depth_estimation(out, target_sizes=[(96, 96)] * 2)
    expected = torch.stack([each["predicted_depth"] for each in maps])
    torch.testing.assert_close(-judge.farness(images), expected, atol=1e-4, rtol=1e-4)


def original(model: DepthAnythingForDepthEstimation) -> dict[str, Tensor]:
    """The network's weights as its authors name them."""
    names = {
        r"^backbone\.embeddings\.(cls_token|mask_token)$": r"pretrained.\1",
        r"^backbone\.embeddings\.position_embeddings$": "pretrained.pos_embed",
        r"^backbone\.embeddings\.patch_embeddings\.projection": "pretrained.patch_embed.proj",
        r"^backbone\.encoder\.layer": "pretrained.blocks",
        r"^backbone\.layernorm": "pretrained.norm",
        r"attention\.o_proj": "attn.proj",
        r"layer_scale(\d)\.lambda1": r"ls\1.gamma",
        r"^neck\.reassemble_stage\.layers\.(\d)\.projection": r"depth_head.projects.\1",
        r"^neck\.reassemble_stage\.layers\.(\d)\.resize": r"depth_head.resize_layers.\1",
        r"residual_layer(\d)\.convolution(\d)": r"resConfUnit\1.conv\2",
        r"^(neck\.fusion_stage\.layers\.\d)\.projection": r"\1.out_conv",
        r"^head\.conv1": "depth_head.scratch.output_conv1",
        r"^head\.conv2": "depth_head.scratch.output_conv2.0",
        r"^head\.conv3": "depth_head.scratch.output_conv2.2",
    }
    fusion = {f"neck.fusion_stage.layers.{4 - i}": f"depth_head.scratch.refinenet{i}" for i in range(1, 5)}
    fusion |= {f"neck.convs.{i - 1}": f"depth_head.scratch.layer{i}_rn" for i in range(1, 5)}
    weights = dict(model.state_dict())
    for place in [name for name in weights if "attention.q_proj" in name]:
        parts = [weights.pop(place.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        weights[place.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    renamed = {}
    for name, weight in weights.items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        start = next((start for start in fusion if name.startswith(start)), "")
        renamed[fusion.get(start, "") + name.removeprefix(start)] = weight
    return renamed


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> DepthAnythingForDepthEstimation:
    """A network of 12 blocks, as Small and Base have, one head wide."""
    backbone = Dinov2Config(
        image_size=56, patch_size=14, hidden_size=64, num_hidden_layers=12, num_attention_heads=1,
        out_indices=[3, 6, 9, 12], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=64, patch_size=14, neck_hidden_sizes=[4, 6, 8, 10],
        fusion_hidden_size=6, head_hidden_size=4,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config).eval()
    randomize(model)
    torch.nn.init.normal_(model.backbone.embeddings.position_embeddings)
    torch.nn.init.ones_(model.head.conv3.bias)
    return model


@torch.no_grad()
def test_the_authors_file_gives_what_transformers_does(small: DepthAnythingForDepthEstimation, tmp_path: Path) -> None:
    torch.save(original(small), tmp_path / "depth_anything_v2_vits.pth")
    for name, file in ((tmp_path / "depth_anything_v2_vits.pth", None), (tmp_path, "depth_anything_v2_vits.pth")):
        judge = load_depth_anything(name, file)
        images = frames(2, 56, 56)
        expected = small(judge.preprocess(images)).predicted_depth
        assert expected.std() > 0.01
        torch.testing.assert_close(-judge.farness(images), expected, atol=1e-5, rtol=1e-5)
    assert judge.preprocess(frames(1, 56, 112)).shape[-2:] == (56, 112), "sides of 56, as the positions are"
    assert judge.preprocess.std == (0.229, 0.224, 0.225)


def test_other_files_are_refused_in_one_line(small: DepthAnythingForDepthEstimation, tmp_path: Path) -> None:
    weights, file = original(small), tmp_path / "x.pth"
    damaged: dict[str, tuple[dict[str, Tensor], str]] = {
        "lacks": ({name: each for name, each in weights.items() if name != "pretrained.norm.bias"}, "lacks 1 weights"),
        "other": ({"visual.proj": torch.zeros(2)}, r"Small, Base or Large: no 'pretrained\.patch_embed"),
        "more": ({**weights, "pretrained.blocks.12.ls1.gamma": torch.zeros(64)}, "no 'network of 13 blocks'"),
    }
    for content, message in damaged.values():
        torch.save(content, file)
        with refusal(message):
            load_depth_anything(file)
    torch.save(weights, tmp_path / "depth_anything_v2_metric_vkitti_vits.pth")
    with refusal("gives metres"):
        load_depth_anything(tmp_path / "depth_anything_v2_metric_vkitti_vits.pth")
    with refusal(r"has no depth_anything_v2_vitb\.pth"):
        load_depth_anything(tmp_path, "depth_anything_v2_vitb.pth")


def test_the_nearest_is_0_and_the_farthest_1(judge: DepthAnything) -> None:
    images = frames(3, 56, 56)
    depth = judge.depth(images)
    assert depth.shape == (3, 56, 56)
    torch.testing.assert_close(depth.amax((1, 2)), torch.ones(3))
    torch.testing.assert_close(depth.amin((1, 2)), torch.zeros(3))
    assert (depth.flatten(1).argmin(1) == judge.farness(images).flatten(1).argmin(1)).all()


def test_a_frame_with_block_and_pusher_by_hand() -> None:
    """Seen from 512 above: table at depth 512, the block's top at 482, the pusher's at 452; disparity a/z + b."""
    disparity = 7000 / torch.tensor([[[512.0, 482.0, 452.0]]]) + 3
    torch.testing.assert_close(
        stretched(-disparity)[0, 0], torch.tensor([1.0, 0.531, 0.0]), atol=1e-3, rtol=0
    )


def test_the_unknown_scale_and_shift_of_disparity_do_not_matter() -> None:
    farness = -torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stretched(farness), stretched(3 * farness - 5), atol=1e-5, rtol=0)


def test_a_flat_map_is_a_table() -> None:
    assert (stretched(torch.full((1, 4, 4), -0.7)) == 1).all()


def test_an_image_has_the_same_depth_in_every_batch(judge: DepthAnything) -> None:
    images = frames(3, 56, 56)
    alone = torch.cat([judge.depth(image[None]) for image in images])
    torch.testing.assert_close(judge.depth(images), alone, atol=1e-5, rtol=0)


def test_a_metric_checkpoint_gives_depth_itself(
    judge: DepthAnything, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = frames(1, 56, 56)
    relative = judge.farness(images)
    monkeypatch.setattr(judge.model.config, "depth_estimation_type", "metric")
    torch.testing.assert_close(judge.farness(images), -relative)
