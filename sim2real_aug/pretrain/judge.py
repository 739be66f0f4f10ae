"""Pretraining of the compact judge on exact labels and depth, and on pairs of frames of one scene.

Loss: cross-entropy of the regions + L1 of the relative depth + InfoNCE (van den Oord et al. 2018) of the masked
regions' embeddings: the same region of two states in one scene against the other scenes of the batch. Regions and
depth are read off recoloured frames; embeddings are of the frames as they are, for colour tells scenes apart.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sim2real_aug.data.regions import REGIONS, relative_depth
from sim2real_aug.judges.compact import CompactJudge
from sim2real_aug.pixels import to_images
from sim2real_aug.pretrain.frames import FrameGroups
from sim2real_aug.pretrain.loop import Draw, Loss

TEMPERATURE = 0.1
CLASS_WEIGHTS = (0.3, 1.0, 1.0, 2.0)
WHOLE_FRAME = len(REGIONS)


def region_masks(labels: NDArray[np.uint8], regions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The mask of one region a frame, (B, H, W); WHOLE_FRAME is all of it."""
    return (labels == regions[:, None, None]) | (regions == WHOLE_FRAME)[:, None, None]


def recolor(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Frames (B, 3, H, W) in [0, 1], each with exchanged colour channels, another gain of each, another gamma."""
    count = len(images)
    channels = torch.from_numpy(np.argsort(rng.random((count, 3)), axis=1)).to(images.device)
    gain = torch.from_numpy(rng.uniform(0.75, 1.2, (count, 3))).to(images)[:, :, None, None]
    gamma = torch.from_numpy(np.exp(rng.uniform(-0.35, 0.35, count))).to(images)[:, None, None, None]
    exchanged = images.gather(1, channels[:, :, None, None].expand_as(images))
    return (gain * exchanged.clamp(min=1e-4) ** gamma).clamp(0, 1)


def judge_loss(judge: CompactJudge, frames: FrameGroups, batch_size: int, device: torch.device) -> Loss:
    """The loss of two states of `batch_size` scenes."""

    flat = batch_size // 4

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        rng = draw.numpy
        groups = rng.integers(len(frames), size=batch_size)
        looks = rng.integers(1, frames.images.shape[1], size=batch_size)
        looks[:flat] = 0
        states = np.argsort(rng.random((batch_size, frames.images.shape[2])), axis=1)[:, :2].T
        pick = (np.tile(groups, 2), np.tile(looks, 2), states.reshape(-1))
        images, labels = to_images(frames.images[pick], device), frames.labels[pick]
        drawn = torch.from_numpy(np.tile(looks > 0, 2)).to(device)[:, None, None, None]
        logits, depth = judge.read(torch.where(drawn, recolor(images, rng), images))
        target = torch.from_numpy(relative_depth(frames.depth[pick], labels)).to(device)
        weights = torch.tensor(CLASS_WEIGHTS, device=device)
        regions = F.cross_entropy(logits, torch.from_numpy(labels).long().to(device), weights)
        masks = region_masks(labels, np.full(2 * batch_size, rng.integers(WHOLE_FRAME + 1)))
        first, second = judge.embed(images, torch.from_numpy(masks).to(device)).chunk(2)
        # All flat frames are one scene: one of them takes part.
        contrast, accuracy = info_nce(first[flat - 1 :], second[flat - 1 :])
        depth_error = F.l1_loss(depth, target)
        figures = {"regions": regions, "depth_l1": depth_error, "contrast": contrast, "retrieval": accuracy}
        return regions + depth_error + 0.3 * contrast, figures

    return loss


def info_nce(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """InfoNCE of embeddings (B, D) of two frames of each scene, and the share of nearest neighbours that are right.

    Only scenes whose region is seen in both frames count.
    """
    seen = (first.norm(dim=1) > 0) & (second.norm(dim=1) > 0)
    if seen.sum() < 2:
        return first.sum() * 0, first.new_tensor(1.0)
    similarity = first[seen] @ second[seen].T / TEMPERATURE
    target = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(similarity, target), (similarity.argmax(1) == target).float().mean()
