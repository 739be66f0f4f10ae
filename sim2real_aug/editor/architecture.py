"""What a saved editor is: its components by class, that they fit each other, and what diffusers reads it by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sim2real_aug.errors import BadInput

INDEX = "model_index.json"
COMPONENTS = {
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
    "unet": "UNet2DConditionModel",
    "fusion": "ConditioningFusion",
    "scheduler": "DDIMScheduler",
}
# diffusers takes a class that is not its own from a file in the folder, pipeline.py or COMPONENT/LIBRARY.py.
PIPELINE = "pipeline"
CLASSES = {
    f"{PIPELINE}.py": "from sim2real_aug.editor.editor import Editor\n",
    "fusion/sim2real_aug.editor.fusion.py": "from sim2real_aug.editor.fusion import ConditioningFusion\n",
}
WIDEN = "widen a plain InstructPix2Pix checkpoint first: sim2real_aug.editor.widen.from_instruct_pix2pix"


def read_index(folder: Path) -> dict[str, Any]:
    """The parts of a diffusers pipeline by class, {} where there is no index. Raises BadInput for a damaged one."""
    file = folder / INDEX
    try:
        return dict(json.loads(file.read_text())) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {' '.join(str(error).split())}") from error


def pipeline_class(index: dict[str, Any]) -> str | None:
    """The class that a model_index.json names: diffusers' own by name, any other as [file, name]."""
    name = index.get("_class_name")
    found = name[-1] if isinstance(name, list) and name else name
    return None if found is None else str(found)


def write_classes(folder: Path) -> None:
    """Let `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` find our classes, from disk or hub."""
    for name, text in CLASSES.items():
        (folder / name).write_text(text)
    index = {**read_index(folder), "_class_name": [PIPELINE, "Editor"]}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def require_editor(folder: Path) -> None:
    """Raises BadInput that names what is there instead of an editor, from model_index.json alone."""
    if not (folder / INDEX).is_file():
        raise BadInput(f"{folder} is not an editor: it has no {INDEX}")
    index = read_index(folder)
    kind = pipeline_class(index)
    if kind != "Editor":
        raise BadInput(f"{folder} holds a {kind}, not an Editor; {WIDEN}")
    other = [
        f"{name} is {found or 'missing'}, not {expected}"
        for name, expected in COMPONENTS.items()
        if not str(found := (index.get(name) or [None, ""])[1]).startswith(expected)
    ]
    if other:
        raise BadInput(f"{folder} is an editor of another architecture: {'; '.join(other)}")


def require_fit(vae: Any, text_encoder: Any, unet: Any, fusion: Any) -> None:
    """Raises BadInput that lists every pair of components whose widths differ."""
    latent, text = vae.config.latent_channels, text_encoder.config.hidden_size
    noise = f"3 x {latent} (noise, source, visual prompt)"
    widths = [
        ("the UNet's conv_in takes", unet.config.in_channels, 3 * latent, noise),
        ("the UNet gives", unet.config.out_channels, latent, f"the VAE's {latent} channels"),
        ("the UNet attends to", unet.config.cross_attention_dim, text, f"the text encoder's {text}"),
        ("fusion takes", fusion.config.latent_channels, 2 * latent, f"2 x {latent} (source, visual prompt)"),
        ("fusion attends to", fusion.config.text_dim, text, f"the text encoder's {text}"),
    ]
    wrong = [f"{what} {found}, not {spoken}" for what, found, expected, spoken in widths if found != expected]
    if wrong:
        hint = f". {WIDEN[0].upper()}{WIDEN[1:]}" if unet.config.in_channels == 2 * latent else ""
        raise BadInput(f"the editor's components do not fit: {'; '.join(wrong)}{hint}")
