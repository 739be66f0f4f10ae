"""Colour jitter against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch

from sim2real_aug.policies.jitter import brightness, contrast, hue, jitter, saturation, sharpness

RED = torch.tensor([1.0, 0.0, 0.0])
FACTOR = torch.tensor(0.5)


def picture(*colors: list[float]) -> torch.Tensor:
    """One window of one frame, the colours side by side: (1, 1, 1, W, 3)."""
    return torch.tensor(colors)[None, None, None]


def test_each_by_hand() -> None:
    grey_of_red = 0.299
    assert brightness(picture([0.4, 0.2, 0.0]), FACTOR).flatten().tolist() == pytest.approx([0.2, 0.1, 0.0])
    red = saturation(picture([1.0, 0, 0]), FACTOR).flatten()
    assert red.tolist() == pytest.approx([0.5 + grey_of_red / 2, grey_of_red / 2, grey_of_red / 2])
    black_and_white = contrast(picture([0.0, 0, 0], [1.0, 1, 1]), FACTOR)
    assert black_and_white[0, 0, 0, :, 0].tolist() == pytest.approx([0.25, 0.75])


def test_a_third_of_a_turn_makes_red_green_and_greys_stay() -> None:
    turned = hue(picture([1.0, 0, 0], [0.3, 0.3, 0.3]), torch.tensor(1 / 3))
    assert turned[0, 0, 0].flatten().tolist() == pytest.approx([0, 1, 0, 0.3, 0.3, 0.3], abs=1e-6)


def test_sharpness_by_hand() -> None:
    dot = torch.zeros(1, 1, 5, 5, 3)
    dot[0, 0, 2, 2] = 1
    soft = sharpness(dot, torch.tensor(0.0))[0, 0, ..., 0]
    assert soft[2, 2].item() == pytest.approx(5 / 13)
    assert soft[1, 1].item() == pytest.approx(1 / 13)
    torch.testing.assert_close(sharpness(dot, torch.tensor(1.0)), dot)


def test_frames_of_a_window_change_alike_and_a_seed_gives_the_same() -> None:
    frames = torch.randint(0, 256, (6, 1, 8, 8, 3), dtype=torch.uint8).expand(6, 2, 8, 8, 3)
    once, again = (jitter(frames, torch.Generator().manual_seed(3)) for _ in range(2))
    assert once.dtype == torch.uint8
    assert torch.equal(once, again)
    assert torch.equal(once[:, 0], once[:, 1])
    assert not torch.equal(once, frames)
    assert len({tuple(window.flatten().tolist()) for window in once}) == 6
