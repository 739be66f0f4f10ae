"""Demonstrations by hand: a hand of our own in place of the window, and what ends up in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.config import compose
from sim2real_aug.config import settings as settings_of
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs import teleop as module
from sim2real_aug.envs.expert import Expert
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.envs.teleop import Mode, Signals, TeleopSettings, View, affordable_side, next_mode, teleop
from sim2real_aug.errors import BadInput

SHORT = TeleopSettings(episodes=2, size=24, max_steps=6, window=128, rate=100)
AGENT = np.array([200.0, 300.0])


class Hand:
    """A window that answers with what `move` makes of each view, and quits after `looks` looks."""

    def __init__(self, move: Callable[[View], Signals], looks: int = 10_000) -> None:
        self.move, self.looks, self.seen = move, looks, list[View]()

    def exchange(self, view: View) -> Signals:
        self.seen.append(view)
        return Signals(quit=True) if len(self.seen) > self.looks else self.move(view)


def to_the_right(view: View) -> Signals:
    """Always 20 units to the right of the pusher: near enough to take hold of it."""
    return Signals(mouse=view.state[:2] + np.array([20.0, 0.0]))


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_the_shipped_configuration_is_the_default() -> None:
    assert settings_of(TeleopSettings, compose("teleop")) == TeleopSettings()


@pytest.mark.parametrize(
    ("mode", "offset", "pause", "expected"),
    [
        (Mode.WAITING, (29.0, 0.0), False, Mode.RUNNING),
        (Mode.WAITING, (18.0, 24.1), False, Mode.WAITING),  # 18, 24, 30 is a right triangle
        (Mode.WAITING, None, False, Mode.WAITING),
        (Mode.RUNNING, (300.0, 0.0), False, Mode.RUNNING),
        (Mode.RUNNING, (0.0, 0.0), True, Mode.PAUSED),
        (Mode.PAUSED, (0.0, 0.0), False, Mode.PAUSED),
        (Mode.PAUSED, (0.0, 5.0), True, Mode.RUNNING),
        (Mode.PAUSED, (0.0, 90.0), True, Mode.WAITING),
    ],
)
def test_when_the_pusher_follows(
    mode: Mode, offset: tuple[float, float] | None, pause: bool, expected: Mode
) -> None:
    mouse = None if offset is None else AGENT + offset
    assert next_mode(mode, Signals(mouse, pause), AGENT) is expected


def test_what_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "hand.zarr"
    hand = Hand(to_the_right)
    summary = teleop(path, SHORT, hand)
    assert (summary["episodes"], summary["frames"], summary["asked"]) == (2, 12, 2)
    store = ReplayBuffer.open(path)
    assert store.episode_ends.tolist() == [6, 12]
    shapes = {name: (store.array(name).shape, str(store.array(name).dtype)) for name in store.names}
    assert shapes == {
        "img": ((12, 24, 24, 3), "uint8"),
        "state": ((12, 5), "float32"),
        "action": ((12, 2), "float32"),
        "keypoint": ((12, 9, 2), "float32"),
        "n_contacts": ((12, 1), "float32"),
        "coverage": ((12, 1), "float32"),
    }
    states, actions = store.read("state"), store.read("action")
    np.testing.assert_allclose(actions, states[:, :2] + (20.0, 0.0), atol=1e-4)
    env = PushTEnv()
    env.reset(options={"reset_to_state": states[6]})
    for frame in range(6, 12):
        np.testing.assert_allclose(env.state, states[frame], atol=1e-2)
        np.testing.assert_array_equal(
            store.images(frame, frame + 1)[0], FlatRenderer().image(states[frame], 24)
        )
        env.step(actions[frame])
    attribute = store.attrs["teleop"]
    assert (attribute["domain"], attribute["seed"], attribute["max_steps"]) == ("flat", 0, 6)
    assert {"episodes", "window", "rate", "config_dir"}.isdisjoint(attribute)
    coverage = store.read("coverage")[4, 0]
    assert hand.seen[5].status == f"episode 1 of 2   step 5   coverage {coverage:.2f}"
    assert hand.seen[0].mode is Mode.WAITING
    assert hand.seen[-1].mode is Mode.SAVING


def test_success_ends_an_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The expert at the mouse; it only takes hold of the pusher first, as everyone has to."""
    expert = Expert(3, 0)

    def move(view: View) -> Signals:
        return Signals(mouse=view.state[:2] if view.mode is Mode.WAITING else expert(view.state))

    summary = teleop(tmp_path / "good.zarr", replace(SHORT, episodes=1, max_steps=600), Hand(move))
    assert summary["success_rate"] == 1.0
    coverage = ReplayBuffer.open(tmp_path / "good.zarr").read("coverage")[:, 0]
    assert coverage[-1] > 0.95
    assert coverage[:-1].max() <= 0.95
    assert f"saved episode 1 of 1: success in {len(coverage)} steps" in capsys.readouterr().err


