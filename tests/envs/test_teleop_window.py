"""The window of teleop, on SDL's dummy screen, with events posted as a hand would make them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sim2real_aug.cli.app import run
from sim2real_aug.data import ReplayBuffer
from sim2real_aug.envs.teleop import Mode, Signals, View
from sim2real_aug.envs.teleop_window import INK, STRIP, PygameWindow, pygame, to_pixels, to_units

SHORT = ["--episodes", "2", "max_steps=5", "size=24", "window=256", "rate=100"]
VIEW = View(
    np.full((64, 64, 3), (10, 200, 30), np.uint8), np.array([128.0, 64, 0, 0, 0]), Mode.WAITING, "step 7"
)
RING = (255, 80, 60)


@pytest.fixture(autouse=True)
def _no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture
def window() -> Iterator[PygameWindow]:
    opened = PygameWindow(256, rate=1000)
    yield opened
    opened.close()


def press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def point_at(pixel: tuple[int, int]) -> None:
    pygame.event.post(pygame.event.Event(pygame.MOUSEMOTION, pos=pixel, rel=(0, 0), buttons=(0, 0, 0)))


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def test_pixels_and_units() -> None:
    """At 768 pixels a side a unit is one and a half pixels."""
    assert to_units((0, 767), 768).tolist() == pytest.approx([1 / 3, 512 - 1 / 3])
    assert to_units((383, 800), 768).tolist() == pytest.approx([256 - 1 / 3, 512])
    assert to_pixels(np.array([256.0, 100.0]), 768) == (384, 150)
    assert to_pixels(np.array([512.0, -3.0]), 768) == (767, 0)
    for pixel in ((0, 0), (13, 255), (200, 77)):
        assert to_pixels(to_units(pixel, 256), 256) == pixel


def test_what_is_shown(window: PygameWindow) -> None:
    window.exchange(VIEW)
    screen = pygame.display.get_surface()
    assert screen.get_size() == (256, 256 + STRIP)
    assert screen.get_at((250, 250))[:3] == (10, 200, 30)
    # The pusher at (128, 64) is at pixel (64, 32); the ring around it has 30 units = 15 pixels.
    assert screen.get_at((64 + 15, 32))[:3] == RING
    assert screen.get_at((64, 32))[:3] == (10, 200, 30)
    # The goal's outline: the bar's outer edge begins at 256 - 60 cos 45°, 213.6 units, pixel 106; at its middle, 128.
    assert screen.get_at((128, 128))[:3] == INK
    strip = pygame.surfarray.array3d(screen)[:, 256:]
    assert len(np.unique(strip.reshape(-1, 3), axis=0)) > 2, "there is text"


def test_what_is_heard(window: PygameWindow) -> None:
    assert window.exchange(VIEW) == Signals()
    point_at((10, 20))
    point_at((128, 0))
    press(pygame.K_SPACE)
    heard = window.exchange(VIEW)
    assert heard.mouse is not None
    assert heard.mouse.tolist() == [257.0, 1.0], "the last place counts"
    assert (heard.pause, heard.restart, heard.quit) == (True, False, False)
    press(pygame.K_r)
    heard = window.exchange(VIEW)
    assert (heard.pause, heard.restart, heard.quit) == (False, True, False)
    assert heard.mouse is not None
    assert heard.mouse.tolist() == [257.0, 1.0], "and it holds"


@pytest.mark.parametrize("how", ["q", "escape", "close"])
def test_quitting_is_for_good(window: PygameWindow, how: str) -> None:
    window.exchange(VIEW)
    if how == "close":
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    else:
        press({"q": pygame.K_q, "escape": pygame.K_ESCAPE}[how])
    assert window.exchange(VIEW).quit
    assert window.exchange(VIEW).quit


def test_the_rate_is_kept(window: PygameWindow) -> None:
    slow = PygameWindow(256, rate=20)
    slow.exchange(VIEW)
    start = time.monotonic()
    for _ in range(5):
        slow.exchange(VIEW)
    assert 0.2 < time.monotonic() - start < 0.6


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mouse goes to the pusher, then to the middle; then the user quits, and comes back."""
    real, looks = PygameWindow.exchange, []

    def exchange(self: PygameWindow, view: View) -> Signals:
        looks.append(view)
        point_at(to_pixels(view.state[:2] if view.mode is Mode.WAITING else np.full(2, 256.0), self.side))
        if len(looks) == 9:
            press(pygame.K_q)
        return real(self, view)

    monkeypatch.setattr(PygameWindow, "exchange", exchange)
    out = str(tmp_path / "hand.zarr")
    assert run(["teleop", out, *SHORT, "--json"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert (summary["episodes"], summary["frames"], summary["asked"]) == (1, 5, 2)
    assert "1 of 2 episodes; the same command continues" in printed.err
    assert run(["teleop", out, *SHORT]) == 0
    store = ReplayBuffer.open(out)
    assert store.episode_ends.tolist() == [5, 10]
    np.testing.assert_allclose(store.read("action")[1:5], 257.0, atol=1.1)  # the pixel around the middle
    assert run(["teleop", out, *SHORT, "--seed", "1"]) == 2
    assert "another seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shadow", "words"),
    [(None, "needs a display"), ("raise ImportError", "pip install 'sim2real-aug[teleop]'")],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, shadow: str | None, words: str) -> None:
    variables = environment()
    del variables["SDL_VIDEODRIVER"]
    if shadow is not None:
        (tmp_path / "pygame.py").write_text(shadow)
        variables["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, "-P", "-m", "sim2real_aug", "teleop", str(tmp_path / "hand.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "hand.zarr").exists()


def test_ctrl_c_is_an_interruption(tmp_path: Path) -> None:
    out = tmp_path / "hand.zarr"
    command = [sys.executable, "-P", "-m", "sim2real_aug", "teleop", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 60
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert not out.exists(), "no episode was finished"
