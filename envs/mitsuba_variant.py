"""Which variant of Mitsuba can run here: `llvm_ad_rgb` with a recent LLVM library, else `scalar_rgb`.

Dr.Jit, Mitsuba's compiler, loads LLVM's shared library by itself, but takes any it finds, and one before 17 ends
the whole process at the first kernel ("Cannot select: fminimum"). So we look first. Nothing here loads Mitsuba.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MIN_LLVM = 17
PATH_VARIABLE = "DRJIT_LIBLLVM_PATH"
HOW_TO_GET = {
    "linux": "apt-get install libllvm19 (or another from 17 on)",
    "darwin": "brew install llvm",
    "win32": "install LLVM from releases.llvm.org",
}
_PLACES = {
    "linux": (
        "/usr/lib/*-linux-gnu/libLLVM*.so*",
        "/usr/lib64/libLLVM*.so*",
        "/usr/lib/libLLVM*.so*",
        "/usr/lib/llvm*/lib/libLLVM*.so*",
        "/usr/local/lib/libLLVM*.so*",
    ),
    "darwin": ("/opt/homebrew/opt/llvm*/lib/libLLVM*.dylib", "/usr/local/opt/llvm*/lib/libLLVM*.dylib"),
    "win32": ("C:/Program Files/LLVM/bin/LLVM-C.dll",),
}


@dataclass(frozen=True)
class Llvm:
    """An LLVM library: its file and its major version."""

    path: str
    version: int


def mitsuba_installed() -> bool:
    return find_spec("mitsuba") is not None


def find_llvm() -> Llvm | None:
    """The newest LLVM library of version 17 or later here, or None; DRJIT_LIBLLVM_PATH goes before all others."""
    named = os.environ.get(PATH_VARIABLE)
    paths = [named] if named else [str(path) for path in _candidates()]
    found = [Llvm(path, version) for path in paths if (version := _version(path)) is not None]
    fitting = [llvm for llvm in found if llvm.version >= MIN_LLVM]
    return max(fitting, key=lambda llvm: (llvm.version, llvm.path), default=None)


def variant() -> str:
    """The variant of Mitsuba that can run here, by its own name."""
    return "scalar_rgb" if find_llvm() is None else "llvm_ad_rgb"


def how_to_get_llvm() -> str:
    """Advice for this machine; a library that the environment names and that does not do is the cause."""
    named = os.environ.get(PATH_VARIABLE)
    if named:
        return f"{PATH_VARIABLE}={named} names none: correct or unset it"
    advice = HOW_TO_GET.get(sys.platform, "install LLVM 17 or later")
    return f"{advice}, or name the library in {PATH_VARIABLE}"


def _candidates() -> Iterator[Path]:
    for pattern in _PLACES.get(sys.platform, ()):
        root = Path(pattern).anchor
        yield from Path(root).glob(pattern.removeprefix(root))


def _version(path: str) -> int | None:
    """Major version from the file's name, as in libLLVM-19.so or libLLVM.so.19.1, else by asking the library."""
    named = re.search(r"libLLVM(?:-|\.so\.)(\d+)", Path(path).name)
    if named:
        return int(named.group(1)) if Path(path).exists() else None
    try:
        library = ctypes.CDLL(path)
        major, minor, patch = (ctypes.c_uint() for _ in range(3))
        library.LLVMGetVersion(*(ctypes.byref(number) for number in (major, minor, patch)))
    except (OSError, AttributeError):  # no library, or one before 16, which has no such function
        return None
    return int(major.value)
