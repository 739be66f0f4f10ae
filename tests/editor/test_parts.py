"""What a checkpoint lacks is not made up, and what is damaged is one line, whatever loads it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sim2real_aug.editor import load_editor
from sim2real_aug.editor.null_text import load_null_text_editor
from sim2real_aug.editor.widen import from_instruct_pix2pix
from sim2real_aug.errors import BadInput

from ..tiny_editor import build_editor


def weights_of(part: Path) -> Path:
    return next(part.glob("*.safetensors"))


def drop_a_weight(part: Path) -> None:
    weights = load_file(weights_of(part))
    weights.pop(sorted(weights)[0])
    save_file(weights, weights_of(part), metadata={"format": "pt"})


def cut_off(part: Path) -> None:
    whole = weights_of(part).read_bytes()
    weights_of(part).write_bytes(whole[: len(whole) // 2])


def forget_the_configuration(part: Path) -> None:
    (part / "config.json").write_text("{}")


def empty(part: Path) -> None:
    for file in part.iterdir():
        file.unlink()


NETWORKS = ("vae", "text_encoder", "unet")
DAMAGES = [
    *((part, drop_a_weight, rf"{part} lacks 1 weights of ") for part in NETWORKS),
    *((part, cut_off, f"{part} does not load: ") for part in NETWORKS),
    *((part, forget_the_configuration, f"{part} does not load: ") for part in NETWORKS),
    ("scheduler", shutil.rmtree, "has no folder 'scheduler'"),
    ("scheduler", empty, "scheduler does not load: "),
    ("tokenizer", empty, r"tokenizer does not load: it has no tokenizer\.json or vocab\.json"),
]


def refused(load: Callable[[Path], object], folder: Path, part: str, damage: Callable[[Path], None], why: str) -> None:
    damage(folder / part)
    with pytest.raises(BadInput, match=why) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("part", "damage", "why"), DAMAGES)
def test_instruct_pix2pix(
    part: str, damage: Callable[[Path], None], why: str, checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    refused(from_instruct_pix2pix, folder, part, damage, why)


@pytest.mark.parametrize(("part", "damage", "why"), [*DAMAGES, ("fusion", drop_a_weight, "fusion lacks 1 weights of ")])
def test_an_editor(part: str, damage: Callable[[Path], None], why: str, tmp_path: Path) -> None:
    build_editor().save_pretrained(tmp_path / "editor")
    refused(load_editor, tmp_path / "editor", part, damage, why)


def test_stable_diffusion_for_null_text_inversion(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    refused(load_null_text_editor, folder, "text_encoder", drop_a_weight, "text_encoder lacks 1 weights of ")
