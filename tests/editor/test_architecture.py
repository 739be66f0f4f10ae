"""A checkpoint of another architecture is refused with what differs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.fusion import ConditioningFusion
from sim2real_aug.errors import BadInput

from ..tiny_editor import build_editor

Alter = Callable[..., Path]


@pytest.fixture
def alter(tmp_path: Path) -> Alter:
    """alter(file, **changes) -> a saved tiny editor with values of that JSON file changed."""
    build_editor().save_pretrained(tmp_path)

    def change(name: str, **changes: Any) -> Path:
        file = tmp_path / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        return tmp_path

    return change


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionInstructPix2PixPipeline"},
            "holds a StableDiffusionInstructPix2PixPipeline, not an Editor; widen",
        ),
        (
            "model_index.json",
            {"unet": ["diffusers", "UNet3DConditionModel"], "fusion": None},
            "unet is UNet3DConditionModel, not UNet2DConditionModel; fusion is missing, not ConditioningFusion",
        ),
        (
            "model_index.json",
            {"scheduler": ["diffusers", "EulerDiscreteScheduler"]},
            "scheduler is EulerDiscreteScheduler, not DDIMScheduler",
        ),
        ("unet/config.json", {"block_out_channels": [32, 64]}, r"conv_in.bias expected shape .*\[16\]\)\.$"),
    ],
)
def test_another_architecture_is_named(alter: Alter, file: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Editor.from_pretrained(alter(file, **changes))


def test_components_that_do_not_fit_are_all_named() -> None:
    parts = dict(build_editor().components)
    parts["fusion"] = ConditioningFusion(latent_channels=4, text_dim=32, inner_dim=16, heads=2)
    with pytest.raises(BadInput, match=r"fusion takes 4, not 2 x 4 .*; fusion attends to 32, not .* 16$"):
        Editor(**parts)
