"""Materials: every kind paints, keeps its size at any resolution, and follows its colour and seed."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sim2real_aug.envs.materials import KINDS, Material, paint
from sim2real_aug.errors import BadInput


@pytest.mark.parametrize("kind", KINDS)
def test_a_sheet_has_the_size_and_about_the_colour_asked_for(kind: str):
    sheet = paint(Material(kind, color=(0.6, 0.4, 0.2), accent=(0.55, 0.38, 0.2)), 200, 120, 2.0)
    assert sheet.shape == (240, 400, 3)
    np.testing.assert_allclose(sheet.mean((0, 1)) / 255, (0.6, 0.4, 0.2), atol=0.06)
    np.testing.assert_array_equal(
        sheet, paint(Material(kind, color=(0.6, 0.4, 0.2), accent=(0.55, 0.38, 0.2)), 200, 120, 2.0)
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("mat", "plastic")])
def test_another_seed_is_another_sheet(kind: str):
    first, second = (paint(Material(kind, seed=seed), 200, 200, 2.0).astype(int) for seed in (1, 2))
    assert np.abs(first - second).max() > 3


@pytest.mark.parametrize("kind", ["wood", "mat", "metal", "marble"])
def test_a_pattern_keeps_its_physical_size_at_another_resolution(kind: str):
    material = Material(kind, color=(0.5, 0.4, 0.3), accent=(0.1, 0.1, 0.1))
    coarse, fine = paint(material, 256, 256, 2.0), paint(material, 256, 256, 4.0)
    coarse, fine = (cv2.resize(s, (64, 64), interpolation=cv2.INTER_AREA).mean(-1) for s in (coarse, fine))
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.9


def test_an_image_is_repeated_at_its_width(tmp_path: Path):
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:, 10:] = 255
    cv2.imwrite(str(tmp_path / "tile.png"), picture)
    sheet = paint(Material("image", image=str(tmp_path / "tile.png"), scale=50.0), 200, 100, 1.0)
    assert sheet.shape == (100, 200, 3)
    np.testing.assert_array_equal(sheet[:, :50], sheet[:, 50:100])  # 50 units a copy
    assert sheet[:, 2:23].max() == 0
    assert sheet[:, 27:48].min() == 255


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "wod"}, "unknown material kind 'wod'. Did you mean 'wood'"),
        ({"kind": "image"}, "belong together"),
        ({"kind": "wood", "image": "x.png"}, "belong together"),
        ({"color": (0.1, 0.2, 255.0)}, "color must be three numbers in 0..1"),
        ({"roughness": 2.0}, "roughness must lie in 0..1; got 2.0"),
        ({"scale": 0.0}, "scale must be above 0"),
    ],
)
def test_a_senseless_material_is_refused(values: dict, message: str):
    with pytest.raises(BadInput, match=message):
        Material(**values)
