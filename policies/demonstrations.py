"""Demonstrations in memory: the frames, states and actions of the chosen episodes, and the windows over them.

Frames are decoded once and kept as uint8 (a 96x96 frame takes 27 kB; an edited store doubles that), so that
a training step reads no disk.

Legend: n frames of the chosen episodes, one after the other; W windows of P steps; B items of a batch; O
observation steps; H W pixels; S state and A action dimensions, window units 0..512.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sim2real_aug.augment.provenance import FREE
from sim2real_aug.data.augmented import draws_edit
from sim2real_aug.data.replay_buffer import ATTRIBUTE, ReplayBuffer
from sim2real_aug.data.sequences import SequenceSampler, evenly_spaced, split_episodes
from sim2real_aug.errors import BadInput
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.observation import Observation
from sim2real_aug.progress import Progress, progress, say
from sim2real_aug.seeding import numpy_generator

FRAMES_AT_ONCE = 512
SAMPLED_FRAMES = 512
FEW = 0.9  # of a store's frames
FRAMES_COMPARED = 8
REQUIRED = ("img", "state", "action")
TRAIN, HELD_OUT = "train", "held out"
ELSEWHERE = "; keep your own training, on AugmentedDataset or a copy by `convert --like`"
LANDMARKS = "keypoint"  # points of the block in window units, as the published demonstrations have them


@dataclass(frozen=True)
class Demonstrations:
    """The frames of some episodes and the windows over them.

    frames: (n, H, W, 3) uint8. edited: the same, or None. states: (n, S) float32. actions: (n, A) float32.
    landmarks: (n, L) float32 of `data/keypoint`, or None where the store has none. windows: (W, P) row numbers of the
    arrays above.
    passed: (n,) bool, whether an edit may be shown; where the quality gate refused it, `edited` holds the original.
    """

    frames: NDArray[np.uint8]
    edited: NDArray[np.uint8] | None
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None
    windows: NDArray[np.int64]
    n_obs_steps: int
    passed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, items: NDArray[np.int64], use_edited: NDArray[np.bool_]) -> tuple[Observation, Tensor]:
        """The observation and the actions (B, P, A) of windows `items` (B,).

        use_edited: (B,), which items show edited frames. The frames of one item are all edited or all
        original, as a robot sees one world at a time: original where the gate refused one of them.
        """
        rows = self.windows[items]
        seen = rows[:, : self.n_obs_steps]
        frames = self.frames[seen]
        if self.edited is not None:
            shown = use_edited & self.passed[seen].all(1)
            frames[shown] = self.edited[seen[shown]]
        observation = Observation(torch.from_numpy(frames), torch.from_numpy(self.states[seen]))
        return observation, torch.from_numpy(self.actions[rows])

    def seen_landmarks(self, items: NDArray[np.int64]) -> Tensor | None:
        """The landmarks (B, O, L) of the frames that windows `items` (B,) show."""
        if self.landmarks is None:
            return None
        return torch.from_numpy(self.landmarks[self.windows[items, : self.n_obs_steps]])

    def frame_sample(self, augmented_probability: float) -> Tensor:
        """At most some hundred frames (m, H, W, 3) spread over all episodes: of originals and edits, as many of each,
        unless training shows one kind only."""
        every = slice(None, None, max(1, len(self.frames) // SAMPLED_FRAMES))
        shown = [self.frames] if self.edited is None or augmented_probability < 1 else []
        if self.edited is not None and augmented_probability > 0:
            shown.append(self.edited)
        return torch.from_numpy(np.concatenate([frames[every] for frames in shown]))


@dataclass(frozen=True)
class BatchOrder:
    """Which windows each training step takes, from (seed, step) alone: shuffled passes, batches always full.

    items: number of windows. augmented_probability: chance that a window comes with its edited frames.
    """

    items: int
    batch_size: int
    augmented_probability: float
    seed: int

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(item numbers (B,), whether each uses its edited frames (B,)) of `step`, counted from 0."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(positions, self.items)
        items = np.empty(self.batch_size, np.int64)
        edited = np.empty(self.batch_size, np.bool_)
        for epoch in np.unique(epochs):
            inside = epochs == epoch
            items[inside] = self._pass(int(epoch))[places[inside]]
            edited[inside] = use_edited(items[inside], self.augmented_probability, self.seed, int(epoch))
        return items, edited

    def _pass(self, epoch: int) -> NDArray[np.int64]:
        return numpy_generator(self.seed, "order", epoch).permutation(self.items)


def use_edited(items: NDArray[np.int64], probability: float, seed: int, epoch: int) -> NDArray[np.bool_]:
    """Which of the windows `items` (B,) show their edited frames in this pass: AugmentedDataset's draw."""
    return np.array([draws_edit(seed, epoch, int(item), probability) for item in items], np.bool_)


