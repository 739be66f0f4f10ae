"""Depth by Depth Anything V2 (Yang et al. 2024), through transformers' DepthAnythingForDepthEstimation.

The network gives relative disparity, a/z + b with a and b unknown in every image, so a scale must be fixed. Each map is
stretched to [0, 1] by its own least and greatest disparity: 1 is the farthest that is seen, 0 the nearest. Why this
one: it depends on the image alone, so that it is the same in every batch; whatever a and b are, it takes them out, of
the source and of the edit alike; and seen from above, where disparity is all but linear in height, it is
`data.regions.relative_depth` of every frame that shows a pusher twice as high as the block. Its price: one wrong
point, nearer or farther than all else, stretches its whole map, and with nothing as high as a pusher in view the
block's top comes near 0 instead of 0.5. The paper's depth figures are of such maps in units of 1/255.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from sim2real_aug.errors import BadInput
from sim2real_aug.judges.checkpoints import fetch, in_batches, load_model
from sim2real_aug.judges.preprocessing import Preprocessing, read_preprocessing
from sim2real_aug.judges.torch_file import fetch_file, filled, read_weights, renamed, unstacked

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
# The blocks whose tokens the head reads, from 1, by how many there are: Small and Base, Large.
LAYERS = {12: [3, 6, 9, 12], 24: [5, 12, 18, 24]}
STARTS = (
    ("pretrained.cls_token", "backbone.embeddings.cls_token"),
    ("pretrained.mask_token", "backbone.embeddings.mask_token"),
    ("pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
    ("pretrained.patch_embed.proj.", "backbone.embeddings.patch_embeddings.projection."),
    ("pretrained.blocks.", "backbone.encoder.layer."),
    ("pretrained.norm.", "backbone.layernorm."),
    *((f"depth_head.projects.{i}.", f"neck.reassemble_stage.layers.{i}.projection.") for i in range(4)),
    *((f"depth_head.resize_layers.{i}.", f"neck.reassemble_stage.layers.{i}.resize.") for i in range(4)),
    *((f"depth_head.scratch.layer{i + 1}_rn.", f"neck.convs.{i}.") for i in range(4)),
    *((f"depth_head.scratch.refinenet{4 - i}.", f"neck.fusion_stage.layers.{i}.") for i in range(4)),
    ("depth_head.scratch.output_conv1.", "head.conv1."),
    ("depth_head.scratch.output_conv2.0.", "head.conv2."),
    ("depth_head.scratch.output_conv2.2.", "head.conv3."),
)
PARTS = (
    (".attn.proj.", ".attention.o_proj."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
    (".out_conv.", ".projection."),
    (".resConfUnit1.conv", ".residual_layer1.convolution"),
    (".resConfUnit2.conv", ".residual_layer2.convolution"),
)
LEAST_RELIEF = 1e-6  # of disparity: a map that is flatter shows a table and nothing else


class DepthAnything(nn.Module):
    """A DepthJudge. config: all but the weights that its answers depend on."""

    def __init__(self, model: Any, preprocess: Preprocessing, batch_size: int) -> None:
        super().__init__()
        self.model, self.preprocess, self.batch_size = model, preprocess, batch_size
        self.config = {"preprocess": preprocess}

    def depth(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, H, W) in [0, 1]: 1 is the farthest of its image, 0 the nearest."""
        return in_batches(lambda part: stretched(self.farness(part)), self.batch_size, images)

    def farness(self, images: Tensor) -> Tensor:
        """(B, H, W) in the network's own unit: minus the disparity, or metres of a metric checkpoint."""
        predicted = self.model(self.preprocess(images)).predicted_depth
        predicted = F.interpolate(predicted[:, None], images.shape[-2:], mode="bicubic", align_corners=False)
        metric = self.model.config.depth_estimation_type == "metric"
        return predicted[:, 0] if metric else -predicted[:, 0]


def stretched(farness: Tensor) -> Tensor:
    """(B, H, W), each map to [0, 1] by its own extremes; a flat one is all 1."""
    far, near = farness.amax((1, 2), keepdim=True), farness.amin((1, 2), keepdim=True)
    return 1 - (far - farness) / (far - near).clamp(min=LEAST_RELIEF)


def load_depth_anything(name: str | Path, file: str | None = None, batch_size: int = 8) -> DepthAnything:
    """A checkpoint of transformers' layout by its hub name or folder, or the authors' own .pth file of V2.

    file: such a file's name in the folder, or in the model on the hub; not needed where `name` is the file itself.
    Raises BadInput, see `checkpoints` and `torch_file`.
    """
    if file is not None or Path(name).expanduser().is_file():
        return _read_file(fetch_file(name, file or ""), batch_size)
    folder = fetch(name)
    model = load_model(DepthAnythingForDepthEstimation, folder, ("depth_anything",))
    return DepthAnything(model, read_preprocessing(folder), batch_size)


def _read_file(file: Path, batch_size: int) -> DepthAnything:
    """The weights alone do not tell relative from metric depth: by its name a metric one is refused."""
    if "metric" in file.name:
        raise BadInput(f"{file} gives metres, by its name; take the folder or hub name of transformers' layout, ...-hf")
    weights = read_weights(file)
    try:
        config = _architecture(weights)
    except KeyError as error:
        raise BadInput(f"{file} is not a checkpoint of Depth Anything V2, Small, Base or Large: no {error}") from error
    model = filled(DepthAnythingForDepthEstimation(config), from_original(weights), file)
    side = config.backbone_config.image_size
    sides = {"height": side, "width": side}
    preprocess = Preprocessing(MEAN, STD, sides, bilinear=False, multiple=config.patch_size, keep_aspect=True)
    return DepthAnything(model, preprocess, batch_size)


def _architecture(weights: Mapping[str, Tensor]) -> DepthAnythingConfig:
    """What shapes tell of a network, and LAYERS; heads are 64 wide in every DINOv2."""
    width, _, patch, _ = weights["pretrained.patch_embed.proj.weight"].shape
    blocks = len({name.split(".")[2] for name in weights if name.startswith("pretrained.blocks.")})
    if blocks not in LAYERS:
        raise KeyError(f"network of {blocks} blocks")
    positions = weights["pretrained.pos_embed"].shape[1] - 1  # the first token is the image's
    backbone = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=width // 64,
        patch_size=patch,
        image_size=patch * math.isqrt(positions),
        out_indices=LAYERS[blocks],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    return DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=width,
        patch_size=patch,
        neck_hidden_sizes=[weights[f"depth_head.projects.{level}.weight"].shape[0] for level in range(4)],
        fusion_hidden_size=weights["depth_head.scratch.layer1_rn.weight"].shape[0],
        head_hidden_size=weights["depth_head.scratch.output_conv2.0.weight"].shape[0],
    )


def from_original(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' weights by the names of transformers' DepthAnythingForDepthEstimation."""
    return unstacked(renamed(weights, STARTS, PARTS), ".attn.qkv.", ".attention.{}_proj.")
