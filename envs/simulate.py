"""Recording episodes: a source of states drawn in a domain, written as a replay buffer.

Sources: `scripted` acts in the environment; `replay:STORE` takes states, and every array but the images, from
an existing store. An episode depends on (settings, episode) only, so the store is the same with any number of
workers and wherever a run was cut off; the same call continues it.

Legend: T steps of an episode; img (T, size, size, 3) uint8 is drawn from the stored float32 state (T, 5),
before action (T, 2); n_contacts (T, 1) belongs to the step that led to the state, coverage (T, 1) is what the
action led to.
"""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.stores import is_zip, open_store, partial_folder
from sim2real_aug.data.writer import ReplayBufferWriter
from sim2real_aug.envs.geometry import keypoints
from sim2real_aug.envs.push_t import SUCCESS_THRESHOLD, PushTEnv
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.envs.scripted import ScriptedPusher
from sim2real_aug.errors import BadInput, unknown_name
from sim2real_aug.progress import progress, say
from sim2real_aug.seeding import derive_seed

SCRIPTED_EPISODES = 100
REPLAY = "replay:"
ATTRIBUTE = "simulate"  # root attribute that says how a store was made

Episode = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SimulateSettings:
    """What to record; see configs/simulate.yaml.

    Raises BadInput that lists every value out of range.
    """

    episodes: int | None = None
    domain: str = "flat"
    source: str = "scripted"
    seed: int = 0
    workers: int = 1
    size: int = 96
    max_steps: int = 300
    zarr_format: int = 2

    def __post_init__(self) -> None:
        if self.source != "scripted" and not (self.source.startswith(REPLAY) and self.source != REPLAY):
            raise unknown_name("source", self.source, ["scripted", "replay:STORE"])
        least = {"episodes": 1, "workers": 1, "size": 8, "max_steps": 1}
        wrong = [
            f"{name} must be at least {bound}; got {value}"
            for name, bound in least.items()
            if (value := getattr(self, name)) is not None and value < bound
        ]
        if self.zarr_format not in (2, 3):
            wrong.append(f"zarr_format must be 2 or 3; got {self.zarr_format}")
        if wrong:
            raise BadInput("; ".join(wrong))
        make_renderer(self.domain)

    @property
    def replayed(self) -> str | None:
        """The store whose states are drawn anew, if any."""
        return self.source.removeprefix(REPLAY) if self.source.startswith(REPLAY) else None


def simulate(out: str | Path, settings: SimulateSettings, overwrite: bool = False) -> dict[str, Any]:
    """Record the episodes that `out` does not hold yet; returns a summary.

    Raises BadInput when `out` was not made with these settings, unless `overwrite`, and for a bad source.
    """
    total, made_with = _plan(settings)
    if not overwrite and _packed(Path(out), total, made_with):
        say(f"{out} holds its {total} episodes already")
        return summarize(out)
    with _writer(out, settings, made_with, overwrite) as writer:
        done = writer.n_episodes
        if done > total:
            raise BadInput(
                f"{out} holds {done} episodes already, more than the {total} asked for; --overwrite?"
            )
        if done:
            say(f"{out} holds {done} of {total} episodes already")
        with progress("simulate", total, done, "episodes") as bar:
            for episode in _episodes(settings, range(done, total)):
                writer.append_episode(episode)
                bar.advance(1, f"{writer.n_frames} frames")
    return summarize(out)


def record_episode(settings: SimulateSettings, index: int) -> Episode:
    """Episode `index` of a run with `settings`: its arrays by name, each (T, ...)."""
    episode = _scripted(settings, index) if settings.replayed is None else _replayed(settings.replayed, index)
    return {"img": draw(settings, index, episode["state"]), **episode}


def draw(settings: SimulateSettings, index: int, states: NDArray[Any]) -> NDArray[np.uint8]:
    """The frames (T, size, size, 3) of states (T, 5) of episode `index`."""
    renderer = make_renderer(settings.domain, derive_seed(settings.seed, "scene", index))
    return np.stack([renderer.image(state, settings.size) for state in states])


def summarize(path: str | Path) -> dict[str, Any]:
    """What a store that `simulate` made holds; shares of success and coverage where it recorded them."""
    buffer = ReplayBuffer.open(path)
    summary: dict[str, Any] = {"path": str(path), "episodes": buffer.n_episodes, "frames": buffer.n_frames}
    summary |= {"mean_length": round(buffer.n_frames / buffer.n_episodes, 1)}
    if "coverage" in buffer.names:
        covered = buffer.read("coverage")[:, 0]
        best = np.maximum.reduceat(covered, np.append(0, buffer.episode_ends[:-1]))
        summary["success_rate"] = round(float((best > SUCCESS_THRESHOLD).mean()), 4)
        summary["mean_max_coverage"] = round(float(best.mean()), 4)
    return summary


