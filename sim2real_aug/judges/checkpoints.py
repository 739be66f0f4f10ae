"""Published checkpoints: a name of the Hugging Face hub or a folder in, a network and its tokenizer out.

Weights are read from safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from sim2real_aug import hub
from sim2real_aug.errors import BadInput
from sim2real_aug.loading import load_network, loaded

NEEDED = ("*.json", "*.txt", "*.safetensors")  # of a repository's top folder; the rest are other formats


def fetch(name: str | Path) -> Path:
    """The folder of a judge's checkpoint, see `hub.fetch`."""
    return hub.fetch(name, NEEDED, ("*/*",))


def load_model(kind: Any, folder: Path, model_types: Collection[str]) -> Any:
    """A network of the transformers class `kind`, in float32, frozen.

    model_types: what config.json may say. transformers would fill a network of any other type with random weights,
    and only warn. Raises BadInput for a folder that holds something else, or not all of the weights.
    """
    found = read_json(folder, "config.json").get("model_type")
    if found not in model_types:
        raise BadInput(
            f"{folder} is a checkpoint of '{found}'; {kind.__name__} takes {' or '.join(model_types)}"
        )
    return load_network(kind, folder).requires_grad_(False).eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a network. Raises BadInput where there is none."""
    return loaded(folder, lambda: AutoTokenizer.from_pretrained(folder))


def read_json(folder: Path, *names: str) -> dict[str, Any]:
    """The first of the files `names` that is in `folder`. Raises BadInput where there is none, or not an object."""
    for file in (folder / name for name in names):
        if file.is_file():
            try:
                content = json.loads(file.read_text())
            except ValueError as error:
                raise BadInput(f"{file} is not JSON: {error}") from error
            if not isinstance(content, dict):
                raise BadInput(f"{file} holds no settings: it is not a JSON object")
            return content
    raise BadInput(f"{folder} is not a checkpoint: it has no {' or '.join(names)}")


def in_batches(function: Callable[..., Tensor], batch_size: int, *tensors: Tensor) -> Tensor:
    """`function` of `tensors` (B, ...), at most `batch_size` rows at a time: a scorer gives hundreds at once."""
    parts = zip(*(tensor.split(batch_size) for tensor in tensors), strict=True)
    return torch.cat([function(*part) for part in parts])
