"""Photos of the real bench, brought to the editor's square size.

Legend: P photos, S pixels a side. A photo with four workspace corners in `photos.yaml` is rectified to the
simulator's top-down view; any other is cropped to the shape of the frames that it is to go with, a square as a rule,
and squeezed as they are. `photos.yaml`:

    corners: [[x, y], [x, y], [x, y], [x, y]]   # of every photo: a fixed camera
    photos:
      bench-2.jpg: [[x, y], ...]                # of this photo

Corners are of the workspace as the simulator draws it: top left, top right, bottom right, bottom left, in
pixels of the upright photo, (0, 0) being the outer corner of its first pixel. `name.mask.png` beside
`name.jpg` (same size, white = the object) goes through the same geometry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sim2real_aug.data.frames import as_frames
from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput, MissingExtra, unknown_name
from sim2real_aug.progress import say

OF_PHONES = (".heic", ".heif")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", *OF_PHONES)
MASK_SUFFIX = ".mask.png"
NAMES = "names.json"
SIXTEEN_TO_EIGHT_BIT = 257.0  # 65535 / 255
OUTSIDE = 0.1  # of the photo's side: a corner that is farther out was measured in another size
MAX_SUPERSAMPLING = 8

Corners = NDArray[np.float32]  # (4, 2) x, y in pixels


@dataclass(frozen=True)
class PhotoSet:
    """Photos of one folder.

    images: (P, S, S, 3) uint8 RGB. names: file names, sorted.
    masks: name → (S, S) bool for the photos that have one; None when none has.
    """

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    masks: Mapping[str, NDArray[np.bool_]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def mask_of_each(self) -> NDArray[np.bool_]:
        """(P, S, S), all False for a photo that has no mask."""
        given, none = self.masks or {}, np.zeros(self.images.shape[1:3], bool)
        return np.stack([given.get(name, none) for name in self.names])

    def resized(self, size: int) -> PhotoSet:
        """At size x size; itself where it has that size."""
        if self.images.shape[1:3] == (size, size):
            return self
        images = np.stack([_resize(image, size) for image in self.images])
        masks = {name: _resize(_white(mask), size) > 127 for name, mask in (self.masks or {}).items()}
        return PhotoSet(images, self.names, masks or None)

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """Of what is made of each photo (hex): its pixels and its mask, so that other corners give another one."""
        pairs = zip(self.images, self.mask_of_each, strict=True)
        return tuple(hashlib.blake2b(i.tobytes() + m.tobytes(), digest_size=16).hexdigest() for i, m in pairs)


def as_photo_set(photos: PhotoSet | NDArray[np.uint8]) -> PhotoSet:
    """Bare images (P, S, S, 3) uint8 as a PhotoSet, named by their numbers. Raises BadInput for anything else."""
    if isinstance(photos, PhotoSet):
        return photos
    if isinstance(photos, str | Path):
        raise BadInput(f"photos must be images; load_photos('{photos}') gives those of a folder")
    images = as_frames(photos, "photos")
    return PhotoSet(images, tuple(f"photo-{index}" for index in range(len(images))))


def write_photos(photos: PhotoSet | None, folder: Path) -> None:
    """Keep photos beside what takes after them: 000.png, ..., 000.mask.png where there is a mask, and their names.

    Those that were kept there before are removed.
    """
    for old in folder.glob("*.png"):
        old.unlink()
    (folder / NAMES).unlink(missing_ok=True)
    if photos is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    stems = [f"{index:03d}" for index in range(len(photos))]
    for stem, image, mask in zip(stems, photos.images, photos.mask_of_each, strict=True):
        Image.fromarray(image).save(folder / f"{stem}.png")
        if mask.any():
            Image.fromarray(_white(mask)).save(folder / f"{stem}{MASK_SUFFIX}")
    (folder / NAMES).write_text(json.dumps(dict(zip(stems, photos.names, strict=True)), indent=2) + "\n")


def kept_photos(folder: Path) -> list[Path]:
    """The files that `write_photos` left in `folder`, without the masks."""
    return sorted(file for file in folder.glob("*.png") if not file.name.endswith(MASK_SUFFIX))


def read_photos(folder: Path) -> PhotoSet | None:
    """What `write_photos` left in `folder`; None where there is none."""
    files = kept_photos(folder)
    if not files:
        return None
    known = json.loads((folder / NAMES).read_text()) if (folder / NAMES).is_file() else {}
    names = [known.get(file.stem, file.name) for file in files]
    masks = {
        name: np.asarray(Image.open(mask).convert("L")) > 127
        for name, file in zip(names, files, strict=True)
        if (mask := file.with_name(file.stem + MASK_SUFFIX)).is_file()
    }
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return PhotoSet(np.stack(images), tuple(names), masks or None)


def load_photos(folder: str | Path, size: int = 96, ratio: float = 1.0) -> PhotoSet:
    """All photos directly in `folder`, at size x size.

    ratio: width / height of the frames that take after them, which are brought to size x size too.

    Says when photos are cropped, and when there is but one. Raises BadInput for a missing or empty folder, an
    unreadable photo or mask, a mask without white, and wrong corners.
    """
    root = Path(folder)
    if size < 1:
        raise BadInput(f"photo size must be at least 1 pixel; got {size}")
    if not root.is_dir():
        raise BadInput(f"no photo folder at {root}; give a folder of {', '.join(SUFFIXES)} files")
    files = sorted(f for f in root.iterdir() if is_photo(f))
    if not files:
        raise BadInput(f"{root} holds no photos; put {', '.join(SUFFIXES)} files directly into it")
    _name_strays(root, files)
    corners = _read_corners(root / "photos.yaml", [file.name for file in files])
    images, masks, cropped = [], {}, []
    for file in files:
        picture = read_photo(file)
        if file.name in corners:
            _require_inside(file, picture, corners[file.name])
        if _central(picture, ratio).shape != picture.shape and file.name not in corners:
            cropped.append(file.name)
        images.append(to_square(picture, size, corners.get(file.name), ratio))
        mask_file = file.with_name(file.stem + MASK_SUFFIX)
        if mask_file.exists():
            masks[file.name] = _square_mask(mask_file, picture.shape[:2], size, corners.get(file.name), ratio)
    if cropped:
        shape = "square" if ratio == 1 else "as wide for their height as the frames are"
        say(
            f"{root}: {len(cropped)} of {len(files)} photos are not {shape} "
            f"({cropped[0]}{', ...' * (len(cropped) > 1)}): their middle is used; four corners in photos.yaml "
            "rectify them instead"
        )
    if len(files) == 1:
        say(f"{root} holds one photo: every edit takes after it; more would show the bench in other states")
    return PhotoSet(np.stack(images), tuple(file.name for file in files), masks or None)


def _name_strays(root: Path, photos: list[Path]) -> None:
    """Tell the user of what was meant for a mask and is none."""
    known = {file.stem + MASK_SUFFIX for file in photos}
    strays = [file.name for file in sorted(root.glob(f"*{MASK_SUFFIX}")) if file.name not in known]
    strays += [file.name for file in photos if file.stem.lower().endswith(("_mask", "-mask"))]
    if strays:
        say(f"{root}: no mask of any photo: {', '.join(strays)}; that of NAME.jpg is NAME{MASK_SUFFIX}")


def read_photo(file: Path) -> NDArray[np.uint8]:
    """One photo as (h, w, 3) uint8 RGB, upright (EXIF), whatever its mode; alpha is laid on white.

    Raises BadInput for a file that is no whole image, MissingExtra for a phone's HEIC without the extra [heic].
    """
    if file.suffix.lower() in OF_PHONES:
        _register_heif(file)
    try:
        with Image.open(file) as opened:
            opened.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(opened)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"photo {file} cannot be read ({one_line(error)}); replace or remove it") from error


def _register_heif(file: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise MissingExtra(f"photo {file} (a phone's HEIC; a JPEG needs none)", "heic") from error
    register_heif_opener()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit grey; PIL's own conversion clips it to white
        values = np.asarray(image, dtype=np.float64)
        if image.mode.startswith("I"):
            values = values / SIXTEEN_TO_EIGHT_BIT
        elif values.size and np.nanmax(values) <= 1:
            values = values * 255
        image = Image.fromarray(np.clip(np.nan_to_num(np.rint(values)), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def to_square(
    image: NDArray[np.uint8], size: int, corners: Corners | None = None, ratio: float = 1.0
) -> NDArray[np.uint8]:
    """(h, w, C) or (h, w) uint8 → size x size: rectified by `corners` (4, 2), else its middle of width / height
    `ratio`, squeezed."""
    if corners is not None:
        return _rectify(image, size, corners)
    return _resize(_central(image, ratio), size)


def _central(image: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    """The largest middle of (h, w, ...) that is `ratio` times as wide as high, to the pixel."""
    height, width = image.shape[:2]
    tall, wide = min(height, round(width / ratio)), min(width, round(height * ratio))
    top, left = (height - tall) // 2, (width - wide) // 2
    return image[top : top + tall, left : left + wide]


def _resize(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    # area averages when shrinking; for enlarging OpenCV's area mode is a coarse nearest neighbour
    how = cv2.INTER_AREA if image.shape[0] >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), dtype=np.uint8)


def _white(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A mask as a picture: 255 where it is true, else 0."""
    return np.where(mask, 255, 0).astype(np.uint8)