def open_stores(
    dataset: str | Path, augmented: str | Path | None, policy: PolicySettings, val_fraction: float
) -> tuple[ReplayBuffer, ReplayBuffer | None]:
    """The store and its edit, checked against each other and the policy; no frame is decoded.

    Raises BadInput when the store does not fit the policy, when it has too few or too short episodes, or when
    `augmented` is not an edit of `dataset`.
    """
    store = ReplayBuffer.open(dataset)
    check_store(store, policy)
    edits = None if augmented is None else ReplayBuffer.open(augmented)
    if edits is not None:
        check_edits(store, edits)
    needed = 2 if val_fraction else 1
    if store.n_episodes < needed:
        raise BadInput(
            f"{store.path} has {store.n_episodes} episode; training with val_fraction {val_fraction} needs "
            f"at least {needed}"
        )
    shortest = policy.horizon - (policy.n_obs_steps - 1) - (policy.n_action_steps - 1)
    if np.diff(store.episode_ends, prepend=0).min() < shortest:
        raise BadInput(
            f"{store.path} has an episode of {np.diff(store.episode_ends, prepend=0).min()} frames; with "
            f"horizon {policy.horizon} every episode needs at least {shortest}"
        )
    return store, edits


def input_hash(store: ReplayBuffer) -> str:
    """What a policy learns from a store, whatever its place (hex): its content, and how its frames were edited."""
    made = {key: value for key, value in store.attrs.get(ATTRIBUTE, {}).items() if key not in (*FREE, "version")}
    described = f"{store.content_hash()} {json.dumps(made, sort_keys=True)}"
    return hashlib.blake2b(described.encode(), digest_size=16).hexdigest()


def load_demonstrations(
    store: ReplayBuffer,
    edits: ReplayBuffer | None,
    policy: PolicySettings,
    max_train_episodes: int | None,
    val_fraction: float,
    seed: int,
    use_gate: bool = True,
    wanted: Collection[str] = (TRAIN, HELD_OUT),
) -> tuple[Demonstrations, Demonstrations]:
    """Training and validation demonstrations of the opened stores, disjoint in episodes.

    use_gate: original frames where an edit failed the quality gate; False takes every edit. wanted: of which of the
    two frames are read; the other comes without episodes.
    """
    split = split_episodes(store.n_episodes, val_fraction, max_train_episodes, seed)
    chosen = [part if name in wanted else part[:0] for name, part in zip((TRAIN, HELD_OUT), split, strict=True)]
    passed = np.ones(store.n_frames, np.bool_)
    if edits is not None and use_gate:
        passed = edits.passed()
        _say_how_many(edits, passed)
    lengths = np.diff(store.episode_ends, prepend=0)
    total = int(sum(lengths[episodes].sum() for episodes in chosen)) * (1 if edits is None else 2)
    with progress("reading frames", total, unit="frames") as bar:
        train, val = (_load(store, edits, episodes, policy, passed, bar) for episodes in chosen)
    return train, val


def _say_how_many(edits: ReplayBuffer, passed: NDArray[np.bool_]) -> None:
    if passed.mean() < FEW:
        told = f"{passed.sum()} of its {edits.n_frames} frames are edits that passed the gate"
        say(f"{edits.path}: {told}; windows that show any other are left as simulated")


