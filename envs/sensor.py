"""What a camera makes of the light that reaches it: exposure, vignette, white balance, noise, curve, JPEG.

Legend: light (H, W, 3) float32, linear, 1 = a white sheet well lit; image (H, W, 3) uint8, sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sim2real_aug.errors import BadInput


@dataclass(frozen=True)
class Sensor:
    """A camera's electronics.

    exposure: stops. white_balance: gains of red, green, blue. contrast: 0 = the plain sRGB curve, 1 = a strong
    S-curve. vignette: light lost in the corners, 0..1. read_noise, shot_noise: standard deviations in the dark
    and at light 1. blur: of the optics, in pixels of a 96-pixel frame. jpeg_quality: 1..100; 0 = no JPEG.
    """

    exposure: float = 0.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 0.0
    vignette: float = 0.1
    read_noise: float = 0.003
    shot_noise: float = 0.01
    blur: float = 0.3
    jpeg_quality: int = 92

    def __post_init__(self) -> None:
        for name in ("vignette", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"{name} must lie in 0..1; got {getattr(self, name)}")
        for name in ("read_noise", "shot_noise", "blur"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} must not be negative; got {getattr(self, name)}")
        if len(self.white_balance) != 3 or min(self.white_balance) <= 0:
            raise BadInput(f"white_balance must be three gains above 0; got {self.white_balance}")
        if not 0 <= self.jpeg_quality <= 100:
            raise BadInput(f"jpeg_quality must lie in 0..100; got {self.jpeg_quality}")


def expose(light: NDArray[np.float32], sensor: Sensor, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The image that `sensor` makes of `light`; the noise is drawn from `rng`."""
    height, width = light.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    radius = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2  # 0.5 in the corners
    gain = 2.0**sensor.exposure * np.asarray(sensor.white_balance, np.float32)
    signal = np.asarray(light * gain * (1 - 2 * sensor.vignette * radius)[..., None], np.float32)
    sigma = sensor.blur * height / 96
    if sigma > 0.2:
        signal = cv2.GaussianBlur(signal, (0, 0), sigma)
    spread = np.sqrt(sensor.read_noise**2 + sensor.shot_noise**2 * signal.clip(0))
    signal += spread * rng.standard_normal(signal.shape, dtype=np.float32)
    image = np.rint(develop(signal, sensor.contrast) * 255).astype(np.uint8)
    if sensor.jpeg_quality == 0:
        return image
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg_quality])
    decoded = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def develop(signal: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    """Linear values → display values in [0, 1]: sRGB's curve (IEC 61966-2-1), a soft shoulder, an S-curve."""
    low = np.clip(signal, 0.0, None)
    shoulder = np.where(low < 0.8, low, 1 - 0.2 * np.exp(-(low - 0.8) / 0.2))  # highlights roll off
    coded = np.where(shoulder <= 0.0031308, 12.92 * shoulder, 1.055 * shoulder ** (1 / 2.4) - 0.055)
    curved = coded * coded * (3 - 2 * coded)
    return np.asarray((1 - contrast) * coded + contrast * curved, np.float32).clip(0, 1)
