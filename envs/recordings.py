"""Demonstrations that ship with the package: the expert's episodes, as states and actions without images.

    python -m sim2real_aug.envs.recordings OUT.npz [--episodes 600] [--seed 1000]

made them. Episode i starts, and is acted, as that of `simulate --source expert --seed 1000`. As in the published
demonstrations only successes are kept: an episode that does not cover the goal within 300 steps is dropped
and the next one taken; the file says how many were.

Legend: N steps, E episodes; positions in window units 0..512, angles in radians.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, fields
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.expert import Expert
from sim2real_aug.envs.push_t import SUCCESS_THRESHOLD, PushTEnv
from sim2real_aug.envs.recorder import Episode, EpisodeRecorder
from sim2real_aug.envs.starts import CLASSIC, StartDistribution
from sim2real_aug.errors import BadInput
from sim2real_aug.progress import progress, say
from sim2real_aug.seeding import derive_seed

SHIPPED = "recordings.npz"
SHIPPED_EPISODES = 600
SEED = 1000
MAX_STEPS = 300


@dataclass(frozen=True)
class Recordings:
    """Episodes end to end.

    state: (N, 5) float32 agent x, y, block x, y and angle, before each action.
    action: (N, 2) float32 the pusher's target.
    n_contacts: (N, 1) uint8 points of contact in the step that led to the state, 0 at an episode's start.
    coverage: (N, 1) float32 of the goal, after each action.
    episode_ends: (E,) int64.
    n_dropped: how many episodes failed and are not among these.

    Raises BadInput when the shapes do not fit one another.
    """

    state: NDArray[np.float32]
    action: NDArray[np.float32]
    n_contacts: NDArray[np.uint8]
    coverage: NDArray[np.float32]
    episode_ends: NDArray[np.int64]
    n_dropped: int

    def __post_init__(self) -> None:
        n = int(self.episode_ends[-1]) if len(self.episode_ends) else 0
        wanted = {"state": (n, 5), "action": (n, 2), "n_contacts": (n, 1), "coverage": (n, 1)}
        wrong = [
            f"{name} must have shape {shape}; got {found}"
            for name, shape in wanted.items()
            if (found := getattr(self, name).shape) != shape
        ]
        if n == 0 or wrong:
            raise BadInput("recordings: " + ("; ".join(wrong) or "there must be an episode"))

    @property
    def n_episodes(self) -> int:
        """E"""
        return len(self.episode_ends)

    def episode(self, index: int) -> slice:
        """The steps of episode `index`, 0 <= index < E.

        Raises BadInput for another index.
        """
        if not 0 <= index < self.n_episodes:
            raise BadInput(f"episode must be 0 to {self.n_episodes - 1}; got {index}")
        return slice(int(self.episode_ends[index - 1]) if index else 0, int(self.episode_ends[index]))


def load_recordings(path: str | Path | None = None) -> Recordings:
    """The recordings in `path`, by default those that ship with the package.

    Raises BadInput when there is no such file or it holds something else.
    """
    if path is None:
        with as_file(files("sim2real_aug.envs") / SHIPPED) as shipped:
            return load_recordings(shipped)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Any] = {field.name: stored[field.name] for field in fields(Recordings)}
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); give a file of recordings") from error
    except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:  # numpy's own words are of pickles
        raise BadInput(f"{path} holds no recordings; see python -m sim2real_aug.envs.recordings") from error
    return Recordings(**{**arrays, "n_dropped": int(arrays["n_dropped"])})


def record(episodes: int, seed: int = SEED) -> Recordings:
    """The first `episodes` successes of the expert, from `seed`.

    Raises BadInput unless `episodes` is at least 1.
    """
    if episodes < 1:
        raise BadInput(f"episodes must be at least 1; got {episodes}")
    kept: list[Episode] = []
    with progress("record", episodes, unit="episodes") as bar:
        for index in itertools.count():
            episode = expert_episode(seed, index)
            if episode["coverage"][-1, 0] > SUCCESS_THRESHOLD:
                kept.append(episode)
                bar.advance(1)
            if len(kept) == episodes:
                break
    names = ("state", "action", "n_contacts", "coverage")
    columns: dict[str, Any] = {name: np.concatenate([episode[name] for episode in kept]) for name in names}
    columns["n_contacts"] = columns["n_contacts"].astype(np.uint8)
    ends = np.cumsum([len(episode["state"]) for episode in kept])
    return Recordings(**columns, episode_ends=ends, n_dropped=index + 1 - episodes)


def expert_episode(
    seed: int, index: int, max_steps: int = MAX_STEPS, start: StartDistribution = CLASSIC
) -> Episode:
    """Episode `index` of the expert from `seed`, to success or `max_steps`; its arrays are told in `recorder`."""
    env = PushTEnv("state", start=start)
    env.reset(seed=derive_seed(seed, "start", index))
    expert, recorder = Expert(seed, index), EpisodeRecorder(env)
    while len(recorder) < max_steps and not recorder.step(expert(env.state)):
        pass
    return recorder.arrays()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the .npz to write")
    parser.add_argument("--episodes", type=int, default=SHIPPED_EPISODES)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    made = record(arguments.episodes, arguments.seed)
    with arguments.out.open("wb") as file:  # given a name, numpy would append .npz to it
        np.savez_compressed(file, **vars(made))
    say(f"{arguments.out}: {made.n_episodes} episodes, {len(made.state)} steps; {made.n_dropped} dropped")


if __name__ == "__main__":
    main()