def _plan(settings: SimulateSettings) -> tuple[int, dict[str, Any]]:
    """How many episodes there will be, and the attribute that says how they are made.

    Checks a replayed store before anything is written.
    """
    # The count is left out: a longer run begins with the very episodes of a shorter one.
    made_with = {key: value for key, value in asdict(settings).items() if key not in ("episodes", "workers")}
    if settings.replayed is None:
        return settings.episodes or SCRIPTED_EPISODES, made_with
    store = ReplayBuffer.open(settings.replayed)
    if store.array("state").shape[1:] != (5,):
        raise BadInput(
            f"{store.path}: data/state is {store.array('state').shape}; (N, 5) is needed to draw it"
        )
    if settings.episodes is not None and settings.episodes > store.n_episodes:
        raise BadInput(
            f"episodes must be at most the {store.n_episodes} of {store.path}; got {settings.episodes}"
        )
    return settings.episodes or store.n_episodes, {**made_with, "replayed_hash": store.content_hash()}


def _packed(out: Path, total: int, made_with: dict[str, Any]) -> bool:
    """Whether `out` is a packed store with all that is asked for; a folder is looked at by `_writer`."""
    if not out.is_file():
        return False
    buffer = ReplayBuffer.open(out)
    _check_origin(out, buffer.attrs, made_with)
    if buffer.n_episodes != total:
        raise BadInput(f"{out} is packed and holds {buffer.n_episodes} episodes, not {total}; --overwrite?")
    return True


def _writer(
    out: str | Path, settings: SimulateSettings, made_with: dict[str, Any], overwrite: bool
) -> ReplayBufferWriter:
    """A writer that continues the store at `out` where there is one of the same origin."""
    begun = partial_folder(out) if is_zip(out) else Path(out)
    if begun.exists() and not overwrite:
        try:
            attrs = dict(open_store(begun).attrs)
        except BadInput:
            attrs = {}
        _check_origin(out, attrs, made_with)  # before `resume`, which cuts off what it finds unfinished
        return ReplayBufferWriter.resume(out)
    return ReplayBufferWriter.create(out, settings.zarr_format, overwrite, attrs={ATTRIBUTE: made_with})


def _check_origin(out: str | Path, attrs: dict[str, Any], made_with: dict[str, Any]) -> None:
    if ATTRIBUTE not in attrs:
        raise BadInput(f"{out} exists and was not made by simulate; choose another path, or --overwrite")
    old = attrs[ATTRIBUTE]
    changed = [key for key in made_with if old.get(key) != made_with[key]]
    if changed:
        raise BadInput(
            f"{out} was made with another {', '.join(changed)}; choose another path, or --overwrite"
        )


def _scripted(settings: SimulateSettings, index: int) -> Episode:
    env = PushTEnv("state")
    state, info = env.reset(seed=derive_seed(settings.seed, "start", index))
    policy = ScriptedPusher(settings.seed, index)
    rows: list[tuple[Any, ...]] = []
    for _ in range(settings.max_steps):
        action = policy(state)
        contacts, points = info["n_contacts"], keypoints(info["block_pose"])
        after, _, terminated, _, info = env.step(action)
        rows.append((state, action, points, [contacts], [info["coverage"]]))
        state = after
        if terminated:
            break
    names = ("state", "action", "keypoint", "n_contacts", "coverage")
    return {
        name: np.array(column, np.float32)
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def _replayed(store: str, index: int) -> Episode:
    buffer = _opened(store)
    frames = buffer.episode(index)
    return {name: buffer.read(name, frames.start, frames.stop) for name in buffer.names if name != "img"}


@cache
def _opened(store: str) -> ReplayBuffer:
    return ReplayBuffer.open(store)


def _episodes(settings: SimulateSettings, indices: range) -> Iterator[Episode]:
    """Episodes in order; with several workers at most two a worker are ahead of the reader."""
    if settings.workers == 1 or len(indices) <= 1:
        yield from (record_episode(settings, index) for index in indices)
        return
    waiting: deque[Future[Episode]] = deque()
    remaining = iter(indices)
    pool = ProcessPoolExecutor(
        min(settings.workers, len(indices)), multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        for index in itertools.islice(remaining, 2 * settings.workers):
            waiting.append(pool.submit(record_episode, settings, index))
        while waiting:
            yield waiting.popleft().result()
            for index in itertools.islice(remaining, 1):
                waiting.append(pool.submit(record_episode, settings, index))
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    # A pool's worker outlives a parent that was killed: it would wait for work for ever.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
