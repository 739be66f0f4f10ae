"""Networks out of folders: whole, in float32 unless asked otherwise, or refused in one line.

transformers and diffusers fill what a checkpoint lacks with random weights, and only warn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from sim2real_aug.data.stores import one_line
from sim2real_aug.errors import BadInput

T = TypeVar("T")


def load_network(kind: Any, folder: Path, dtype: torch.dtype | None = torch.float32) -> Any:
    """A network of the class `kind`, of transformers or diffusers, from the safetensors in `folder`.

    dtype: None, as diffusers has it: float32. Raises BadInput for a folder that holds something else, or not all of
    the weights in their shapes.
    """
    options = {"dtype": dtype or torch.float32, "use_safetensors": True, "output_loading_info": True}
    if issubclass(kind, PreTrainedModel):
        options["ignore_mismatched_sizes"] = True  # its own error does not say which
    network, report = loaded(folder, lambda: kind.from_pretrained(folder, **options))
    if wrong := sorted(each[0] for each in report["mismatched_keys"]):
        raise BadInput(
            f"{folder} does not load: {len(wrong)} weights, such as {wrong[0]}, have other shapes than its config.json "
            f"gives to {kind.__name__}"
        )
    if missing := sorted(report["missing_keys"]):
        raise BadInput(f"{folder} lacks {len(missing)} weights of {kind.__name__}, such as {missing[0]}")
    return network


def loaded(place: Path, load: Callable[[], T]) -> T:
    """What `load` gives. Raises BadInput that names `place` for whatever a damaged file makes of it."""
    try:
        with quiet():
            return load()
    except BadInput:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = one_line(error).split(" If you want")[0]  # diffusers' advice is for its API
        raise BadInput(f"{place} does not load: {reason}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' bars and remarks: what matters of them is an error here."""
    logs: list[Any] = [diffusers_logging, transformers_logging]
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
