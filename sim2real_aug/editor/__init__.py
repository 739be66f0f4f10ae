"""The image editor: InstructPix2Pix with a visual prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim2real_aug.editor.editor import Editor

SHIPPED_EDITOR = Path(__file__).resolve().parent.parent / "weights" / "compact" / "editor"


def load_editor(path: str | Path | None = None) -> Editor:
    """The editor of a run of `train-editor`, of a checkpoint folder or its name on the hub, or the one that ships.

    Raises BadInput for what holds none, or for a run that has not finished.
    """
    import torch

    from sim2real_aug.editor.editor import Editor

    return Editor.from_pretrained(editor_folder(path), dtype=torch.float32)


def editor_folder(path: str | Path | None) -> Path:
    """The checkpoint's folder that `load_editor` loads. Raises BadInput for a run that has not finished."""
    from sim2real_aug.errors import BadInput

    folder = SHIPPED_EDITOR if path is None else Path(path).expanduser()
    if not folder.is_dir():
        folder = _fetched(folder)
    if (folder / "config.yaml").is_file() and not (folder / "model_index.json").is_file():
        if not (folder / "editor").is_dir():
            raise BadInput(f"{folder} holds no editor: give a run of train-editor, finished by its command run again")
        folder = folder / "editor"
    return folder


def _fetched(name: Path) -> Path:
    from sim2real_aug.editor.parts import IGNORED, NEEDED
    from sim2real_aug.hub import fetch

    return fetch(name, (*NEEDED, "photos/*.png"), IGNORED)
