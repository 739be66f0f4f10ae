"""Recording: the rows of one episode, its frames, and the store they go to. `simulate` and `teleop` share it.

An episode is a dict of arrays (T, ...), float32 but the frames: state (T, 5), before action (T, 2); keypoint
(T, 9, 2) of that state; n_contacts (T, 1) of the step that led to it; coverage (T, 1) that the action led to;
img (T, size, size, 3) uint8, drawn from the stored state.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim2real_aug.data.stores import is_zip, open_store, partial_folder
from sim2real_aug.data.writer import ReplayBufferWriter
from sim2real_aug.envs.geometry import keypoints
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.rendering import Renderer
from sim2real_aug.errors import BadInput
from sim2real_aug.runs import differing_keys

Episode = dict[str, NDArray[Any]]
ROWS = ("state", "action", "keypoint", "n_contacts", "coverage")


class EpisodeRecorder:
    """Steps an environment that was just reset, and keeps a row a step.

    Make the environment with obs_type "state": nothing is drawn then.
    """

    def __init__(self, env: PushTEnv) -> None:
        self._env = env
        self._contacts = 0
        self._rows: list[tuple[ArrayLike, ...]] = []

    def __len__(self) -> int:
        """Steps so far."""
        return len(self._rows)

    def step(self, action: ArrayLike) -> bool:
        """Act for 0.1 s; action (2,) is the pusher's target, window units. True when the goal is covered."""
        state = self._env.state
        _, _, terminated, _, info = self._env.step(action)
        self._rows.append((state, action, keypoints(state[2:]), [self._contacts], [info["coverage"]]))
        self._contacts = info["n_contacts"]
        return terminated

    def arrays(self) -> Episode:
        """All but the frames, float32, by the names in ROWS. There must have been a step."""
        columns = zip(*self._rows, strict=True)
        return {name: np.array(column, np.float32) for name, column in zip(ROWS, columns, strict=True)}


def draw_states(renderer: Renderer, states: NDArray[Any], size: int) -> NDArray[np.uint8]:
    """The frames (T, size, size, 3) of states (T, 5)."""
    return np.stack([renderer.image(state, size) for state in states])


def open_writer(
    out: str | Path, command: str, made_with: Mapping[str, Any], zarr_format: int, overwrite: bool = False
) -> ReplayBufferWriter:
    """A writer that continues the store at `out`, or begins it with the root attribute `command`: `made_with`.

    Raises BadInput when something else stands there, unless `overwrite`.
    """
    begun = partial_folder(out) if is_zip(out) else Path(out)
    if begun.exists() and not overwrite:
        try:
            attrs = dict(open_store(begun).attrs)
        except BadInput:
            attrs = {}
        check_origin(out, attrs, command, made_with)  # before `resume`, which cuts off what is unfinished
        return ReplayBufferWriter.resume(out)
    return ReplayBufferWriter.create(out, zarr_format, overwrite, attrs={command: dict(made_with)})


def check_origin(
    out: str | Path, attrs: Mapping[str, Any], command: str, made_with: Mapping[str, Any]
) -> None:
    """Raises BadInput unless a store with root attributes `attrs` was made by `command` with these settings."""
    if command not in attrs:
        raise BadInput(f"{out} exists and was not made by {command}; choose another path, or --overwrite")
    changed = differing_keys({key: attrs[command].get(key) for key in made_with}, dict(made_with))
    if changed:
        raise BadInput(
            f"{out} was made with another {', '.join(changed)}; choose another path, or --overwrite"
        )
