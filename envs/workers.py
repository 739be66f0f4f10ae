"""Work on all cores whose results come in order: one process a core, and none outlives its parent."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

from sim2real_aug.errors import Fault

T = TypeVar("T")


def available_cores() -> int:
    """Cores that this process may use, which a container or `taskset` can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[int], T], indices: range, workers: int | None = None, path_traced: bool = False
) -> Iterator[T]:
    """work(index) for each of `indices`, in order; at most two results a worker are ahead of the reader.

    workers: processes, by default one a core; 1 works in this process. path_traced: Mitsuba, which takes all
    cores by itself, is held to one thread in each worker. Raises Fault when a worker process dies.
    """
    workers = min(workers or available_cores(), len(indices))
    if workers <= 1:
        yield from (work(index) for index in indices)
        return
    waiting: deque[Future[T]] = deque()
    remaining = iter(indices)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=(path_traced,))
    try:
        for index in itertools.islice(remaining, 2 * workers):
            waiting.append(pool.submit(work, index))
        while waiting:
            yield waiting.popleft().result()
            for index in itertools.islice(remaining, 1):
                waiting.append(pool.submit(work, index))
    except BrokenProcessPool as error:
        raise Fault(
            "a worker process died, perhaps for want of memory; the same command with fewer workers goes on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(path_traced: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches it too: it ends at once, without a traceback
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # torch's, which is imported later
    if path_traced:
        from sim2real_aug.envs.pathtraced import set_threads

        set_threads(1)
    # A pool's worker outlives a parent that was killed: it would wait for work for ever.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
