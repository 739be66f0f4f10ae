"""Photos of a simulated bench: random states in a domain, as `train-editor --photos` takes them.

    sim2real-aug photos my-photos --domain pathtraced/SCENE --count 20

A path-traced scene gives photos at its camera's resolution, unrectified, with the workspace's corners in
photos.yaml; any other domain gives square pictures. Photo i depends on (settings, i) only, is written whole or
not at all, and the same call takes what is missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray
from omegaconf import OmegaConf

from sim2real_aug.data.photos import read_photo
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.rendering import Photo, Renderer, make_renderer, scene_records
from sim2real_aug.envs.starts import CLASSIC, MOST_DRAWS, StartDistribution, is_clear
from sim2real_aug.errors import BadInput, below_least
from sim2real_aug.progress import progress, say
from sim2real_aug.runs import RunFolder, write_text_atomically
from sim2real_aug.seeding import derive_seed

JPEG_QUALITY = 95
CORNERS_FILE = "photos.yaml"


@runtime_checkable
class Photographer(Protocol):
    """A renderer that has a camera of its own beside the rectified view."""

    def photo(self, state: ArrayLike) -> Photo:
        """What the camera sees of a state (5,), and where it sees the workspace's corners."""


@dataclass(frozen=True)
class PhotosSettings:
    """What to photograph; see configs/photos.yaml.

    Raises BadInput that lists every value out of range, and for an unknown domain.
    """

    domain: str = "randomized/0"
    count: int = 20
    seed: int = 0
    size: int = 512
    start: StartDistribution = CLASSIC
    config_dir: str | None = None

    def __post_init__(self) -> None:
        if wrong := below_least(self, count=1, size=8):
            raise BadInput("; ".join(wrong))
        self.renderer()

    def renderer(self) -> Renderer:
        """One scene for all photos, also in the domain `randomized`: they show one bench."""
        return make_renderer(self.domain, derive_seed(self.seed, "photo scene"), self.config_dir)


def take_photos(out: str | Path, settings: PhotosSettings, overwrite: bool = False) -> dict[str, Any]:
    """Take the photos that the folder `out` does not hold yet: 000.jpg, 001.jpg, ...; returns a summary.

    Raises BadInput for a folder that was not made with these settings or holds more photos, unless
    `overwrite`, which removes folders of photos that this function made and no others.
    """
    made_with = {key: value for key, value in asdict(settings).items() if key not in ("count", "config_dir")}
    made_with["scenes"] = scene_records((settings.domain,), settings.config_dir)
    folder = RunFolder.open(out, OmegaConf.create(made_with), overwrite).path
    held = sum(file.stem.isdecimal() for file in folder.glob("*.jpg"))
    if held > settings.count:
        raise BadInput(f"{folder} holds {held} photos already, more than the {settings.count} asked for; --overwrite?")
    corners = _read_corners(folder)
    renderer = settings.renderer()
    missing = [index for index in range(settings.count) if not _taken(folder, index, renderer, corners)]
    if not missing:
        say(f"{folder} holds its {settings.count} photos already")
    with progress("photos", settings.count, settings.count - len(missing), "photos") as bar:
        for index in missing:
            image, quadrilateral = _photograph(renderer, photographed_state(settings, index), settings.size)
            name = photo_name(index)
            _write_photo(folder / name, image)
            if quadrilateral is not None:
                corners[name] = np.round(quadrilateral, 2).tolist()
                write_text_atomically(folder / CORNERS_FILE, yaml.safe_dump({"photos": corners}))
            bar.advance()
    height, width = read_photo(folder / photo_name(0)).shape[:2]
    return {
        "path": str(folder),
        "photos": settings.count,
        "domain": settings.domain,
        "width": width,
        "height": height,
        "corners": str(folder / CORNERS_FILE) if corners else None,
    }


def photo_name(index: int) -> str:
    return f"{index:03d}.jpg"


def photographed_state(settings: PhotosSettings, index: int) -> NDArray[np.float64]:
    """The state (5,) that photo `index` shows: a start in which pusher, block and walls are apart.

    Raises BadInput when the start distribution leaves no room for one.
    """
    env = PushTEnv("state", start=settings.start)
    for attempt in range(MOST_DRAWS):
        state, _ = env.reset(seed=derive_seed(settings.seed, "photo", index, attempt))
        if is_clear(state):
            return np.asarray(state)
    raise BadInput(f"start: no clear state in {MOST_DRAWS} draws; widen the ranges")


def _photograph(
    renderer: Renderer, state: NDArray[np.float64], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """The picture (h, w, 3), and where the camera sees the workspace's corners (4, 2), if it is a camera."""
    if isinstance(renderer, Photographer):
        photo = renderer.photo(state)
        return photo.image, photo.corners
    return renderer.image(state, size), None


def _taken(folder: Path, index: int, renderer: Renderer, corners: dict[str, Any]) -> bool:
    """Whether the photo is there, whole, and with its corners."""
    name = photo_name(index)
    if isinstance(renderer, Photographer) and name not in corners:
        return False
    try:
        read_photo(folder / name)
    except BadInput:
        return False
    return True


def _read_corners(folder: Path) -> dict[str, Any]:
    file = folder / CORNERS_FILE
    return dict(yaml.safe_load(file.read_text())["photos"]) if file.exists() else {}


def _write_photo(file: Path, image: NDArray[np.uint8]) -> None:
    temporary = file.with_name(f".{file.name}.part")
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    temporary.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    temporary.replace(file)
