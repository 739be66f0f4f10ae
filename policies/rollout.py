"""Robot episodes of a policy in Push-T, all stepped together with one call of the policy for all.

Frames are drawn only when the policy looks, and once: the last O states of each chunk of N actions.

Legend: E episodes; O observation steps; N actions executed a call; state (5,) = agent x, y, block x, y,
angle; coverage 0..1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from sim2real_aug.envs.push_t import SUCCESS_THRESHOLD, PushTEnv
from sim2real_aug.envs.rendering import Renderer, make_renderer
from sim2real_aug.policies.diffusion import PolicySettings
from sim2real_aug.policies.observation import Observation
from sim2real_aug.seeding import derive_seed, torch_generator


class Policy(Protocol):
    """What is evaluated."""

    settings: PolicySettings

    def act(self, observation: Observation, generators: Sequence[Generator]) -> Tensor:
        """The actions to execute, (E, N, 2) in window units; row e draws from generators[e] only."""


@dataclass(frozen=True)
class Episode:
    """One robot episode: states (steps + 1, 5) float64, coverages (steps + 1,), the start included."""

    seed: int
    states: NDArray[np.float64]
    coverages: NDArray[np.float64]

    @property
    def steps(self) -> int:
        return len(self.states) - 1

    @property
    def success(self) -> bool:
        """Coverage of at least 0.95 at any time."""
        return self.max_coverage >= SUCCESS_THRESHOLD

    @property
    def max_coverage(self) -> float:
        return float(self.coverages.max())

    @property
    def final_coverage(self) -> float:
        return float(self.coverages[-1])


class _Running:
    """An episode under way."""

    def __init__(self, seed: int, renderer: Renderer) -> None:
        self.seed, self.renderer = seed, renderer
        self.env = PushTEnv(obs_type="state")
        self.env.reset(seed=seed)
        self.states, self.coverages = [self.env.state], [self.env.coverage]
        self.frames: dict[int, NDArray[np.uint8]] = {}  # of the last look, by step
        self.done = self.coverages[0] >= SUCCESS_THRESHOLD

    def observe(self, settings: PolicySettings) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Frames (O, H, W, 3) and agent positions (O, 2); before the start, the start is repeated."""
        last = [max(index, 0) for index in range(len(self.states) - settings.n_obs_steps, len(self.states))]
        self.frames = {
            index: self.frames[index]
            if index in self.frames  # looked at before: chunks shorter than the observation overlap
            else self.renderer.image(self.states[index], settings.image_size)
            for index in dict.fromkeys(last)
        }
        seen = np.stack([self.states[index] for index in last])
        frames = np.stack([self.frames[index] for index in last])
        return frames, seen[:, : settings.state_dim].astype(np.float32)

    def execute(self, actions: NDArray[np.float32], max_steps: int) -> int:
        """Take actions (N, 2) until the episode is over; returns how many were taken."""
        before = len(self.states)
        for action in actions:
            if self.done:
                break
            _, _, terminated, _, info = self.env.step(action)
            self.states.append(self.env.state)
            self.coverages.append(float(info["coverage"]))
            over = terminated or self.coverages[-1] >= SUCCESS_THRESHOLD
            self.done = over or len(self.states) > max_steps
        return len(self.states) - before

    def episode(self) -> Episode:
        return Episode(self.seed, np.stack(self.states), np.array(self.coverages))


def save_episodes(episodes: Sequence[Episode], path: Path) -> None:
    """Write all states and coverages, so that episodes can be drawn again; a crash leaves no half a file."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        np.savez_compressed(
            file,
            seeds=[episode.seed for episode in episodes],
            lengths=[len(episode.states) for episode in episodes],
            states=np.concatenate([episode.states for episode in episodes]),
            coverages=np.concatenate([episode.coverages for episode in episodes]),
        )
    temporary.replace(path)


def load_episodes(path: Path) -> list[Episode]:
    """What `save_episodes` wrote."""
    with np.load(path) as saved:
        ends = np.cumsum(saved["lengths"])[:-1]
        states, coverages = np.split(saved["states"], ends), np.split(saved["coverages"], ends)
        return [
            Episode(int(seed), *rest) for seed, *rest in zip(saved["seeds"], states, coverages, strict=True)
        ]


def episode_renderers(domain: str, seeds: Sequence[int], config_dir: str | None = None) -> list[Renderer]:
    """How the episode of each seed is drawn; in the domain `randomized` each has a scene of its own."""
    if domain == "randomized":
        return [make_renderer(domain, derive_seed(seed, "scene")) for seed in seeds]
    return [make_renderer(domain, config_dir=config_dir)] * len(seeds)


def run_episodes(
    policy: Policy,
    domain: str,
    seeds: Sequence[int],
    max_steps: int,
    on_steps: Callable[[int, str], None] = lambda steps, note: None,
    config_dir: str | None = None,
) -> list[Episode]:
    """One episode a seed; starts, scenes and the policy's noise follow from the seed.

    on_steps: called with the control steps by which the work has come nearer its end, and a note.
    config_dir: a folder of your own scenes, as --config-dir.
    """
    renderers = episode_renderers(domain, seeds, config_dir)
    running = [_Running(seed, renderer) for seed, renderer in zip(seeds, renderers, strict=True)]
    chunk = 0
    while active := [one for one in running if not one.done]:
        frames, states = zip(*(one.observe(policy.settings) for one in active), strict=True)
        observation = Observation(torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(states)))
        noise = [torch_generator(one.seed, "policy noise", chunk) for one in active]
        actions = policy.act(observation, noise).cpu().numpy()
        taken = sum(one.execute(plan, max_steps) for one, plan in zip(active, actions, strict=True))
        spared = sum(max_steps + 1 - len(one.states) for one in active if one.done)
        on_steps(taken + spared, f"{sum(one.done for one in running)} of {len(running)} episodes done")
        chunk += 1
    return [one.episode() for one in running]
