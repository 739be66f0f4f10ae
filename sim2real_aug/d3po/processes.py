"""One run on several processes: who does what, and how the parts come together.

    accelerate launch --num_processes 2 -m sim2real_aug train-editor DATASET.zarr --photos DIR --out RUN    # GPUs
    torchrun --nproc_per_node 2 -m sim2real_aug train-editor DATASET.zarr ... device=cpu                    # CPUs

The conditions of a round and the held-out frames are dealt out, the gradients are summed before each optimiser
step, and the main process alone writes. Every draw names its place, so that a process makes of a condition what
any other would: the number of processes changes the metrics by rounding only. There is no wrapper around the
network, whose adapter is switched off and on between passes; the gradient is one vector, summed once a step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from numpy.typing import NDArray
from torch import Tensor, nn

from sim2real_aug.devices import resolve_device
from sim2real_aug.errors import BadInput

SEVERAL = ("auto", "cpu", "cuda")


def join_processes(device: str) -> torch.device:
    """Meet the other processes, if there are any; returns this one's device.

    Raises BadInput for a device that this machine does not have, or for one by number shared by several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        PartialState(cpu=True)
        return resolve_device(device)
    if device not in SEVERAL:
        raise BadInput(f"with several processes device must be one of {', '.join(SEVERAL)}; got '{device}'")
    on_cpu = resolve_device(device).type == "cpu"
    return torch.device(PartialState(cpu=on_cpu).device)


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return bool(PartialState().is_main_process)


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block before the others begin it."""
    with PartialState().main_process_first():
        yield


def wait_for_all() -> None:
    PartialState().wait_for_everyone()


def count_processes() -> int:
    return int(PartialState().num_processes)


def require_work(**counts: int) -> None:
    """Raises BadInput where there is less of something than there are processes to share it."""
    processes = PartialState().num_processes
    for name, count in counts.items():
        if count < processes:
            raise BadInput(f"{name} must be at least the number of processes, {processes}; got {count}")


def own(count: int) -> NDArray[np.int64]:
    """Which of `count` pieces of work are this process's: every n-th."""
    state = PartialState()
    return np.arange(state.process_index, count, state.num_processes)


def collect(part: Tensor, count: int) -> Tensor:
    """(count, ...) on every process, from each process's rows (len(own(count)), ...)."""
    whole = part.new_zeros((count, *part.shape[1:]))
    whole[torch.from_numpy(own(count)).to(part.device)] = part
    return summed(whole)


def summed(value: Tensor) -> Tensor:
    """The sum of `value` over the processes."""
    return value if PartialState().num_processes == 1 else reduce(value, reduction="sum")


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over the processes; none at all counts as zero."""
    if PartialState().num_processes == 1:
        return
    moved = list(parameters)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in moved]
    vector = summed(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, gradient in zip(moved, vector.split([p.numel() for p in moved]), strict=True):
        parameter.grad = gradient.view_as(parameter)
