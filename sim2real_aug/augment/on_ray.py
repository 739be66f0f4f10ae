"""The engine `ray`: units of an augmentation spread over the GPUs, or CPU cores, of a machine or a cluster.

    sim2real-aug augment DATASET.zarr --engine ray [workers=8]

Ray's own rules say which cluster: RAY_ADDRESS, one that runs on this machine, else one that is begun here and ends with
the command. Several machines need dataset and OUT on a file system that all of them have at the same path. Frames and
order of work do not matter to each other, so the store is the one that the engine `local` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import zarr

from sim2real_aug.augment.units import Unit, fill
from sim2real_aug.augment.work import Work
from sim2real_aug.errors import BadInput, Fault, MissingExtra
from sim2real_aug.progress import say


@dataclass(frozen=True)
class RayEngine:
    """workers: each has the editor in memory; None: one a GPU of the cluster, or a CPU core where the editor is not on
    a GPU. Raises MissingExtra where ray is not installed."""

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise BadInput(f"workers must be at least 1, or null; got {self.workers}")
        import_ray()

    def __call__(self, work: Work, root: zarr.Group, units: Sequence[Unit]) -> Iterator[int]:
        if not units:
            return
        ray = import_ray()
        with _cluster(ray):
            resource = "GPU" if work.editor.device.type == "cuda" else "CPU"
            most = int(ray.cluster_resources().get(resource, 0))
            count = min(self.workers or most, most, len(units))
            if not count:
                raise BadInput(f"the Ray cluster has no {resource}; choose device=cpu, or --engine local")
            say(f"{count} workers, one {resource} each")
            options = {"num_cpus": 1, "num_gpus": 1 if resource == "GPU" else 0}
            shared = ray.put(work)
            actor = ray.remote(**options)(_Worker)
            workers = [actor.remote(shared, root) for _ in range(count)]
            try:
                pool = ray.util.ActorPool(workers)
                yield from pool.map_unordered(lambda worker, unit: worker.fill.remote(unit), units)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayActorError as error:
                raise Fault(
                    "a worker ended, perhaps for want of memory; the same command goes on where it stopped, "
                    "with fewer workers=N or a smaller batch_size"
                ) from error
            finally:
                for worker in workers:
                    ray.kill(worker)


class _Worker:
    """What Ray runs in a process of its own, with the threads that Ray gives it."""

    def __init__(self, work: Work, root: zarr.Group) -> None:
        self.work, self.root = work, root

    def fill(self, unit: Unit) -> int:
        return sum(fill(self.work, self.root, unit))


def import_ray() -> Any:
    try:
        import ray
        import ray.util
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
