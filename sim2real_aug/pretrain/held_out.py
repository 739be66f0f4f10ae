"""How good the pretrained editor and judge are on scenes of the `randomized` domain that training could not draw.

Legend: M scenes, 2 states each: the first is edited from its flat look, the second is the visual prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hydra.utils import get_method
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from sim2real_aug.augment.gate import region_iou
from sim2real_aug.data.regions import REGIONS, relative_depth
from sim2real_aug.editor.composition import label_regions, take_apart
from sim2real_aug.editor.editor import Editor
from sim2real_aug.judges.compact import CompactJudge
from sim2real_aug.pixels import to_images
from sim2real_aug.pretrain.frames import sample_states
from sim2real_aug.seeding import numpy_generator, torch_generator


@dataclass(frozen=True)
class HeldOutScenes:
    """source, target, prompt (M, 3, H, W) in [0, 1]; labels and source_labels (M, H, W) uint8; depth (M, H, W) of
    the target, relative; photos (P, H, W, 3) uint8 of the sample scene."""

    source: Tensor
    target: Tensor
    prompt: Tensor
    labels: NDArray[np.uint8]
    source_labels: NDArray[np.uint8]
    depth: NDArray[np.float32]
    photos: NDArray[np.uint8]


def draw_held_out(config: DictConfig) -> HeldOutScenes:
    make_renderer, size = get_method(config.frames.renderer), config.frames.image_size
    rng = numpy_generator(config.seed, "held-out states")
    flat = make_renderer("flat")
    sources, targets, prompts = [], [], []
    for number in range(config.held_out.scenes):
        look = make_renderer(f"randomized/{config.held_out.first_scene + number}")
        edited, shown = sample_states(rng, 2)
        sources.append(flat.render(edited, size))
        targets.append(look.render(edited, size))
        prompts.append(look.render(shown, size).image)
    sample_scene = make_renderer(f"randomized/{config.held_out.photo_scene}")
    photos = [sample_scene.render(state, size).image for state in sample_states(rng, config.held_out.photos)]
    labels = np.stack([drawn.labels for drawn in targets])
    distance = np.stack([drawn.depth / drawn.depth.max() for drawn in targets])
    return HeldOutScenes(
        to_images(np.stack([drawn.image for drawn in sources])),
        to_images(np.stack([drawn.image for drawn in targets])),
        to_images(np.stack(prompts)),
        labels,
        np.stack([drawn.labels for drawn in sources]),
        relative_depth(distance, labels),
        np.stack(photos),
    )


@torch.no_grad()
def measure(editor: Editor, judge: CompactJudge, held_out: HeldOutScenes) -> dict[str, Any]:
    """PSNR in dB (higher is better), mask IoU, rates in [0, 1]; means over the held-out scenes."""
    device = editor.device
    source, target, prompt = (t.to(device) for t in (held_out.source, held_out.target, held_out.prompt))
    noise = editor.initial_latents(1, torch_generator("held-out noise"), source.shape[-1])
    shown = _composed(judge, held_out).to(device) if editor.composes else prompt
    edit = editor.edit(source, shown, noise.expand(len(source), -1, -1, -1))
    rebuilt = editor.decode(editor.encode_images(target) * editor.vae.config.scaling_factor)
    block, source_block = (
        torch.from_numpy(labels == REGIONS.index("block")).to(device)
        for labels in (held_out.labels, held_out.source_labels)
    )
    depth_error = (judge.depth(target) - torch.from_numpy(held_out.depth).to(device)).abs().mean()
    return {
        "autoencoder": {"psnr": mean_psnr(rebuilt, target)},
        "judge": {
            "block_iou": mean_iou(judge.segment(target, "block"), block),
            "block_iou_flat": mean_iou(judge.segment(source, "block"), source_block),
            "depth_l1": round(depth_error.item(), 4),
            "scene_retrieval": retrieval(judge, target, prompt),
        },
        "editor": {
            "psnr": mean_psnr(edit, target),
            "psnr_unedited": mean_psnr(source, target),
            "block_iou": mean_iou(judge.segment(edit, "block"), block),
            "scene_retrieval": retrieval(judge, edit, prompt),
            "scene_retrieval_unedited": retrieval(judge, source, prompt),
        },
    }


def _composed(judge: CompactJudge, held_out: HeldOutScenes) -> Tensor:
    """The visual prompts that a Composer makes of one photo a scene, (M, 3, H, W)."""
    device = next(judge.parameters()).device
    photos, layouts = held_out.prompt.to(device), torch.from_numpy(held_out.source_labels).to(device)
    first = torch.zeros(1, dtype=torch.long, device=device)
    benches = [take_apart(photo, label_regions(judge, photo)) for photo in photos.split(1)]
    seen = [bench.seen_as(layout, first) for bench, layout in zip(benches, layouts.split(1), strict=True)]
    return torch.cat([each.images for each in seen])


def mean_psnr(images: Tensor, target: Tensor) -> float:
    """Mean over the images of the peak signal-to-noise ratio, in dB."""
    error = (images - target).square().mean((1, 2, 3)).clamp(min=1e-10)
    return round((-10 * error.log10()).mean().item(), 2)


def mean_iou(masks: Tensor, target: Tensor) -> float:
    return round(region_iou(masks, target).mean().item(), 4)


def retrieval(judge: CompactJudge, images: Tensor, prompts: Tensor) -> float:
    """Share of images whose nearest visual prompt, by embedding of the whole frame, is their own scene's."""
    whole = torch.ones(images.shape[0], *images.shape[2:], dtype=torch.bool, device=images.device)
    nearest = (judge.embed(images, whole) @ judge.embed(prompts, whole).T).argmax(1)
    return round((nearest == torch.arange(len(images), device=images.device)).float().mean().item(), 4)
