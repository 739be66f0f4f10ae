"""Editors without weights have the architecture of those with them."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch import nn

from sim2real_aug.config import compose, make
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.outline import outline
from sim2real_aug.errors import BadInput

PARTS = ("unet", "vae", "text_encoder", "fusion")


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_stable_diffusion_has_its_published_sizes_and_nothing_is_fetched() -> None:
    editor = outline(compose("train_editor", ["editor=sd15", "editor.image_size=512"]).editor)
    sizes = {name: size(getattr(editor, name)) for name in PARTS}
    assert sizes == {
        "unet": 859_520_964 + 8 * 320 * 3 * 3,  # Stable Diffusion's, and eight more channels into conv_in
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "fusion": (8 + 1) * 64 + 2 * 768 * 64 + (64 + 1) * 8,
    }
    assert all(parameter.is_meta for parameter in editor.unet.parameters())
    assert (editor.image_size, editor.unet.is_gradient_checkpointing) == (512, True)


@pytest.mark.parametrize("name", ["compact", "sd15"])
def test_the_outline_of_a_folder_is_that_of_the_editor_in_it(name: str, checkpoint: Path) -> None:
    places = [f"editor.path={checkpoint}", "editor.image_size=48"] if name == "sd15" else []
    node = compose("train_editor", [f"editor={name}", *places]).editor
    empty, whole = outline(node), make(node)
    for part in PARTS:
        expected = {key: tensor.shape for key, tensor in getattr(whole, part).state_dict().items()}
        assert {key: tensor.shape for key, tensor in getattr(empty, part).state_dict().items()} == expected
    assert empty.edit_settings == whole.edit_settings
    assert empty.image_size == whole.image_size


def test_what_cannot_be_known_is_said(tmp_path: Path) -> None:
    load_editor().save_config(tmp_path)
    for node, message in (
        ({"_target_": "mine.load"}, "what mine.load needs is not known"),
        ({"_target_": "sim2real_aug.editor.load_editor", "path": str(tmp_path)}, r"unet.config\.json cannot be read"),
        ({"_target_": "sim2real_aug.editor.load_editor", "path": "nowhere"}, "nowhere is neither a folder nor"),
    ):
        with pytest.raises(BadInput, match=message):
            outline(OmegaConf.create(node))
