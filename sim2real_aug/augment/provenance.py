"""How an edited store was made: what is written into its attributes, and compared before a run is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

import sim2real_aug
from sim2real_aug.augment.settings import AugmentSettings
from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.editor.composition import composition_of

# Mere places: what lies there is in the record by its hash.
FREE = ("source", "editor")


def weights_hash(parts: Mapping[str, Any]) -> str:
    """One hash (hex) of the weights and the configurations of all components, whatever their device."""
    digest = hashlib.blake2b(digest_size=16)
    for name, part in sorted(parts.items()):
        digest.update(name.encode())
        if isinstance(part, torch.nn.Module):
            for key, tensor in sorted(part.state_dict().items()):
                digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(raw.numpy().data)
        if isinstance(config := getattr(part, "config", None), Mapping):
            named = {k: v for k, v in config.items() if not k.startswith("_")}
            digest.update(json.dumps(named, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def judge_hash(judge: Any) -> str:
    """`weights_hash` of a judge, which is one network or a composition of several."""
    return weights_hash({"judge": judge, **getattr(judge, "components", {})})


def describe(
    buffer: ReplayBuffer, editor: Any, photos: PhotoSet, judge: Any, settings: AugmentSettings
) -> dict[str, Any]:
    """The record that goes into the store's root attribute "augmentation" (JSON values)."""
    return {
        "version": sim2real_aug.__version__,
        "source": str(buffer.path),
        "source_hash": buffer.content_hash(),
        "editor": str(getattr(editor, "name_or_path", "")),
        "editor_hash": weights_hash(editor.components),
        "edit_settings": dataclasses.asdict(editor.edit_settings),
        "composition": composition_of(editor),
        "photos": dict(zip(photos.names, photos.hashes, strict=True)),
        "judge_hash": None if judge is None else judge_hash(judge),
        **dataclasses.asdict(settings),
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of what would make other frames."""
    plain = json.loads(json.dumps(dict(new)))
    keys = sorted({*old, *plain} - set(FREE))
    return [key for key in keys if old.get(key) != plain.get(key)]
