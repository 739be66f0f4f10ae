"""Pretraining of the compact judge's two networks, on exact labels and depth and on pairs of frames of one scene.

The U-Net: cross-entropy of the regions + L1 of the relative depth, on frames in other colours and light and from
elsewhere (`variation.py`).
The tower: InfoNCE (van den Oord et al. 2018) of the masked regions' embeddings, the same region of two states in one
scene against the other scenes of the batch, on frames as they are, for colour tells scenes apart.
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
from sim2real_aug.pretrain.variation import vary

TEMPERATURE = 0.1
CLASS_WEIGHTS = (0.6, 1.0, 1.0, 1.5)  # greater ones widen rare regions by a pixel, a sixth of a block's area
WHOLE_FRAME = len(REGIONS)
FLAT_SHARE = 0.25  # of the frames


def region_masks(labels: NDArray[np.uint8], regions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The mask of one region a frame, (B, H, W); WHOLE_FRAME is all of it."""
    return (labels == regions[:, None, None]) | (regions == WHOLE_FRAME)[:, None, None]


def reading_loss(judge: CompactJudge, frames: FrameGroups, batch_size: int, device: torch.device) -> Loss:
    """The loss of the U-Net on `batch_size` frames, the first of them in the flat look, as the simulator has them."""
    looks, states = frames.images.shape[1:3]
    flat = int(FLAT_SHARE * batch_size)

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        rng = draw.numpy
        look = rng.integers(1, looks, batch_size)
        look[:flat] = 0
        pick = (rng.integers(len(frames), size=batch_size), look, rng.integers(states, size=batch_size))
        images = to_images(frames.images[pick], device)
        labels = torch.from_numpy(frames.labels[pick]).long().to(device)
        depth = torch.from_numpy(relative_depth(frames.depth[pick], frames.labels[pick])).to(device)
        varied = vary(images[flat:], labels[flat:], depth[flat:], rng)
        images, labels, depth = (
            torch.cat([own[:flat], other])
            for own, other in zip((images, labels, depth), varied, strict=True)
        )
        logits, read = judge.read(images)
        weights = torch.tensor(CLASS_WEIGHTS, device=device)
        regions, depth_error = F.cross_entropy(logits, labels, weights), F.l1_loss(read, depth)
        return regions + depth_error, {"regions": regions, "depth_l1": depth_error}

    return loss


def embedding_loss(judge: CompactJudge, frames: FrameGroups, batch_size: int, device: torch.device) -> Loss:
    """The loss of the tower on two states of `batch_size` scenes, one of them the flat look."""
    looks, states = frames.images.shape[1:3]

    def loss(draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        rng = draw.numpy
        groups, look = rng.integers(len(frames), size=batch_size), rng.integers(1, looks, size=batch_size)
        look[0] = 0
        pair = np.argsort(rng.random((batch_size, states)), axis=1)[:, :2].T
        pick = (np.tile(groups, 2), np.tile(look, 2), pair.reshape(-1))
        regions = np.full(2 * batch_size, rng.integers(WHOLE_FRAME + 1))
        masks = torch.from_numpy(region_masks(frames.labels[pick], regions)).to(device)
        first, second = judge.embed(to_images(frames.images[pick], device), masks).chunk(2)
        contrast, accuracy = info_nce(first, second)
        return contrast, {"contrast": contrast, "retrieval": accuracy}

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
