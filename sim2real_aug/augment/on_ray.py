"""The engine `ray`: units of an augmentation spread over the GPUs, or CPU cores, of a machine or a cluster.

    sim2real-aug augment DATASET.zarr --engine ray [workers=8]

Ray's own rules say which cluster: RAY_ADDRESS, one that runs on this machine, else one that is begun here and ends with
the command. Several machines need dataset and OUT on a file system that all of them have at the same path. Units know
nothing of each other, so the store is the one that the engine `local` writes with as many threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import LocalStore

from sim2real_aug.augment.units import Unit, fill
from sim2real_aug.augment.work import Work
from sim2real_aug.data.geometry import find_geometry
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.stores import is_url
from sim2real_aug.errors import BadInput, Fault, MissingExtra
from sim2real_aug.progress import say


@dataclass(frozen=True)
class RayEngine:
    """workers: each has editor and judge in memory; None: one for every free GPU of the cluster, or CPU core where the
    editor is on the CPU. Raises MissingExtra where ray is not installed."""

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise BadInput(f"workers must be at least 1, or null; got {self.workers}")
        import_ray()

    def __call__(self, work: Work, root: zarr.Group, units: Sequence[Unit]) -> Iterator[int]:
        if work.editor.device.index:
            raise BadInput(f"a Ray worker has one GPU, its first: choose device=cuda; got {work.editor.device}")
        if not units:
            return
        ray = import_ray()
        with _cluster(ray):
            resource = "GPU" if work.editor.device.type == "cuda" else "CPU"
            free = int(ray.available_resources().get(resource, 0))
            count = min(self.workers or free, free, len(units))
            if not count:
                raise BadInput(f"the Ray cluster has no free {resource}; choose another device, or --engine local")
            say(f"{count} workers, one {resource} each")
            actor = ray.remote(num_cpus=resource == "CPU", num_gpus=resource == "GPU")(_Worker)
            path = work.buffer.path
            dataset = str(path) if is_url(path) else str(Path(path).resolve())
            needed = (ray.put(work), dataset, Path(root.store.root).resolve())  # workers run in a folder of Ray's
            workers = [actor.remote(*needed) for _ in range(count)]
            try:
                yield from _spread(ray, workers, units)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
                raise Fault(_why_it_ended(error)) from error
            finally:
                for worker in workers:
                    ray.kill(worker)


def _spread(ray: Any, workers: Sequence[Any], units: Sequence[Unit]) -> Iterator[int]:
    """Give a unit to each worker that has begun or has filled one; yields the frames edited of each unit.

    Workers that Ray has no place for are not waited for.
    """
    left, unfilled = list(reversed(units)), len(units)
    busy = {worker.begin.remote(): worker for worker in workers}
    while unfilled:
        (done,), _ = ray.wait(list(busy))
        worker, edited = busy.pop(done), ray.get(done)
        if left:
            busy[worker.fill.remote(left.pop())] = worker
        if edited is not None:
            unfilled -= 1
            yield edited


def _why_it_ended(error: Exception) -> str:
    if getattr(error, "actor_init_failed", False):
        return f"a worker could not begin: {str(error).strip().splitlines()[-1].strip()}"
    return "a worker ended, perhaps for want of memory; the same command with fewer workers=N goes on where it stopped"


class _Worker:
    """What Ray runs in a process of its own. Files are opened there: handles and codecs are a process's own."""

    def __init__(self, work: Work, dataset: str, folder: Path) -> None:
        buffer = ReplayBuffer.open(dataset)
        geometry = None if work.geometry is None else find_geometry(buffer, work.settings.frame_geometry)
        self.work = replace(work, buffer=buffer, geometry=geometry)
        self.root = zarr.open_group(LocalStore(folder), mode="r+")

    def begin(self) -> None:
        """Answers when the worker is there."""

    def fill(self, unit: Unit) -> int:
        return sum(fill(self.work, self.root, unit))


def import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("--engine ray", "ray") from error
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Ray begun or joined while the block runs; left as it is where the caller has begun it."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()
