"""Contact sheet of the scenes that ship: draws docs/scenes.jpg, to be looked at with a critical eye.

    python benchmarks/scene_sheet.py [--out docs/scenes.jpg]

A row a scene, sorted by name: two photos (their middle), the first rectified to the top-down view, three frames of
96 pixels, and the last frame's regions.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.data.photos import to_square
from sim2real_aug.envs.pathtraced import pathtraced_renderer
from sim2real_aug.envs.twin import scene_names
from sim2real_aug.report.pictures import grid

CELL = 192
STATES = ([330, 150, 250, 250, 0.4], [150, 300, 215, 350, 2.5], [400, 400, 330, 180, 5.0])
COLUMNS = ["photo", "photo", "rectified", "frame", "frame", "frame", "regions"]
REGION_COLORS = np.array([(225, 225, 225), (60, 60, 60), (130, 200, 130), (240, 110, 40)], np.uint8)


def row(name: str) -> list[NDArray[np.uint8]]:
    """The pictures of one scene."""
    renderer = pathtraced_renderer(name)
    photos = [renderer.photo(state) for state in STATES[:2]]
    frames = [renderer.render(state) for state in STATES]
    return [
        *(to_square(photo.image, CELL) for photo in photos),
        to_square(photos[0].image, CELL, photos[0].corners),
        *(frame.image for frame in frames),
        REGION_COLORS[frames[-1].labels],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/scenes.jpg"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sheet = grid([row(name) for name in scene_names()], Path(folder) / "sheet.png", COLUMNS, CELL)
        cv2.imwrite(str(arguments.out), cv2.imread(str(sheet)), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(arguments.out)


if __name__ == "__main__":
    main()
