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

from sim2real_aug.editor.composition import label_regions, take_apart
from sim2real_aug.editor.editor import to_images
from sim2real_aug.judges.base import SegmentationJudge
from sim2real_aug.pretrain.frames import ExampleIndex, FrameGroups
from sim2real_aug.progress import progress

PHOTO_CHANCE = 0.7  # of each photo of a bench but the first


@dataclass(frozen=True)
class PromptSource:
    """frames, and the regions (G, V, K, S, S) uint8 that the judge finds in them."""

    frames: FrameGroups
    regions: Tensor

    def composed(self, index: ExampleIndex, rng: np.random.Generator) -> Tensor:
        """Composed visual prompts (B, 3, S, S) of the examples, each of one to K - 1 photos, never of its target."""
        return torch.cat([self._composed(index, number, rng) for number in range(len(index.groups))])

    def _composed(self, index: ExampleIndex, number: int, rng: np.random.Generator) -> Tensor:
        group, source, look, state = (
            int(part[number]) for part in (index.groups, index.source_looks, index.target_looks, index.states)
        )
        others = [int(index.style_states[number])]
        others += [k for k in range(self.regions.shape[2]) if k not in (state, *others) and rng.random() < PHOTO_CHANCE]
        bench = take_apart(to_images(self.frames.images[group, look, others]), self.regions[group, look, others])
        layout = torch.from_numpy(self.frames.labels[group, source, state])
        return bench.seen_as(layout[None], torch.zeros(1, dtype=torch.long))


@torch.no_grad()
def read_regions(judge: SegmentationJudge, frames: FrameGroups, path: Path, batch_size: int = 64) -> Tensor:
    """What the judge sees in all frames, (G, V, K, S, S) uint8; kept at `path` for a resumed training."""
    if path.exists():
        kept: Tensor = torch.load(path, weights_only=True)
        return kept
    images = frames.images.reshape(-1, *frames.images.shape[3:])
    parts = []
    with progress("reading regions", len(images), unit="frames") as bar:
        for start in range(0, len(images), batch_size):
            parts.append(label_regions(judge, to_images(images[start : start + batch_size])).to(torch.uint8))
            bar.advance(len(parts[-1]))
    regions = torch.cat(parts).unflatten(0, frames.images.shape[:3])
    torch.save(regions, path)
    return regions
