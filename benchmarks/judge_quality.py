"""How well the judge sees path-traced scenes, none of which it was trained on: regions, depth and style.

    python benchmarks/judge_quality.py [--judge DIR] [--frames 50] [--photos DIR] [--json OUT.json] [--picture OUT.png]

Block masks (intersection over union) and depth are measured on frames of the development scenes. What is asked is the
mean over the frames, to which a block that an arm nearly hides counts as much as a whole one. Depth: Goodman and
Kruskal's gamma, the rank correlation over pairs of pixels whose true depths differ. Nine tenths of a frame is table
at one depth, and Spearman's coefficient counts every pair of these as an error unless the judge gives them one value
exactly: it stands beside gamma, with the most that it could be. Style: a frame's embedding is compared with that of
one frame of each of all 8 scenes, another pose in each; nearest must be its own scene. Every other scene's frames are
only what the development scenes' must not be mistaken for: no figure is read off the scenes for claims.

Prompts: SETS times PHOTOS photos of each development scene are taken apart as the judge reads them and put together
as the frames' states have it; the root mean squared error is from the states' own look.

Photos: the block's masks in a folder of real ones that has them beside, as docs/data.md says.

Legend: M frames of a scene, S scenes, H W pixels, D embedding.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paired_frames import SIZE, Drawn, PairedFrames, domains_of, paired_frames
from torch import Tensor

from sim2real_aug.augment.gate import region_iou
from sim2real_aug.data import load_photos
from sim2real_aug.data.regions import REGIONS
from sim2real_aug.editor.composition import label_regions, take_apart
from sim2real_aug.envs.photos import PhotosSettings, take_photos
from sim2real_aug.judges import load_judge
from sim2real_aug.judges.base import Judge
from sim2real_aug.pixels import to_images
from sim2real_aug.report.pictures import grid
from sim2real_aug.seeding import derive_seed, numpy_generator

LEAST_IOU, LEAST_GAMMA, LEAST_RETRIEVAL = 0.9, 0.9, 0.95
SAME_DEPTH = 0.5  # window units: closer depths are one depth
STRIDE = 2  # of the pixels whose pairs are compared
COLORS = np.array([(225, 225, 225), (60, 60, 60), (130, 200, 130), (240, 110, 40)], np.uint8)
ROWS = 4
SETS, PHOTOS = 4, 8


def gamma(truth: NDArray[Any], read: NDArray[Any], same: float) -> float:
    """(concordant - discordant) / (concordant + discordant) over the pairs whose truths differ by more than `same`.

    truth, read: (n,). A pair that `read` ties counts as neither.
    """
    ahead = truth[:, None] - truth > same  # each pair once
    order = np.sign(read[:, None] - read)[ahead]
    return float(order.sum() / max(np.abs(order).sum(), 1))


def ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks of values (n,); equal ones share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def spearman(truth: NDArray[Any], read: NDArray[Any]) -> float:
    return float(np.corrcoef(ranks(truth), ranks(read))[0, 1])


def most_spearman(truth: NDArray[Any]) -> float:
    """The coefficient of a reading that orders `truth` perfectly and never gives one value twice."""
    order = np.lexsort((np.arange(len(truth)), truth))
    read = np.empty(len(truth))
    read[order] = np.arange(len(truth))
    return spearman(truth, read)


@torch.no_grad()
def geometry(judge: Judge, frames: Drawn) -> dict[str, NDArray[np.float64]]:
    """Figures of each frame, (M,) each: IoU of every region that is in view (else NaN), agreement of depth; and of
    the block (1,) over the pixels of all frames together, as PASCAL VOC has it."""
    images = to_images(frames.images)
    figures: dict[str, NDArray[np.float64]] = {}
    for index, region in enumerate(REGIONS):
        found, truth = judge.segment(images, region).numpy(), frames.labels == index
        both, either = (found & truth).sum((1, 2)), (found | truth).sum((1, 2))
        figures[f"{region}_iou"] = np.where(truth.any((1, 2)), both / np.maximum(either, 1), np.nan)
        if region == "block":
            figures["block_iou_together"] = np.array([both.sum() / max(either.sum(), 1)])
    pixels = (slice(None), slice(None, None, STRIDE), slice(None, None, STRIDE))
    truths = np.round(frames.depth[pixels].reshape(len(frames), -1) / SAME_DEPTH) * SAME_DEPTH
    readings = judge.depth(images).numpy()[pixels].reshape(len(frames), -1)
    pairs = list(zip(truths, readings, strict=True))
    figures["depth_gamma"] = np.array([gamma(*pair, same=SAME_DEPTH) for pair in pairs])
    figures["depth_spearman"] = np.array([spearman(*pair) for pair in pairs])
    figures["depth_spearman_at_most"] = np.array([most_spearman(truth) for truth in truths])
    return figures


@torch.no_grad()
def embeddings(judge: Judge, images: NDArray[np.uint8]) -> Tensor:
    """Of whole frames, (M, D)."""
    return judge.embed(to_images(images), torch.ones(images.shape[:3], dtype=torch.bool))


def retrieved(seen: Tensor, own: int, seed: int) -> NDArray[np.int64]:
    """The scene that each frame of scene `own` is nearest to, (M,); seen: embeddings (S, M, D).

    Each frame has a draw of its own: one other frame of every scene, of its own scene never itself.
    """
    scenes, count, _ = seen.shape
    rng = numpy_generator(seed, "other frames", own)
    others = (np.arange(count)[:, None] + rng.integers(1, count, (count, scenes))) % count
    shown = seen[torch.arange(scenes), torch.from_numpy(others)]  # (M, S, D)
    nearest = torch.einsum("md,msd->ms", seen[own], shown).argmax(1)
    return np.asarray(nearest.numpy())


def measure(judge: Judge, frames: dict[str, Drawn], scenes: list[str], seed: int) -> dict[str, Any]:
    """Means over the frames of each of `scenes`, and what is retrieved instead of them among all of `frames`."""
    names = list(frames)
    seen = torch.stack([embeddings(judge, drawn.images) for drawn in frames.values()])
    result: dict[str, Any] = {}
    for scene in scenes:
        found = retrieved(seen, names.index(scene), seed)
        means = {
            name: round(float(np.nanmean(values)), 4)
            for name, values in geometry(judge, frames[scene]).items()
        }
        counts = np.bincount(found, minlength=len(names))
        taken_for = {names[i]: int(counts[i]) for i in np.argsort(-counts) if counts[i] and names[i] != scene}
        share = round(float(counts[names.index(scene)] / len(found)), 4)
        result[scene] = {**means, "retrieval": share, "taken_for": taken_for}
    return result


def photo_sets(domain: str, seed: int, cache: Path) -> list[Tensor]:
    """SETS times PHOTOS photos of a domain, (PHOTOS, 3, SIZE, SIZE) each; taken once, then read from `cache`."""
    folder = cache / f"photos-{domain.replace('/', '-')}-{seed:016x}"
    take_photos(folder, PhotosSettings(domain=domain, count=SETS * PHOTOS, seed=seed))
    return list(to_images(load_photos(folder, SIZE).images).split(PHOTOS))


@torch.no_grad()
def prompt_errors(judge: Judge, sets: list[Tensor], frames: PairedFrames) -> list[float]:
    """RMSE of prompts of each set of photos, in each photo's light, from the states' own look."""
    labels, truth = torch.from_numpy(frames.flat.labels).long(), to_images(frames.real.images)
    errors = []
    for photos in sets:
        bench = take_apart(photos, label_regions(judge, photos))
        chosen = torch.arange(len(photos)).repeat_interleave(len(frames))
        seen = bench.seen_as(labels.repeat(len(photos), 1, 1), chosen).images
        squared = (seen.unflatten(0, (len(photos), -1)) - truth).square()
        errors.append(round(float(squared.mean().sqrt()), 4))
    return errors


@torch.no_grad()
def found_in_photos(judge: Judge, folder: Path) -> dict[str, float]:
    """IoU of the block in each photo that has a mask."""
    photos = load_photos(folder)
    masks = torch.from_numpy(photos.mask_of_each)
    ious = region_iou(judge.segment(to_images(photos.images), "block"), masks).tolist()
    found = zip(photos.names, ious, masks, strict=True)
    return {name: round(iou, 4) for name, iou, mask in found if mask.any()}


def summarise(scenes: dict[str, Any]) -> dict[str, Any]:
    """Means over the scenes, the worst one, and whether every scene passes."""
    least = {"block_iou": LEAST_IOU, "depth_gamma": LEAST_GAMMA, "retrieval": LEAST_RETRIEVAL}
    figures = {name: {scene: values[name] for scene, values in scenes.items()} for name in least}
    return {
        name: {
            "mean": round(float(np.mean(list(by_scene.values()))), 4),
            "worst": min(by_scene, key=lambda scene: by_scene[scene]),
            "least": min(by_scene.values()),
            "asked": least[name],
            "ok": min(by_scene.values()) >= least[name],
        }
        for name, by_scene in figures.items()
    }


def grey(plane: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of values (H, W) in [0, 1]."""
    return np.repeat((255 * plane).astype(np.uint8)[..., None], 3, axis=2)


