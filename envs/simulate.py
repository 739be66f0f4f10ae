"""Recording episodes: a source of states and actions, drawn in a domain, written as a replay buffer.

Sources: `recorded` takes the demonstrations that ship with the package, `expert` has the expert plan new ones,
`replay:STORE` takes states, and every array but the images, from an existing store. An episode depends on
(settings, episode) only, so the store is the same with any number of workers and wherever a run was cut off;
the same call continues it. What an episode holds is told in `recorder`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.geometry import DEPTH, MASK
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.envs.geometry import keypoints
from sim2real_aug.envs.push_t import SUCCESS_THRESHOLD
from sim2real_aug.envs.recorder import Episode, check_origin, draw_states, open_writer
from sim2real_aug.envs.recordings import expert_episode, load_recordings
from sim2real_aug.envs.rendering import episode_renderer, is_pathtraced, make_renderer, scene_records
from sim2real_aug.envs.starts import CLASSIC, StartDistribution
from sim2real_aug.envs.workers import in_order
from sim2real_aug.errors import BadInput, below_least, unknown_name
from sim2real_aug.progress import progress, say

EXPERT_EPISODES = 100
RECORDED, EXPERT, REPLAY = "recorded", "expert", "replay:"
DRAWN = ("img", MASK, DEPTH)  # of a replayed store these are drawn anew, or left out
COMMAND = "simulate"  # also the root attribute that says how a store was made


@dataclass(frozen=True)
class SimulateSettings:
    """What to record; see configs/simulate.yaml.

    Raises BadInput that lists every value out of range.
    """

    episodes: int | None = None
    domain: str | tuple[str, ...] = "flat"
    source: str = RECORDED
    start: StartDistribution = CLASSIC
    seed: int = 0
    workers: int | None = None
    size: int = 96
    max_steps: int = 300
    zarr_format: int = 2
    geometry: bool = False
    config_dir: str | None = None

    def __post_init__(self) -> None:
        if self.source not in (RECORDED, EXPERT) and not self.replayed:
            raise unknown_name("source", self.source, [RECORDED, EXPERT, "replay:STORE"])
        wrong = below_least(self, episodes=1, workers=1, size=8, max_steps=1)
        if self.zarr_format not in (2, 3):
            wrong.append(f"zarr_format must be 2 or 3; got {self.zarr_format}")
        if self.start != CLASSIC and self.source != EXPERT:
            wrong.append(f"start is for source=expert; the episodes of source={self.source} have their own")
        if not self.domains or not all(isinstance(domain, str) for domain in self.domains):
            wrong.append(f"domain must name at least one domain, such as flat or [flat, randomized]; got {self.domain}")
        if wrong:
            raise BadInput("; ".join(wrong))
        for domain in self.domains:
            make_renderer(domain, config_dir=self.config_dir)

    @property
    def replayed(self) -> str | None:
        """The store whose states are drawn anew, if any."""
        if not self.source.startswith(REPLAY):
            return None
        return os.path.expanduser(self.source.removeprefix(REPLAY)) or None  # shells expand no ~ after a colon

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that episodes are drawn in by turns."""
        return tuple(self.domain) if isinstance(self.domain, list | tuple) else (self.domain,)


def simulate(out: str | Path, settings: SimulateSettings, overwrite: bool = False) -> dict[str, Any]:
    """Record the episodes that `out` does not hold yet; returns a summary.

    With several workers the calling script needs the usual `if __name__ == "__main__":`. Raises BadInput when
    `out` was not made with these settings, unless `overwrite`, and for a bad source.
    """
    if settings.replayed is not None and Path(settings.replayed).resolve() == Path(out).resolve():
        raise BadInput(f"{out} cannot be replayed onto itself; choose another path to write to")
    total, made_with = _plan(settings)
    if not overwrite and _packed(Path(out), total, made_with):
        say(f"{out} holds its {total} episodes already")
        return summarise(out)
    with open_writer(out, COMMAND, made_with, settings.zarr_format, overwrite) as writer:
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
    return summarise(out)


def record_episode(settings: SimulateSettings, index: int) -> Episode:
    """Episode `index` of a run with `settings`: its arrays by name, each (T, ...)."""
    if settings.replayed is not None:
        episode = _replayed(settings.replayed, index)
    elif settings.source == RECORDED:
        episode = _recorded(index, settings.max_steps)
    else:
        episode = expert_episode(settings.seed, index, settings.max_steps, settings.start)
    return {**draw(settings, index, episode["state"]), **episode}


