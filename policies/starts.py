"""The starts of the episodes that a policy learned from: an evaluation from one of them tests what was learned.

Legend: E episodes; a state is (agent x, y, block x, y, angle) in window units and radians.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.errors import BadInput

STARTS_FILE = "training_starts.npy"
SAME_START = 1e-3  # window units and radians
COLUMNS = 5


def starts_of(store: ReplayBuffer, episodes: ArrayLike | None = None) -> NDArray[np.float64] | None:
    """The first states (E, 5) of `episodes`, all by default; None where the store's states are not Push-T's five."""
    states = store.read("state")
    if states.ndim != 2 or states.shape[1] < COLUMNS:
        return None
    chosen = np.arange(store.n_episodes) if episodes is None else np.asarray(episodes)
    return states[[store.episode(int(one)).start for one in chosen], :COLUMNS].astype(np.float64)


def save_starts(starts: NDArray[np.float64] | None, folder: Path) -> None:
    """Write the starts (E, 5) into the folder of a saved policy; nothing for None."""
    if starts is not None:
        folder.mkdir(exist_ok=True)
        np.save(folder / STARTS_FILE, starts)


def load_starts(policy_run: Path) -> NDArray[np.float64] | None:
    """What `save_starts` wrote with the policy of a run (or in a saved policy folder); None where nothing is."""
    for folder in (policy_run / "policy", policy_run):
        if (folder / STARTS_FILE).is_file():
            return np.asarray(np.load(folder / STARTS_FILE, allow_pickle=False))
    return None


def refuse_known_starts(known: NDArray[np.float64], seeds: range, whose: str, advice: str) -> None:
    """Raise BadInput when the episode of one of `seeds` starts at one of the states `known` (E, 5).

    whose: the training episodes, for the message. advice: what to type instead.
    """
    env = PushTEnv(obs_type="state")
    for seed in seeds:
        env.reset(seed=seed)
        same = np.abs(known - env.state).max(axis=1) < SAME_START
        if same.any():
            raise BadInput(
                f"evaluation seed {seed} starts where episode {int(same.argmax())} of {whose} does: a policy would be "
                f"tested on what it learned; {advice}"
            )
