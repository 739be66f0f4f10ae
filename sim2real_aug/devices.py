"""Where the networks run."""

from __future__ import annotations

import torch

from sim2real_aug.errors import BadInput


def resolve_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises BadInput for a device that this machine does not have."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BadInput(f"device '{name}' is not available here; use auto or cpu") from error
    return torch.device(name)
