"""Where the networks run, in which precision, and what is said where their memory ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput, Fault, unknown_name

PRECISIONS = ("auto", "fp32", "bf16")
AMPERE = 8  # major compute capability of the first NVIDIA GPUs whose matrix units take bfloat16


def resolve_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises BadInput for a device that this machine does not have.

    A GPU is only counted: a tensor would open a context on it, in each of several processes on the first.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unavailable = BadInput(f"device '{name}' is not available here; use auto or cpu")
    try:
        device = torch.device(name)
        if device.type != "cuda":
            torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise unavailable from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise unavailable
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 where the hardware multiplies it (a GPU that can, a CPU with AMX), else fp32. Raises BadInput for
    a name that is not in PRECISIONS."""
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS)
    if name != "auto":
        return name
    if device.type == "cuda":
        emulated = torch.version.hip is None and torch.cuda.get_device_capability(device)[0] < AMPERE
        return "fp32" if emulated else "bf16"
    can: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return "bf16" if can.get("amx_bf16") else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Inside, networks on `device` run in `precision`, fp32 or bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def free_memory(device: torch.device) -> int:
    """Bytes that a new process can have on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int = 10) -> float:
    """Operations a second of a large square matrix product on `device`: the most that a network can hope for."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(1 + repeats):  # the first warms up
        began = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return float(2 * side**3 / min(seconds[1:]))


@contextmanager
def memory_advice(key: str, value: int, least: int = 1, also: str = "") -> Iterator[None]:
    """Raises Fault of one line where the memory ends inside: what ran out, and half of the batch size to try.

    key: of the batch size in the configuration, `value`, as it is typed: with ++ where it may not be there yet.
    least: below it the key changes nothing. also: what has to be typed besides.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        what = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
        half = f"try {key}={max(least, value // 2)} {also}".rstrip()
        advice = half if value > least else "no batch is smaller: take a smaller model or image, or another device"
        reason = ". ".join(one_line(error).split(". ")[:3])  # the rest of torch's is about its allocator
        raise Fault(f"{what} ran out with {key.lstrip('+')}={value}; {advice} ({reason})") from error


def _is_out_of_memory(error: Exception) -> bool:
    """Of a GPU or of the CPU, for whose allocator torch has no error of its own."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator: can't allocate" in str(error)
