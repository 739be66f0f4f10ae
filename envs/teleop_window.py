"""The teleop window on pygame: the picture; over it the goal, a ring to catch the pusher in, the target; status.

Space pauses and goes on, R restarts the episode, Q, Esc or closing the window quits.
Legend: the picture is side x side pixels of the window's upper part and shows 512 x 512 window units.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.envs.geometry import GOAL_POSE, WINDOW_SIZE, block_polygons
from sim2real_aug.envs.teleop import NEAR, Mode, Signals, View
from sim2real_aug.errors import BadInput, MissingExtra

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it goes to stdout, where --json's document goes
try:
    import pygame
except ImportError as error:
    raise MissingExtra("teleop", "teleop") from error

KEYS = "Space pause    R restart    Q quit"
STRIP = 56  # pixels below the picture, for two lines of text
DESKTOP_MARGIN = 120  # pixels of the screen's height for title bar and panels
INK, PAPER, ACCENT = (230, 230, 230), (32, 34, 38), (255, 80, 60)

# What is drawn over the picture, window units.
_TURNS = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
CIRCLE = np.stack([np.cos(_TURNS), np.sin(_TURNS)], -1)
CROSS = 6.0 * np.array([[(-1, 0), (1, 0)], [(0, -1), (0, 1)]])

Pixels = tuple[int, int]
Color = tuple[int, int, int]


class PygameWindow:
    """Opens when it first has something to show. Close it with `close`.

    side: of the picture, pixels; less where the screen is smaller. rate: exchanges a second, at most.
    Raises BadInput where there is no display.
    """

    def __init__(self, side: int, rate: float) -> None:
        self._rate = rate
        self._mouse: Pixels | None = None
        self._quit = False
        self._screen: pygame.Surface | None = None
        _connect()
        heights = [height for _, height in pygame.display.get_desktop_sizes()]
        self.side = min(side, max(max(heights, default=side) - STRIP - DESKTOP_MARGIN, 128))

    def exchange(self, view: View) -> Signals:
        """Show `view`, wait for the next control step, return what the user did meanwhile."""
        screen = self._open()
        picture = cv2.resize(view.image, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        pygame.surfarray.blit_array(screen.subsurface((0, 0, self.side, self.side)), picture.swapaxes(0, 1))
        self._mark(screen, view)
        self._write(screen, view)
        pygame.display.flip()
        self._clock.tick(self._rate)
        return self._signals()

    def close(self) -> None:
        pygame.quit()

    def _open(self) -> pygame.Surface:
        if self._screen is None:
            try:
                self._screen = pygame.display.set_mode((self.side, self.side + STRIP))
            except pygame.error as error:
                raise _no_display(str(error)) from error
            pygame.display.set_caption("sim2real-aug teleop")
            pygame.font.init()
            self._font = pygame.font.Font(None, 26)
            self._clock = pygame.time.Clock()
        return self._screen

    def _signals(self) -> Signals:
        pressed = set()
        for event in pygame.event.get():
            if event.type == pygame.MOUSEMOTION:  # the last place holds when the mouse leaves the window
                self._mouse = event.pos
            elif event.type == pygame.KEYDOWN:
                pressed.add(event.key)
            elif event.type == pygame.QUIT:
                self._quit = True
        self._quit = self._quit or bool(pressed & {pygame.K_q, pygame.K_ESCAPE})
        mouse = None if self._mouse is None else to_units(self._mouse, self.side)
        return Signals(mouse, pygame.K_SPACE in pressed, pygame.K_r in pressed, self._quit)

    def _mark(self, screen: pygame.Surface, view: View) -> None:
        """The goal's outline, which some scenes hide; the ring that the mouse has to enter, or the target."""
        for part in block_polygons(GOAL_POSE):
            self._stroke(screen, part, INK)
        if view.mode is Mode.WAITING:
            self._stroke(screen, view.state[:2] + NEAR * CIRCLE, ACCENT)
        elif view.mode is Mode.RUNNING and self._mouse is not None:
            for arm in CROSS:
                self._stroke(screen, to_units(self._mouse, self.side) + arm, ACCENT)

    def _stroke(self, screen: pygame.Surface, points: NDArray[np.float64], color: Color) -> None:
        """A closed line through points (n, 2) in window units, dark-rimmed to stand out on any table."""
        pixels = [to_pixels(point, self.side) for point in points]
        for shade, width in ((PAPER, 5), (color, 2)):
            pygame.draw.lines(screen, shade, True, pixels, width)

    def _write(self, screen: pygame.Surface, view: View) -> None:
        screen.fill(PAPER, (0, self.side, self.side, STRIP))
        keys = self._font.render(KEYS, True, INK)
        screen.blit(self._font.render(view.status, True, INK), (12, self.side + 6))
        screen.blit(self._font.render(view.mode.value, True, ACCENT), (12, self.side + 31))
        screen.blit(keys, (self.side - keys.get_width() - 12, self.side + 31))


def to_units(pixel: Pixels, side: int) -> NDArray[np.float64]:
    """The window units (2,), 0..512, that the middle of a pixel (x, y) shows; beyond the picture, its edge."""
    return np.clip((np.array(pixel) + 0.5) * WINDOW_SIZE / side, 0.0, WINDOW_SIZE)


def to_pixels(point: NDArray[np.float64], side: int) -> Pixels:
    """The pixel (x, y) that shows a point (2,) in window units."""
    x, y = np.floor(point * side / WINDOW_SIZE).astype(int).clip(0, side - 1)
    return int(x), int(y)


def _connect() -> None:
    try:
        pygame.display.init()
    except pygame.error as error:
        raise _no_display(str(error)) from error
    # Without a display SDL falls back to drawing where nobody sees it; only on purpose is that right.
    driver = pygame.display.get_driver()
    if driver in ("offscreen", "dummy") and os.environ.get("SDL_VIDEODRIVER") != driver:
        pygame.quit()
        raise _no_display("no screen found")


def _no_display(reason: str) -> BadInput:
    return BadInput(
        f"teleop needs a display ({reason}): run it on a machine with a desktop, or through ssh -X; "
        "episodes without a hand at the mouse: sim2real-aug simulate"
    )