def _rectify(image: NDArray[np.uint8], size: int, corners: Corners) -> NDArray[np.uint8]:
    """The quadrilateral `corners` seen from above. Sampled finely, then averaged: no aliasing."""
    longest = float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).max())
    fine = size * int(np.clip(np.ceil(longest / size), 1, MAX_SUPERSAMPLING))
    target = np.array([[0, 0], [fine, 0], [fine, fine], [0, fine]], np.float32)
    # OpenCV counts from pixel centres, corners are counted from the outer corner of the first pixel
    matrix = cv2.getPerspectiveTransform(corners - 0.5, target - 0.5)
    warped = cv2.warpPerspective(
        image, matrix, (fine, fine), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return _resize(np.asarray(warped, dtype=np.uint8), size)


def _square_mask(
    file: Path, photo_shape: tuple[int, ...], size: int, corners: Corners | None, ratio: float
) -> NDArray[np.bool_]:
    mask = read_photo(file).max(axis=-1)
    if mask.shape != photo_shape:
        raise BadInput(
            f"mask {file} is {mask.shape[1]}x{mask.shape[0]} pixels and its photo "
            f"{photo_shape[1]}x{photo_shape[0]}; they must be equal"
        )
    square = to_square(_white(mask > 127), size, corners, ratio) > 127
    if not square.any():
        where = "in the part of it that is used" if (mask > 127).any() else "at all"
        raise BadInput(f"mask {file} has no white {where}; white marks the object: mend or remove the mask")
    return square


def _require_inside(file: Path, photo: NDArray[np.uint8], corners: Corners) -> None:
    size = np.array(photo.shape[1::-1])
    if (np.maximum(-corners, corners - size) > OUTSIDE * size).any():
        raise BadInput(
            f"the corners of {file}, {corners.tolist()}, lie outside of it: it has {size[0]}x{size[1]} pixels; measure "
            "them in the photo as it is, upright"
        )


def is_photo(file: Path) -> bool:
    """Whether a file is an image by its name, and neither a mask nor hidden."""
    name = file.name.lower()
    return (
        file.is_file()
        and not name.startswith(".")
        and name.endswith(SUFFIXES)
        and not name.endswith(MASK_SUFFIX)
    )


def _read_corners(file: Path, names: list[str]) -> dict[str, Corners]:
    """Corners of each photo that has them, from photos.yaml; empty without that file."""
    if not file.exists():
        return {}
    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{file} is not readable YAML: {one_line(error)}") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not isinstance(content.get("photos") or {}, dict):
        raise BadInput(f"{file} must hold `corners:` and/or `photos:` (name: corners); got {content!r:.80}")
    for key in content:
        if key not in ("corners", "photos"):
            raise unknown_name(f"key in {file}", str(key), ["corners", "photos"])
    shared = content.get("corners")
    found = {} if shared is None else {name: _corners(file, "corners", shared) for name in names}
    for name, value in (content.get("photos") or {}).items():
        if name not in names:
            raise unknown_name(f"photo in {file}", str(name), names)
        found[name] = _corners(file, name, value)
    return found


def _corners(file: Path, name: str, value: Any) -> Corners:
    """Four corners from YAML; they must run clockwise around a convex quadrilateral (y points down)."""
    rule = "four [x, y] pixels clockwise from the workspace's top left"
    try:
        corners = np.array(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{file}: {name} must be {rule}; got {value!r:.120}") from error
    if corners.shape != (4, 2) or not np.isfinite(corners).all():
        raise BadInput(f"{file}: {name} must be {rule}; got {value!r:.120}")
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    if not (turns > 0).all():
        raise BadInput(f"{file}: {name} must be {rule}, around a convex shape; got {corners.tolist()}")
    return corners
