"""What an edit is worth, state by state: the judges' scores, distance from the real look, pose, whose style it has.

Legend: M frames, P photos, S pixels a side, R regions; images (M, S, S, 3) uint8. Distances: lower is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from paired_frames import PairedFrames
from perceptual import Encoder, perceptual_distance
from torch import Tensor

from sim2real_aug.d3po.scores import Conditions, JudgedScores, Scores, SourceGeometry
from sim2real_aug.data.geometry import FrameGeometry
from sim2real_aug.data.regions import REGIONS, region_of
from sim2real_aug.editor.composition import Seen
from sim2real_aug.editor.prompts import photos_in_turn
from sim2real_aug.envs.block_pose import corner_error, read_block_pose
from sim2real_aug.judges.base import Judge
from sim2real_aug.pixels import to_images

Frames = NDArray[np.uint8]
Figures = dict[str, NDArray[np.float64]]  # of each state, (M,)

BATCH = 50
NOT_SEEN = 96.0  # pixels: the error of a pose that cannot be read
DARKEST = 1e-5  # root mean square error below which an image counts as equal


@torch.no_grad()
def judged(
    scorer: JudgedScores, frames: PairedFrames, edits: Frames, covered: NDArray[np.bool_], photos: Frames,
    photos_per_edit: int,
) -> Figures:  # fmt: skip
    """The scores that D3PO lowers, against the photos that each edit took after and the exact source geometry.

    covered: (M, S, S), where edits show a photo's pusher or arm.
    """
    chosen = photos_in_turn(len(photos), len(frames), photos_per_edit)
    geometry = FrameGeometry.measured(frames.flat.labels, frames.flat.depth)
    parts = []
    for start in range(0, len(frames), BATCH):
        rows = slice(start, start + BATCH)
        numbers = chosen[rows]
        source = to_images(frames.flat.images[rows])
        conditions = Conditions(
            source=source,
            photos=to_images(photos[numbers.flatten()]).unflatten(0, numbers.shape),
            photo_masks=torch.zeros(*numbers.shape, *photos.shape[1:3], dtype=torch.bool),
            numbers=np.arange(len(numbers)),
            geometry=SourceGeometry.on(
                torch.device("cpu"), FrameGeometry(geometry.labels[rows], geometry.depth[rows])
            ),
            prompts=Seen(source[:, None], torch.from_numpy(covered[rows])),
        )
        parts.append(scorer(conditions, to_images(edits[rows])[:, None]))
    scores = Scores.join(parts)
    return {
        "structural": scores.structural[:, 0].double().numpy(),
        "semantic": scores.semantic[:, 0].double().numpy(),
    }


def against_real(judge: Judge, frames: PairedFrames, edits: Frames, regions: Sequence[str]) -> Figures:
    """Distance from the real look of the same state inside the edited regions, and inside the block alone.

    rmse: root mean square error of 0..1 pixels; psnr: the same in dB, higher is better; distance: the judge's
    cosine distance, mean over the regions in view. Regions are where the real look has them.
    """
    wanted, block = _labels(regions), REGIONS.index("block")
    figures: Figures = {}
    for suffix, labels in (("", wanted), ("_block", [block])):
        rmse = root_mean_square_error(edits, frames.real.images, np.isin(frames.real.labels, labels))
        figures[f"rmse{suffix}"] = rmse
        figures[f"psnr{suffix}"] = -20 * np.log10(np.maximum(rmse, DARKEST))
        figures[f"distance{suffix}"] = judge_distance(judge, frames, edits, labels)
    return figures


def perceptual(encoder: Encoder, frames: PairedFrames, edits: Frames, regions: Sequence[str]) -> Figures:
    """perceptual: `perceptual_distance` from the real look in all regions at once; a block alone is too small for the
    encoder's layers."""
    inside = np.isin(frames.real.labels, _labels(regions))
    return {"perceptual": perceptual_distance(encoder, edits, frames.real.images, inside)}


def _labels(regions: Sequence[str]) -> list[int]:
    return [REGIONS.index(region_of(phrase)) for phrase in regions]


def root_mean_square_error(edits: Frames, real: Frames, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Over the pixels (M, S, S) `inside` and the colours, images in 0..1: (M,); 0 where nothing is inside."""
    squared = ((edits.astype(np.float64) - real) / 255) ** 2
    count = inside.sum((1, 2))
    return np.asarray(np.sqrt((squared.mean(-1) * inside).sum((1, 2)) / np.maximum(count, 1)))


@torch.no_grad()
def judge_distance(
    judge: Judge, frames: PairedFrames, edits: Frames, labels: Sequence[int]
) -> NDArray[np.float64]:
    """Cosine distance of the embeddings of edit and real look, mean over the regions in view: (M,)."""
    total, seen = np.zeros(len(frames)), np.zeros(len(frames))
    for label in labels:
        masks = torch.from_numpy(frames.real.labels == label)
        found, truth = (_embed(judge, images, masks) for images in (edits, frames.real.images))
        present = masks.flatten(1).any(1).numpy()
        total += np.where(present, 1 - torch.cosine_similarity(found, truth).double().numpy(), 0)
        seen += present
    return total / np.maximum(seen, 1)


def block_shown(frames: PairedFrames, covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which states show at least half of their block, (M,), with a pusher or arm where `covered` (M, S, S) says."""
    block = frames.flat.labels == REGIONS.index("block")
    return np.asarray((block & ~covered).sum((1, 2)) >= 0.5 * block.sum((1, 2)))


@torch.no_grad()
def pose_errors(judge: Judge, edits: Frames, states: NDArray[np.float32]) -> NDArray[np.float64]:
    """`corner_error` of the block's pose as the judge's mask of each edit gives it back, (M,); one NaN of no edits."""
    if not len(edits):
        return np.full(1, np.nan)
    errors = np.full(len(edits), NOT_SEEN)
    for start in range(0, len(edits), BATCH):
        images = to_images(edits[start : start + BATCH])
        blocks, pushers = (judge.segment(images, region).numpy() for region in ("block", "pusher"))
        for index, masks in enumerate(zip(blocks, pushers, strict=True), start):
            pose = read_block_pose(*masks)
            if pose is not None:
                errors[index] = corner_error(pose, states[index, 2:], edits.shape[1])
    return errors


@torch.no_grad()
def nearer_own(judge: Judge, edits: Frames, own: Frames, other: Frames) -> NDArray[np.float64]:
    """1 where an edit's whole frame is more like its own photos than like another scene's, on average; else 0: (M,)."""
    seen, mine, theirs = (_embed(judge, images) for images in (edits, own, other))
    return ((seen @ mine.T).mean(1) > (seen @ theirs.T).mean(1)).double().numpy()


def _embed(judge: Judge, images: Frames, masks: Tensor | None = None) -> Tensor:
    masks = torch.ones(images.shape[:3], dtype=torch.bool) if masks is None else masks
    rows = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
    return torch.cat([judge.embed(to_images(images[part]), masks[part]) for part in rows])
