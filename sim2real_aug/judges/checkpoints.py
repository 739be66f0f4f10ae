"""Published checkpoints: a name of the Hugging Face hub or a folder in, a network and its tokenizer out.

Weights are read from safetensors only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging

from sim2real_aug import hub
from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput

T = TypeVar("T")
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
    options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    model, report = _loaded(folder, lambda: kind.from_pretrained(folder, **options))
    if missing := sorted(report["missing_keys"]):
        raise BadInput(f"{folder} lacks {len(missing)} weights of {kind.__name__}, such as {missing[0]}")
    return model.requires_grad_(False).eval()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a network. Raises BadInput where there is none."""
    return _loaded(folder, lambda: AutoTokenizer.from_pretrained(folder))


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


def _loaded(folder: Path, load: Callable[[], T]) -> T:
    try:
        with _quiet():
            return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{folder} does not load: {one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and remarks: what matters of them is an error here."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

