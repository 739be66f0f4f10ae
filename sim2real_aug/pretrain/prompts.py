"""The visual prompts that the editor's pretraining shows: composed of photos of other states.

Regions of the photos are the judge's, as they are where an editor is used: what it overlooks stays on the plates, and
the editor learns to leave it out.

Legend: G groups, V looks, K states of a group; B examples; S pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sim2real_aug.editor.composition import label_regions, taken_apart
from sim2real_aug.judges.compact import CompactJudge
from sim2real_aug.pixels import to_images
from sim2real_aug.pretrain.frames import ExampleIndex, FrameGroups, of_all_frames

MOST_PHOTOS = 5  # of a bench; taking more apart would take as long as the network's step
PHOTO_CHANCE = 0.7  # of each photo of a bench but the first


@dataclass(frozen=True)
class PromptSource:
    """frames, and the regions (G, V, K, S, S) uint8 that the judge finds in them."""

    frames: FrameGroups
    regions: Tensor

    def composed(self, index: ExampleIndex, rng: np.random.Generator, device: torch.device) -> Tensor:
        """Composed visual prompts (B, 3, S, S) of the examples, each of one to MOST_PHOTOS, never of its target."""
        count, states = len(index.groups), self.regions.shape[2]
        beside = np.arange(min(states, MOST_PHOTOS))
        order = (index.style_states[:, None] + beside) % states  # the first is the photo that is followed
        used = (rng.random(order.shape) < PHOTO_CHANCE) & (order != index.states[:, None])
        used[:, 0] = True
        photos = (index.groups[:, None], index.target_looks[:, None], order)
        images = to_images(self.frames.images[photos].reshape(-1, *self.frames.images.shape[-3:]), device)
        images = images.unflatten(0, order.shape)
        bench = taken_apart(images, self.regions[photos].to(device), torch.from_numpy(used).to(device))
        layouts = torch.from_numpy(self.frames.labels[index.groups, index.source_looks, index.states]).to(device)
        return bench.seen_as(layouts, torch.arange(count, device=device) * order.shape[1]).images


def read_regions(judge: CompactJudge, frames: FrameGroups, path: Path) -> Tensor:
    """What the judge sees in all frames, (G, V, K, S, S) uint8; kept at `path` for a resumed training."""
    device = next(judge.parameters()).device
    return of_all_frames(frames, path, "reading regions", lambda images: _labels(judge, to_images(images, device)))


def _labels(judge: CompactJudge, images: Tensor) -> Tensor:
    return label_regions(judge, images).to(torch.uint8)