def draw(settings: SimulateSettings, index: int, states: NDArray[Any]) -> Episode:
    """What is drawn of the states (T, 5) of episode `index`: img (T, size, size, 3) and, if asked for, mask (T,
    size, size) uint8, an index into REGIONS, and depth (T, size, size) float32, window units from the camera."""
    renderer = episode_renderer(settings.domains, settings.seed, index, settings.config_dir)
    if not settings.geometry:
        return {"img": draw_states(renderer, states, settings.size)}
    drawn = [renderer.render(state, settings.size) for state in states]
    columns = {"img": "image", MASK: "labels", DEPTH: "depth"}
    return {name: np.stack([getattr(frame, field) for frame in drawn]) for name, field in columns.items()}


def summarise(path: str | Path) -> dict[str, Any]:
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
    """How many episodes there will be, and the attribute that says how they are made, as JSON has it.

    Checks the source before anything is written.
    """
    # The count is left out: a longer run begins with the very episodes of a shorter one.
    apart = ("episodes", "workers", "config_dir")
    made_with = {key: value for key, value in asdict(settings).items() if key not in apart}
    made_with["geometry"] = settings.geometry or None  # as in a store from before there was a choice
    if scenes := scene_records(settings.domains, settings.config_dir):
        made_with["scenes"] = scenes
    available, whose = EXPERT_EPISODES, ""
    if settings.replayed is not None:
        _opened.cache_clear()  # the store may have grown since an earlier call
        store = _drawable(settings.replayed)
        available, whose = store.n_episodes, f"of {store.path}"
        made_with["replayed_hash"] = store.content_hash()
        del made_with["source"]  # a store that was moved is the same one
    elif settings.source == RECORDED:
        recordings = _shipped()
        available, whose = recordings.n_episodes, "that were recorded; --source expert plans new ones"
        digest = hashlib.blake2b(recordings.state.tobytes() + recordings.action.tobytes(), digest_size=16)
        made_with["recorded_hash"] = digest.hexdigest()
    if whose and settings.episodes is not None and settings.episodes > available:
        raise BadInput(f"episodes must be at most the {available} {whose}; got {settings.episodes}")
    return settings.episodes or available, json.loads(json.dumps(made_with))


def _drawable(path: str) -> ReplayBuffer:
    store = ReplayBuffer.open(path)
    if store.array("state").shape[1:] != (5,):
        raise BadInput(
            f"{store.path}: data/state is {store.array('state').shape}; (N, 5) is needed to draw it"
        )
    return store


def _packed(out: Path, total: int, made_with: dict[str, Any]) -> bool:
    """Whether `out` is a packed store with all that is asked for; a folder is looked at by `open_writer`."""
    if not out.is_file():
        return False
    buffer = ReplayBuffer.open(out)
    check_origin(out, buffer.attrs, COMMAND, made_with)
    if buffer.n_episodes != total:
        raise BadInput(f"{out} is packed and holds {buffer.n_episodes} episodes, not {total}; --overwrite?")
    return True


_shipped = cache(load_recordings)


def _recorded(index: int, max_steps: int) -> Episode:
    recordings = _shipped()
    whole = recordings.episode(index)
    frames = slice(whole.start, min(whole.stop, whole.start + max_steps))
    states = recordings.state[frames]
    return {
        "state": states,
        "action": recordings.action[frames],
        "keypoint": np.stack([keypoints(pose) for pose in states[:, 2:]]).astype(np.float32),
        "n_contacts": recordings.n_contacts[frames].astype(np.float32),
        "coverage": recordings.coverage[frames],
    }


def _replayed(store: str, index: int) -> Episode:
    buffer = _opened(store)
    frames = buffer.episode(index)
    return {name: buffer.read(name, frames.start, frames.stop) for name in buffer.names if name not in DRAWN}


@cache
def _opened(store: str) -> ReplayBuffer:
    return ReplayBuffer.open(store)


def _episodes(settings: SimulateSettings, indices: range) -> Iterator[Episode]:
    path_traced = any(map(is_pathtraced, settings.domains))
    return in_order(partial(record_episode, settings), indices, settings.workers, path_traced)