def draw_worst(judge: Judge, frames: dict[str, Drawn], scenes: list[str], path: Path) -> None:
    """The frames whose block is found worst, one row each: frame, true and found regions, true and read depth."""
    rows = []
    for scene in scenes:
        drawn = frames[scene]
        for index in np.argsort(geometry(judge, drawn)["block_iou"])[:ROWS]:
            image = to_images(drawn.images[index : index + 1])
            found = np.full(drawn.labels.shape[1:], REGIONS.index("table"))
            for label, region in enumerate(REGIONS):
                found[judge.segment(image, region)[0].numpy()] = label
            depth = drawn.depth[index]
            true_depth = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-6)
            depths = [grey(plane) for plane in (true_depth, judge.depth(image)[0].numpy())]
            rows.append([drawn.images[index], COLORS[drawn.labels[index]], COLORS[found], *depths])
    grid(rows, path, ["frame", "true regions", "found regions", "true depth", "judge's depth"], cell=192)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judge", type=Path, help="folder of a compact judge; the one that ships")
    parser.add_argument("--frames", type=int, default=50, help="of each scene")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("build/benchmark-frames"))
    parser.add_argument("--photos", type=Path, help="folder of real photos with masks beside them")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="draw the frames that are read worst")
    arguments = parser.parse_args()
    judge, scenes = load_judge(arguments.judge), domains_of("development")
    seed = derive_seed(arguments.seed, "judge quality")
    domains = [*scenes, *domains_of("claims")]
    pairs = {name: paired_frames(name, arguments.frames, seed, arguments.cache) for name in domains}
    frames = {name: pair.real for name, pair in pairs.items()}
    by_scene = measure(judge, frames, scenes, seed)
    for name in scenes:
        errors = prompt_errors(judge, photo_sets(name, seed, arguments.cache), pairs[name])
        by_scene[name] |= {"prompt_rmse": round(float(np.mean(errors)), 4), "prompt_rmse_of_sets": errors}
    summary = summarise(by_scene)
    result = {"frames_per_scene": arguments.frames, "scenes": by_scene, "summary": summary}
    result["prompt_rmse"] = round(float(np.mean([figures["prompt_rmse"] for figures in by_scene.values()])), 4)
    if arguments.photos is not None:
        ious = found_in_photos(judge, arguments.photos)
        result["photos"] = {"block_iou": round(float(np.mean(list(ious.values()))), 4), "of_each": ious}
    if arguments.picture is not None:
        draw_worst(judge, frames, scenes, arguments.picture)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")
    return 0 if all(figure["ok"] for figure in summary.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
