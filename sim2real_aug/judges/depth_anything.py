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

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DepthAnythingForDepthEstimation

from sim2real_aug.judges.checkpoints import fetch, in_batches, load_model
from sim2real_aug.judges.preprocessing import Preprocessing, read_preprocessing

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


def load_depth_anything(name: str | Path, batch_size: int = 8) -> DepthAnything:
    """A checkpoint by its hub name or folder. Raises BadInput, see `checkpoints`."""
    folder = fetch(name)
    model = load_model(DepthAnythingForDepthEstimation, folder, ("depth_anything",))
    return DepthAnything(model, read_preprocessing(folder), batch_size)