def check_store(store: ReplayBuffer, policy: PolicySettings) -> None:
    """Raise BadInput unless the store has what the policy learns from, in the shapes that it expects."""
    for name in REQUIRED:
        if name not in store.names:
            raise BadInput(f"{store.path} has no data/{name}; a policy learns from {', '.join(REQUIRED)}{ELSEWHERE}")
    height, width = store.array("img").shape[1:3]
    if height != width:
        raise BadInput(f"{store.path}: data/img is {height}x{width} and policies here take square frames{ELSEWHERE}")
    if (height, width) != (policy.image_size, policy.image_size):
        raise BadInput(
            f"{store.path}: data/img is {height}x{width} and the policy takes {policy.image_size}x"
            f"{policy.image_size}; set policy.model.image_size (and crop_size) to the frames' size"
        )
    states, actions = store.array("state").shape[1:], store.array("action").shape[1:]
    if len(states) != 1 or states[0] < policy.state_dim:
        raise BadInput(
            f"{store.path}: data/state is (N, {', '.join(map(str, states))}); the policy takes its first "
            f"{policy.state_dim} columns (policy.model.state_dim)"
        )
    if actions != (policy.action_dim,):
        raise BadInput(
            f"{store.path}: data/action is (N, {', '.join(map(str, actions))}); the policy predicts "
            f"(N, {policy.action_dim}) (policy.model.action_dim)"
        )


def check_edits(store: ReplayBuffer, edits: ReplayBuffer) -> None:
    """Raise BadInput unless `edits` is of data/img, with the same episodes, frame size and actions as `store`."""
    if "img" not in edits.names:
        raise BadInput(f"{edits.path} has no data/img; give the store that augment wrote")
    edits.require_edits_of("img")
    same = np.array_equal(store.episode_ends, edits.episode_ends)
    if not same or edits.array("img").shape != store.array("img").shape:
        raise BadInput(
            f"{edits.path} ({edits.n_episodes} episodes, frames {edits.array('img').shape}) is not "
            f"an edit of {store.path} ({store.n_episodes} episodes, frames {store.array('img').shape})"
        )
    looked_at = evenly_spaced(store.n_frames, FRAMES_COMPARED)
    if ATTRIBUTE not in edits.attrs and np.array_equal(store.images_at(looked_at), edits.images_at(looked_at)):
        raise BadInput(f"{edits.path} shows the frames of {store.path} as they are; give the store that augment wrote")
    if "action" in edits.names and not np.array_equal(store.read("action"), edits.read("action")):
        raise BadInput(f"{edits.path} is not an edit of {store.path}: their actions differ")


def _load(
    store: ReplayBuffer,
    edits: ReplayBuffer | None,
    episodes: NDArray[np.int64],
    policy: PolicySettings,
    passed: NDArray[np.bool_],
    bar: Progress,
) -> Demonstrations:
    parts = [store.episode(int(episode)) for episode in episodes]
    ends = np.cumsum([part.stop - part.start for part in parts], dtype=np.int64)
    sampler = SequenceSampler(
        ends, policy.horizon, pad_before=policy.n_obs_steps - 1, pad_after=policy.n_action_steps - 1
    )
    frames = _frames(store, parts, bar)
    edited, shown = None, _chosen(passed, parts)
    if edits is not None:
        edited = _frames(edits, parts, bar)
        edited[~shown] = frames[~shown]
    states = _rows(store, "state", parts).astype(np.float32)[:, : policy.state_dim]
    actions = _rows(store, "action", parts).astype(np.float32)
    landmarks = None
    if LANDMARKS in store.names:
        points = _rows(store, LANDMARKS, parts).astype(np.float32)
        landmarks = points.reshape(len(points), math.prod(points.shape[1:]))
    return Demonstrations(frames, edited, states, actions, landmarks, sampler.indices, policy.n_obs_steps, shown)


def _frames(store: ReplayBuffer, parts: list[slice], bar: Progress) -> NDArray[np.uint8]:
    length = sum(part.stop - part.start for part in parts)
    frames = np.empty((length, *store.array("img").shape[1:]), np.uint8)
    row = 0
    for start, stop in _pieces(parts):
        frames[row : row + stop - start] = store.images(start, stop)
        row += stop - start
        bar.advance(stop - start)
    return frames


def _pieces(parts: list[slice]) -> Iterator[tuple[int, int]]:
    for part in parts:
        for start in range(part.start, part.stop, FRAMES_AT_ONCE):
            yield start, min(start + FRAMES_AT_ONCE, part.stop)


def _rows(store: ReplayBuffer, name: str, parts: list[slice]) -> NDArray[Any]:
    return _chosen(store.read(name), parts)


def _chosen(everything: NDArray[Any], parts: list[slice]) -> NDArray[Any]:
    return np.concatenate([everything[part] for part in parts] or [everything[:0]])
