"""Demonstrations by hand: the pusher follows the mouse, and each finished episode is appended to a store.

As in diffusion_policy's demo collector, the pusher follows once the mouse came within 30 units of it, and a
restarted episode starts where it started before. Departures: after a pause the mouse has to come near again,
so that the target never jumps; an episode also ends after `max_steps`.

The logic only: the window is behind the `Window` protocol, in `teleop_window`.
`sim2real-aug teleop demos.zarr --episodes 20`
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.stores import is_zip
from sim2real_aug.envs.push_t import SUCCESS_THRESHOLD, PushTEnv
from sim2real_aug.envs.recorder import Episode, EpisodeRecorder, draw_states, open_writer
from sim2real_aug.envs.rendering import Renderer, episode_renderer, make_renderer, scene_records
from sim2real_aug.envs.simulate import summarise
from sim2real_aug.envs.starts import CLASSIC, StartDistribution
from sim2real_aug.errors import BadInput, below_least
from sim2real_aug.progress import say
from sim2real_aug.seeding import derive_seed

COMMAND = "teleop"  # also the root attribute that says how a store was made
NEAR = 30.0  # window units: the mouse takes hold of the pusher from here
CONTROL_RATE = 10.0  # control steps a second of the published demonstrations
DRAWING_SHARE = 0.5  # of a control step, at most, goes into the picture
SAVED_AT_ONCE = 32  # frames drawn between two looks at the window, so that it stays alive

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TeleopSettings:
    """What to record, and the window; see configs/teleop.yaml.

    Raises BadInput that lists every value out of range.
    """

    episodes: int = 20
    domain: str = "flat"
    start: StartDistribution = CLASSIC
    seed: int = 0
    size: int = 96
    max_steps: int = 300
    zarr_format: int = 2
    window: int = 768
    rate: float = CONTROL_RATE
    config_dir: str | None = None

    def __post_init__(self) -> None:
        wrong = below_least(self, episodes=1, size=8, max_steps=1, window=128, rate=1)
        if self.zarr_format not in (2, 3):
            wrong.append(f"zarr_format must be 2 or 3; got {self.zarr_format}")
        if wrong:
            raise BadInput("; ".join(wrong))
        make_renderer(self.domain, config_dir=self.config_dir)

    @property
    def made_with(self) -> dict[str, Any]:
        """What the recorded episodes depend on, besides the hand; as JSON has it."""
        # The rest is how they were recorded: a longer run begins with the episodes of a shorter one.
        names = ("domain", "start", "seed", "size", "max_steps", "zarr_format")
        made_with = {name: value for name, value in asdict(self).items() if name in names}
        scenes = scene_records([self.domain], self.config_dir)
        return json.loads(json.dumps({**made_with, "scenes": scenes} if scenes else made_with))


class Mode(Enum):
    """What the session waits for; the value is what the user reads."""

    WAITING = "bring the mouse to the pusher to start"
    RUNNING = "push the T onto the goal"
    PAUSED = "paused: Space to go on"
    SAVING = "saving ..."


@dataclass(frozen=True)
class View:
    """What the window shows: a state (5,), its picture (side, side, 3) uint8, and where things stand."""

    image: NDArray[np.uint8]
    state: Array
    mode: Mode
    status: str


@dataclass(frozen=True)
class Signals:
    """What the user did since the last look. mouse: (2,) window units, None before it was ever seen."""

    mouse: Array | None = None
    pause: bool = False
    restart: bool = False
    quit: bool = False


class Window(Protocol):
    def exchange(self, view: View) -> Signals:
        """Show `view`, wait for the next control step, return what the user did meanwhile.

        Once it has said `quit` it says so for ever.
        """


class End(Enum):
    """How one attempt at an episode ended."""

    DONE = "done"
    RESTART = "restart"
    QUIT = "quit"


def teleop(
    out: str | Path, settings: TeleopSettings, window: Window, overwrite: bool = False
) -> dict[str, Any]:
    """Record the demonstrations that the store `out` lacks; returns a summary.

    The same call continues where the last one stopped; an episode that was not finished is not kept.
    Raises BadInput when `out` was not made with these settings, unless `overwrite`.
    """
    if is_zip(out):
        raise BadInput(
            f"teleop adds to its store in many sittings: give a folder such as demos.zarr, not {out}; "
            "sim2real-aug convert packs it afterwards"
        )
    writer = open_writer(out, COMMAND, settings.made_with, settings.zarr_format, overwrite)
    if writer.n_episodes >= settings.episodes:
        say(f"{out} holds {writer.n_episodes} episodes already; a larger --episodes adds to them")
        return {**summarise(out), "asked": settings.episodes}
    try:
        side = _drawing_side(settings)
        while writer.n_episodes < settings.episodes:
            episode = demonstrate(settings, writer.n_episodes, side, window)
            if episode is None:
                say(f"{writer.n_episodes} of {settings.episodes} episodes; the same command continues")
                break
            writer.append_episode(episode)
            say(f"saved episode {writer.n_episodes} of {settings.episodes}: {outcome(episode)}")
    finally:
        recorded = writer.n_episodes
        if not recorded:
            writer.discard()
    found = summarise(out) if recorded else {"path": str(out), "episodes": 0, "frames": 0}
    return {**found, "asked": settings.episodes}


def demonstrate(settings: TeleopSettings, index: int, side: int, window: Window) -> Episode | None:
    """Episode `index` as the user drives it, frames included; None when they quit.

    side: of the picture in the window, pixels.
    """
    renderer = episode_renderer((settings.domain,), settings.seed, index, settings.config_dir)
    env = PushTEnv("state", start=settings.start)
    while True:
        env.reset(seed=derive_seed(settings.seed, "start", index))
        recorder = EpisodeRecorder(env)
        attempt = Attempt(
            window, env, recorder, renderer, side, f"episode {index + 1} of {settings.episodes}"
        )
        end = drive(attempt, settings.max_steps)
        if end is End.QUIT:
            return None
        if end is End.DONE:
            rows = recorder.arrays()
            return {"img": _frames(attempt, rows["state"], settings.size), **rows}


@dataclass(frozen=True)
class Attempt:
    """One attempt at an episode, and the window before it."""

    window: Window
    env: PushTEnv
    recorder: EpisodeRecorder
    renderer: Renderer
    side: int
    title: str

    def exchange(self, mode: Mode) -> Signals:
        """Show where the attempt stands; what the user did meanwhile."""
        state = self.env.state
        status = f"{self.title}   step {len(self.recorder)}   coverage {self.env.coverage:.2f}"
        return self.window.exchange(View(self.renderer.image(state, self.side), state, mode, status))


def drive(attempt: Attempt, max_steps: int) -> End:
    """Steer until the goal is covered, `max_steps` are over, or the user ends the attempt."""
    mode = Mode.WAITING
    while True:
        signals = attempt.exchange(mode)
        if signals.quit:
            return End.QUIT
        if signals.restart:
            return End.RESTART
        mode = next_mode(mode, signals, attempt.env.state[:2])
        if mode is Mode.RUNNING:
            assert signals.mouse is not None
            covered = attempt.recorder.step(signals.mouse.astype(np.float32))
            if covered or len(attempt.recorder) == max_steps:
                return End.DONE


def next_mode(mode: Mode, signals: Signals, agent: Array) -> Mode:
    """Pausing stops time; it goes on once the mouse is at the pusher, agent (2,), again."""
    if signals.pause:
        mode = Mode.WAITING if mode is Mode.PAUSED else Mode.PAUSED
    near = signals.mouse is not None and bool(np.linalg.norm(signals.mouse - agent) < NEAR)
    return Mode.RUNNING if mode is Mode.WAITING and near else mode


def outcome(episode: Episode) -> str:
    """`success in 97 steps`, or how much was covered at best."""
    best, steps = float(episode["coverage"].max()), len(episode["action"])
    return (
        f"success in {steps} steps"
        if best > SUCCESS_THRESHOLD
        else f"{best:.2f} covered at best, {steps} steps"
    )


def affordable_side(renderer: Renderer, state: Array, least: int, most: int, seconds: float) -> int:
    """The side in pixels, `least` to `most`, of the picture that `renderer` draws in about `seconds`.

    From the time for `least`: a picture costs as its pixels do, or less.
    """
    spent = drawing_time(renderer, state, least)
    return int(np.clip(least * (seconds / max(spent, 1e-9)) ** 0.5, least, most))


def drawing_time(renderer: Renderer, state: Array, side: int) -> float:
    """Seconds that a picture takes, the best of three after one that builds what they reuse."""
    spent = []
    for _ in range(4):
        start = time.perf_counter()
        renderer.image(state, side)
        spent.append(time.perf_counter() - start)
    return min(spent[1:])


def _drawing_side(settings: TeleopSettings) -> int:
    """The side of the window's picture; says so where the domain is too slow for the rate even at its least."""
    renderer = make_renderer(settings.domain, settings.seed, settings.config_dir)
    state = PushTEnv("state").state
    least, seconds = min(settings.size, settings.window), DRAWING_SHARE / settings.rate
    side = affordable_side(renderer, state, least, settings.window, seconds)
    spent = drawing_time(renderer, state, side) if side == least else seconds
    if spent > 1 / settings.rate:
        say(
            f"{settings.domain} takes {spent:.2f} s a picture here: {1 / spent:.1f} control steps a second "
            f"instead of {settings.rate:g}; each is {1 / CONTROL_RATE:g} s of the simulation all the same"
        )
    return side


def _frames(attempt: Attempt, states: NDArray[np.float32], size: int) -> NDArray[np.uint8]:
    """The frames (T, size, size, 3) to store, while the window tells that they are being drawn."""
    drawn = []
    for start in range(0, len(states), SAVED_AT_ONCE):
        attempt.exchange(Mode.SAVING)
        drawn.append(draw_states(attempt.renderer, states[start : start + SAVED_AT_ONCE], size))
    return np.concatenate(drawn)
