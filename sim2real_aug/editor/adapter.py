"""The trainable part of a specialist: LoRA on the UNet, and conv_in with the fusion layer.

A fusion layer and style channels that start at zero only learn when conv_in itself moves, so conv_in is never a
LoRA target: it is trained whole and saved with the adapter. The reference policy of D3PO is the same network with
the adapter switched off and those two small modules swapped for their frozen originals: no second copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput

ADAPTER = "specialist"


@dataclass(frozen=True)
class LoraSettings:
    """`target_modules`: name endings of UNet layers; `train_conditioning`: also train conv_in and fusion."""

    rank: int = 8
    alpha: float = 8.0
    target_modules: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    train_conditioning: bool = True

    def __post_init__(self) -> None:
        if any("conv_in" in name for name in self.target_modules):
            raise BadInput("conv_in cannot be a LoRA target; train_conditioning=true trains it whole")


def _conditioning_modules(editor: Editor) -> dict[str, nn.Module]:
    return {"conv_in": editor.unet.conv_in, "fusion": editor.fusion}


def add_lora(editor: Editor, settings: LoraSettings) -> None:
    """Freeze the editor and put a new adapter on it, which changes nothing until it is trained.

    Raises BadInput when no layer of the UNet is named like a target.
    """
    for module in (editor.vae, editor.text_encoder, editor.unet, editor.fusion):
        module.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        init_lora_weights="gaussian",
        target_modules=list(settings.target_modules),
    )
    try:
        editor.unet.add_adapter(config, adapter_name=ADAPTER)
    except ValueError as error:
        raise BadInput(f"lora_target_modules {list(settings.target_modules)}: {error}") from error
    originals = {name: copy.deepcopy(module) for name, module in _conditioning_modules(editor).items()}
    editor.reference_modules = originals
    if settings.train_conditioning:
        for module in _conditioning_modules(editor).values():
            module.requires_grad_(True)


@contextmanager
def reference(editor: Editor) -> Iterator[None]:
    """Inside, the editor is the base editor: adapter off, original conv_in and fusion."""
    conv_in, fusion = editor.unet.conv_in, editor.fusion
    editor.unet.disable_adapters()
    editor.unet.conv_in, editor.fusion = (
        editor.reference_modules["conv_in"],
        editor.reference_modules["fusion"],
    )
    try:
        yield
    finally:
        editor.unet.conv_in, editor.fusion = conv_in, fusion
        editor.unet.enable_adapters()


def trainable_parameters(editor: Editor) -> list[nn.Parameter]:
    """What the optimiser moves, in a fixed order."""
    modules = (editor.unet, editor.fusion)
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def adapter_state(editor: Editor) -> dict[str, Tensor]:
    """Adapter, conv_in and fusion: everything that D3PO may have changed, by name."""
    state = {f"lora.{k}": v for k, v in get_peft_model_state_dict(editor.unet, adapter_name=ADAPTER).items()}
    for name, module in _conditioning_modules(editor).items():
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return state


def load_adapter_state(editor: Editor, state: dict[str, Tensor]) -> None:
    """Put back what `adapter_state` gave; the editor must carry an adapter of the same settings."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    set_peft_model_state_dict(editor.unet, parts["lora"], adapter_name=ADAPTER)
    for name, module in _conditioning_modules(editor).items():
        module.load_state_dict(parts[name])


def merge_adapter(editor: Editor) -> None:
    """Fold the adapter into the weights and take it off: a plain editor again."""
    editor.unet.fuse_lora(adapter_names=[ADAPTER])
    editor.unet.unload_lora()
    del editor.reference_modules
    for module in (editor.unet, editor.fusion):
        module.requires_grad_(False)