def test_time_stands_still_while_paused(tmp_path: Path) -> None:
    keys = {2: Signals(pause=True), 6: Signals(pause=True)}
    away = range(3, 9)

    def move(view: View) -> Signals:
        look = len(hand.seen) - 1
        offset = np.array([100.0 if look in away else 20.0, 0.0])
        return replace(keys.get(look, Signals()), mouse=view.state[:2] + offset)

    hand = Hand(move, looks=10)
    teleop(tmp_path / "none.zarr", SHORT, hand)
    modes = [view.mode.name for view in hand.seen]
    assert modes == ["WAITING", *["RUNNING"] * 2, *["PAUSED"] * 4, *["WAITING"] * 3, "RUNNING"]
    steps = [int(view.status.split("step ")[1].split()[0]) for view in hand.seen]
    assert steps == [0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3]
    assert len({view.state.tobytes() for view in hand.seen[2:10]}) == 1


def test_a_restart_forgets_the_attempt_and_starts_alike(tmp_path: Path) -> None:
    plain, restarted = tmp_path / "plain.zarr", tmp_path / "restarted.zarr"
    teleop(plain, SHORT, Hand(to_the_right))
    looks = iter(range(10_000))

    def change_of_mind(view: View) -> Signals:
        look = next(looks)
        mouse = view.state[:2] + ((0.0, 25.0) if look < 4 else (20.0, 0.0))
        return Signals(mouse=mouse, restart=look == 4)

    teleop(restarted, SHORT, Hand(change_of_mind))
    assert content(restarted) == content(plain)


def test_a_session_continues(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    teleop(whole, SHORT, Hand(to_the_right))
    summary = teleop(parts, SHORT, Hand(to_the_right, looks=10))  # 6 steps, a look while saving, 3 steps
    assert (summary["episodes"], summary["frames"]) == (1, 6)
    assert teleop(parts, SHORT, Hand(to_the_right))["episodes"] == 2
    assert content(parts) == content(whole)
    idle = Hand(to_the_right)
    assert teleop(parts, SHORT, idle)["frames"] == 12
    assert not idle.seen, "a store that holds its episodes opens no window"
    assert teleop(parts, replace(SHORT, episodes=3, window=200, rate=50), Hand(to_the_right))["episodes"] == 3


def test_a_session_without_an_episode_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "none.zarr"
    assert teleop(path, SHORT, Hand(to_the_right, looks=4))["episodes"] == 0
    assert not path.exists()


def test_randomized_has_a_scene_an_episode(tmp_path: Path) -> None:
    hand = Hand(to_the_right)
    teleop(tmp_path / "r.zarr", replace(SHORT, domain="randomized"), hand)
    images = ReplayBuffer.open(tmp_path / "r.zarr").images().astype(int)
    assert np.abs(np.median(images[0], (0, 1)) - np.median(images[6], (0, 1))).max() > 2


def test_nothing_existing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "hand.zarr"
    teleop(path, SHORT, Hand(to_the_right))
    before = content(path)
    with pytest.raises(BadInput, match=r"made with another seed, size; .*--overwrite"):
        teleop(path, replace(SHORT, seed=4, size=32), Hand(to_the_right))
    with pytest.raises(BadInput, match=r"a folder such as demos\.zarr"):
        teleop(tmp_path / "hand.zarr.zip", SHORT, Hand(to_the_right))
    assert content(path) == before


def test_settings_are_checked() -> None:
    with pytest.raises(
        BadInput, match="episodes must be at least 1; got 0; window must be at least 128; got 9"
    ):
        TeleopSettings(episodes=0, window=9)
    with pytest.raises(BadInput, match="Did you mean 'flat'"):
        TeleopSettings(domain="flet")


@pytest.mark.parametrize(("spent", "side"), [(0.01, 192), (0.0001, 768), (0.5, 96)])
def test_a_picture_is_as_large_as_time_allows(
    spent: float, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the time for 96 pixels a side is enough for 192."""
    monkeypatch.setattr(module, "drawing_time", lambda *_: spent)
    assert affordable_side(make_renderer("flat"), np.zeros(5), 96, 768, 0.04) == side


def test_a_slow_domain_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "drawing_time", lambda *_: 0.25)
    hand = Hand(to_the_right, looks=1)
    teleop(tmp_path / "slow.zarr", replace(SHORT, rate=10), hand)
    assert (
        "flat takes 0.25 s a picture here: 4.0 control steps a second instead of 10"
        in capsys.readouterr().err
    )
    assert hand.seen[0].image.shape == (24, 24, 3)
