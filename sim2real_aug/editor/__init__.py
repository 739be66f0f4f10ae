"""The image editor: InstructPix2Pix with a visual prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim2real_aug.editor.editor import Editor

SHIPPED_EDITOR = Path(__file__).resolve().parent.parent / "weights" / "compact" / "editor"


def load_editor(path: str | Path | None = None) -> Editor:
    """The editor of a run of `train-editor`, of a checkpoint folder, or the base editor that ships.

    Raises BadInput for a folder that holds none, or for a run that has not finished.
    """
    import torch

    from sim2real_aug.editor.editor import Editor

    return Editor.from_pretrained(editor_folder(path), dtype=torch.float32)


def editor_folder(path: str | Path | None) -> Path:
    """The checkpoint's folder that `load_editor` loads. Raises BadInput for a run that has not finished."""
    from sim2real_aug.errors import BadInput

    folder = Path(path).expanduser() if path is not None else SHIPPED_EDITOR
    if not folder.is_dir():
        raise BadInput(f"{folder} does not exist; give a run of train-editor or a checkpoint's folder")
    if (folder / "config.yaml").is_file() and not (folder / "model_index.json").is_file():
        if not (folder / "editor").is_dir():
            raise BadInput(
                f"{folder} is a run that has not finished: run its train-editor command again first"
            )
        folder = folder / "editor"
    return folder
