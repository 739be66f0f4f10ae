"""One writer at a time: what a command writes is held until it ends, however it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sim2real_aug.errors import BadInput
from sim2real_aug.progress import say

try:
    import fcntl
except ImportError:  # Windows: nothing is held
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held(place: Path, wait: bool = False) -> Iterator[None]:
    """Hold `place`, which need not be there, by the file .NAME.lock beside it. Where another process holds it, wait
    until it ends, or raise BadInput.

    A POSIX record lock: it goes with its process, also by kill -9, and worker processes have no part in it. Where
    files cannot be locked nothing is held.
    """
    place = place.absolute()
    lock = place.with_name(f".{place.name}.lock")
    new_folders = [folder for folder in lock.parents if not folder.exists()]
    descriptor = _locked(lock, place, wait)
    try:
        yield
    finally:
        if descriptor is not None:
            lock.unlink(missing_ok=True)  # before it is given up: whoever waits with it open looks again
            os.close(descriptor)
            with suppress(OSError):  # where nothing was written there is no trace of it
                for folder in new_folders:
                    folder.rmdir()


def _locked(lock: Path, place: Path, wait: bool) -> int | None:
    """An open descriptor that holds `lock`, for `place`; None where that cannot be."""
    if fcntl is None:
        return None
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:  # a place that cannot be written is told of by what writes it
            return None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
            if not wait:
                os.close(descriptor)
                raise BadInput(
                    f"{place} is being written by {owner}; wait until it ends, or choose another place"
                ) from error
            say(f"{place} is being made by {owner}: waiting for it")
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == lock.stat().st_ino:
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        os.close(descriptor)  # its owner has just removed it
