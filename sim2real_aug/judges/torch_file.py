"""Weights published as one file of torch.save under another library's names, for networks of transformers' classes.

No more than tensors is read of such a file: `weights_only`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from sim2real_aug import hub
from sim2real_aug.errors import BadInput

Network = TypeVar("Network", bound=nn.Module)
Names = Sequence[tuple[str, str]]


def fetch_file(name: str | Path, file: str, *beside: str) -> Path:
    """`name` where it is a file itself, else `file` in the folder, or in the model on the hub, of that name.

    beside: what else of the model on the hub is needed. Raises BadInput where there is no such file, see `hub.fetch`.
    """
    if (path := Path(name).expanduser()).is_file():
        return path
    path = hub.fetch(name, (file, *beside)) / file
    if not path.is_file():
        raise BadInput(
            f"{name} has no {file}; give that file, a folder with it, or a model on the hub with it"
        )
    return path


def read_weights(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors in a file by their names. key: under which it holds them, if not by themselves.

    Raises BadInput for what is no such file.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        # torch's own message is a page about how to load it all the same
        raise BadInput(
            f"{file} is not a file of tensors alone, written by torch.save: {type(error).__name__}"
        ) from error
    weights = content if key is None else content.get(key) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise BadInput(f"{file} does not hold tensors by their names{f' under {key!r}' if key else ''}")
    return dict(weights)


def renamed(weights: Mapping[str, Tensor], starts: Names, parts: Names) -> dict[str, Tensor]:
    """By new names. starts: what names begin with, old and new; the first that fits counts. parts: what else is in
    them. A name that is in neither stays, for `filled` to refuse."""
    return {_renamed(name, starts, parts): weight for name, weight in weights.items()}


def _renamed(name: str, starts: Names, parts: Names) -> str:
    for old, new in starts:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in parts:
        name = name.replace(old, new)
    return name


def unstacked(weights: Mapping[str, Tensor], stacked: str, single: str) -> dict[str, Tensor]:
    """By names where query, key and value are apart that lie one under the other in those with `stacked` in them.

    single: what stands there instead, with {} for q, k or v.
    """
    apart = {}
    for name, each in weights.items():
        if stacked in name:
            for letter, part in zip("qkv", each.chunk(3), strict=True):
                apart[name.replace(stacked, single.format(letter))] = part
        else:
            apart[name] = each
    return apart


def filled(network: Network, weights: Mapping[str, Tensor], file: Path) -> Network:
    """The network, frozen, with `weights` for all of its own. Raises BadInput unless they fit, each and no other."""
    kind, own = type(network).__name__, network.state_dict()
    if missing := sorted(own.keys() - weights.keys()):
        raise BadInput(f"{file} lacks {len(missing)} weights of {kind}, such as {missing[0]}")
    if others := sorted(weights.keys() - own.keys()):
        raise BadInput(f"{file} has {len(others)} weights that {kind} has not, such as {others[0]}")
    for name, weight in weights.items():
        if weight.shape != own[name].shape:
            shapes = f"{tuple(weight.shape)} instead of {tuple(own[name].shape)}"
            raise BadInput(f"{file} does not fit {kind}: {name} is {shapes}")
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval()
