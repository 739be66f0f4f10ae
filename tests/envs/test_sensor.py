"""What a camera makes of light: each effect on its own."""

import numpy as np
import pytest

from sim2real_aug.envs.sensor import Sensor, develop, expose
from sim2real_aug.errors import BadInput

PLAIN = {"vignette": 0.0, "read_noise": 0.0, "shot_noise": 0.0, "blur": 0.0, "jpeg_quality": 0}


def taken(light: float | np.ndarray, size: int = 32, **changes: object) -> np.ndarray:
    values = np.broadcast_to(np.asarray(light, np.float32), (size, size, 3))
    return expose(values, Sensor(**{**PLAIN, **changes}), np.random.default_rng(0)).astype(float)


def test_the_curve_is_srgbs_below_the_shoulder():
    # IEC 61966-2-1: 0.2140 linear is 0.5 coded; 0.0025 lies on the straight part, 12.92 * 0.0025 = 0.0323.
    np.testing.assert_allclose(
        develop(np.float32([0.21404, 0.0025, 0.0]), 0.0), [0.5, 0.0323, 0.0], atol=1e-4
    )
    assert taken(0.21404).mean() == pytest.approx(127.5, abs=0.6)


def test_highlights_roll_off_and_never_turn_back():
    coded = develop(np.linspace(0, 4, 500, dtype=np.float32), 0.0)
    assert (np.diff(coded) >= 0).all()
    assert coded.max() <= 1


def test_a_stop_more_is_twice_the_light():
    np.testing.assert_array_equal(taken(0.1, exposure=1.0), taken(0.2))


def test_white_balance_scales_its_own_channel():
    red, green, blue = taken(0.2, white_balance=(1.5, 1.0, 0.5)).mean((0, 1))
    assert red == pytest.approx(taken(0.3).mean())
    assert green == pytest.approx(taken(0.2).mean())
    assert blue == pytest.approx(taken(0.1).mean())


def test_the_vignette_takes_its_share_of_the_corners_light():
    corner = taken(0.4, size=256, vignette=0.5)[0, 0].mean()
    assert corner == pytest.approx(taken(0.2).mean(), abs=2)
    assert taken(0.4, size=255, vignette=0.5)[127, 127].mean() == taken(0.4).mean()


def test_shot_noise_grows_with_the_root_of_the_light():
    def spread(light: float) -> float:
        values = np.full((200, 200, 3), light, np.float32)
        noisy = expose(values, Sensor(**{**PLAIN, "shot_noise": 0.02}), np.random.default_rng(1)) / 255
        linear = np.where(noisy <= 0.04045, noisy / 12.92, ((noisy + 0.055) / 1.055) ** 2.4)
        return float(linear.std())

    assert spread(0.4) / spread(0.1) == pytest.approx(2.0, rel=0.05)


def test_contrast_darkens_shadows_and_lifts_lights():
    flat, steep = develop(np.float32([0.05, 0.5]), 0.0), develop(np.float32([0.05, 0.5]), 1.0)
    assert steep[0] < flat[0]
    assert steep[1] > flat[1]


def test_jpeg_loses_detail_and_keeps_the_mean():
    rng = np.random.default_rng(3)
    light = rng.uniform(0.1, 0.5, (64, 64, 3)).astype(np.float32)
    raw, coded = (expose(light, Sensor(**{**PLAIN, "jpeg_quality": q}), rng).astype(float) for q in (0, 30))
    assert 2 < np.abs(raw - coded).mean() < 60
    assert raw.mean() == pytest.approx(coded.mean(), abs=1.5)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"vignette": 1.5}, "vignette"),
        ({"shot_noise": -0.1}, "shot_noise"),
        ({"white_balance": (1.0, 0.0, 1.0)}, "white_balance"),
        ({"jpeg_quality": 120}, "jpeg_quality"),
    ],
)
def test_a_senseless_value_is_refused_by_name(values: dict, named: str):
    with pytest.raises(BadInput, match=named):
        Sensor(**values)
