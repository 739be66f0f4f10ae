"""What a policy sees, and how it becomes features: crop, keypoints, linear.

Legend: B batch; O observation steps; H W pixels; S state dimensions; K keypoints; D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from sim2real_aug.policies.encoders import ENCODERS
from sim2real_aug.policies.normalizer import FrameNormalizer


@dataclass(frozen=True)
class Observation:
    """What the policy sees: frames (B, O, H, W, 3) uint8 RGB and states (B, O, S) float32, oldest first."""

    frames: Tensor
    states: Tensor

    def to(self, device: torch.device | str) -> Observation:
        return Observation(self.frames.to(device), self.states.to(device))


def crop(frames: Tensor, size: int, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    """One `size` x `size` window of each frame (B, H, W, 3), and its corners (B, 2) as (left, top).

    At random with a generator, else the centre. Each frame draws its own window, those of one observation too, as
    robomimic's CropRandomizer.
    """
    count, height, width = frames.shape[:3]
    rooms = (height - size, width - size)
    if generator is None:
        top, left = (room // 2 for room in rooms)
        corners = torch.tensor([[left, top]], device=frames.device).expand(count, 2)
        return frames[:, top : top + size, left : left + size], corners
    tops, lefts = (
        torch.randint(room + 1, (count,), generator=generator).to(frames.device) for room in rooms
    )
    along = torch.arange(size, device=frames.device)
    index = torch.arange(count, device=frames.device)[:, None, None]
    windows = frames[index, (tops[:, None] + along)[:, :, None], (lefts[:, None] + along)[:, None, :]]
    return windows, torch.stack([lefts, tops], dim=1)


def in_frame(pixels: Tensor, corners: Tensor, frame_size: int) -> Tensor:
    """Positions (B, K, 2) in pixels of windows as positions in the whole frame, -1 its first and 1 its last pixel.

    A window's pixel j is the frame's pixel corner + j.
    """
    return 2 * (pixels + corners[:, None]) / (frame_size - 1) - 1


class FrameEncoder(nn.Module):
    """Frames to features, through keypoints whose positions are those in the whole frame.

    So a random crop changes what the network sees and not where it says that things are: the agent's position and the
    actions, which a crop doesn't move either, stay in step with the keypoints.
    """

    def __init__(self, encoder: str, keypoints: int, features: int, crop_size: int) -> None:
        super().__init__()
        self.crop_size = crop_size
        self.normalizer = FrameNormalizer()
        self.encoder = ENCODERS[encoder](keypoints)
        self.project = nn.Linear(2 * keypoints, features)

    def forward(self, frames: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, O, H, W, 3) uint8 -> (B, O, D), all frames at once; crops at random with a generator, else the centre."""
        batch, steps, size = frames.shape[:3]
        windows, corners = crop(frames.flatten(0, 1), self.crop_size, generator)
        keypoints = self.encoder(self.normalizer.normalize(windows).permute(0, 3, 1, 2))
        placed = in_frame(keypoints, corners, size)
        return self.project(placed.flatten(1)).unflatten(0, (batch, steps))
