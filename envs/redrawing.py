"""Exact masks and depth of a simulated store's frames: its states, drawn again in the domain they were drawn in.

For a store of `simulate` or `teleop` the domain is in its attributes; any other Push-T store with data/state is
tried in the flat look, which the published one has. Either way a few frames are drawn and must equal the stored
images: a state of another convention, or frames that were edited, are left to the judge.

Legend: n frames, S pixels a side.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.geometry import FrameGeometry, GeometryReader
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.sequences import evenly_spaced
from sim2real_aug.envs.rendering import Renderer, Rendering, episode_renderer
from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.progress import say

TRIED = 5  # frames, spread over the store
# Mean absolute difference, of 255. Measured on the published store: 0.13, in single frames up to 0.23; with the
# states 3 of the window's 512 units off 0.54, in another look 80 and more. A store of ours gives 0.
SAME_IMAGE = 0.4
MAKERS = ("simulate", "teleop")  # root attributes that say how a store was made


def redraw_geometry(buffer: ReplayBuffer) -> GeometryReader | None:
    """Draws the geometry of frames, by their numbers (n,); None for a store whose states cannot be drawn again."""
    if "state" not in buffer.names or "img" not in buffer.names or buffer.array("state").shape[1:] != (5,):
        return None
    _, height, width, _ = buffer.array("img").shape
    if height != width:
        return None
    tried = evenly_spaced(buffer.n_frames, TRIED)
    try:
        drawn = np.stack([frame.image for frame in _draw(buffer, tried)])
    except (BadInput, MissingExtra) as error:
        say(
            f"{buffer.path}: masks and depth are left to the judge, for its frames cannot be drawn again: {error}"
        )
        return None
    stored = buffer.images_at(tried)
    if np.abs(drawn.astype(float) - stored).mean() > SAME_IMAGE:
        return None
    return partial(_measure, buffer)


def _measure(buffer: ReplayBuffer, numbers: NDArray[np.int64]) -> FrameGeometry:
    drawn = _draw(buffer, numbers)
    return FrameGeometry.measured(
        np.stack([frame.labels for frame in drawn]), np.stack([frame.depth for frame in drawn])
    )


def _draw(buffer: ReplayBuffer, numbers: NDArray[np.int64]) -> list[Rendering]:
    size = buffer.array("img").shape[1]
    renderers: dict[int, Renderer] = {}
    drawn = []
    for state, episode in zip(buffer.take("state", numbers), buffer.episode_of(numbers).tolist(), strict=True):
        if episode not in renderers:
            renderers[episode] = _renderer(buffer, episode)
        drawn.append(renderers[episode].render(state, size))
    return drawn


def _renderer(buffer: ReplayBuffer, episode: int) -> Renderer:
    """As the store's maker drew the episode; flat for a store that does not say."""
    attrs = buffer.attrs
    made: dict[str, Any] = next((attrs[m] for m in MAKERS if m in attrs), {"domain": "flat", "seed": 0})
    domains = made["domain"] if isinstance(made["domain"], list) else [made["domain"]]
    return episode_renderer(domains, made["seed"], episode)
