"""The trainable part of a specialist: LoRA on the UNet with conv_in and the fusion layer, or both networks whole.

conv_in's channels for the visual prompt start at zero, and only conv_in itself can move them: it is never a LoRA
target, but trained whole and saved with the adapter. So is the fusion layer, whose output projection starts at zero
too: it has a gradient at once, through the source's channels of conv_in; query, key and value have one after it has
moved. The reference policy of D3PO is the same network with
the adapter switched off and those two small modules swapped for their frozen originals: no second copy. Where the
whole UNet is trained there is nothing to switch off, and the reference is a frozen copy.
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
        if self.rank < 1 or not self.alpha > 0:
            raise BadInput(f"rank must be at least 1 and alpha above 0; got {self.rank} and {self.alpha}")
        if any("conv_in" in name for name in self.target_modules):
            raise BadInput("conv_in cannot be a LoRA target; train_conditioning=true trains it whole")


def _whole_modules(editor: Editor) -> dict[str, nn.Module]:
    """What is trained whole, saved whole and swapped for the reference."""
    if _has_lora(editor):
        return {"conv_in": editor.unet.conv_in, "fusion": editor.fusion}
    return {"unet": editor.unet, "fusion": editor.fusion}


def _has_lora(editor: Editor) -> bool:
    return ADAPTER in getattr(editor.unet, "peft_config", {})


def _freeze(editor: Editor) -> None:
    for module in (editor.vae, editor.text_encoder, editor.unet, editor.fusion):
        module.requires_grad_(False)


def _keep_reference(editor: Editor) -> None:
    editor.reference_modules = {name: copy.deepcopy(module) for name, module in _whole_modules(editor).items()}


def train_whole(editor: Editor) -> None:
    """Make the whole UNet and the fusion layer trainable, their frozen copies the reference."""
    _freeze(editor)
    _keep_reference(editor)
    for module in _whole_modules(editor).values():
        module.requires_grad_(True)


def require_targets(editor: Editor, settings: LoraSettings) -> None:
    """Raise BadInput for a target that no layer of the UNet is named like, or that is none that LoRA takes."""
    layers = {name: layer for name, layer in editor.unet.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    missing = [target for target in settings.target_modules if not any(_ends(name, target) for name in layers)]
    if missing or not settings.target_modules:
        raise BadInput(
            f"LoRA's target_modules must be endings of names of the UNet's linear or convolution layers; got "
            f"{missing or 'none'}, and there are such as {', '.join(sorted({_last(name) for name in layers}))}"
        )


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _last(name: str) -> str:
    """`to_q`, but `to_out.0`."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdecimal() else parts[-1:])


def add_lora(editor: Editor, settings: LoraSettings) -> None:
    """Freeze the editor and put a new adapter on it, which changes nothing until it is trained.

    Raises BadInput as `require_targets` does.
    """
    require_targets(editor, settings)
    _freeze(editor)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        init_lora_weights="gaussian",
        target_modules=list(settings.target_modules),
    )
    editor.unet.add_adapter(config, adapter_name=ADAPTER)
    _keep_reference(editor)
    if settings.train_conditioning:
        for module in _whole_modules(editor).values():
            module.requires_grad_(True)


@contextmanager
def reference(editor: Editor) -> Iterator[None]:
    """Inside, the editor is the base editor: adapter off, what is trained whole swapped for its original."""
    trained, lora = _whole_modules(editor), _has_lora(editor)
    if lora:
        editor.unet.disable_adapters()
    _put(editor, editor.reference_modules)
    try:
        yield
    finally:
        _put(editor, trained)
        if lora:
            editor.unet.enable_adapters()


def _put(editor: Editor, modules: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        setattr(editor.unet if name == "conv_in" else editor, name, module)


def trainable_parameters(editor: Editor) -> list[nn.Parameter]:
    """What the optimiser moves, in a fixed order."""
    modules = (editor.unet, editor.fusion)
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def adapter_state(editor: Editor) -> dict[str, Tensor]:
    """Everything that D3PO may have changed, by name: adapter, conv_in and fusion, or UNet and fusion."""
    state: dict[str, Tensor] = {}
    if _has_lora(editor):
        lora = get_peft_model_state_dict(editor.unet, adapter_name=ADAPTER)
        state |= {f"lora.{key}": value for key, value in lora.items()}
    for name, module in _whole_modules(editor).items():
        state |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    return state


def load_adapter_state(editor: Editor, state: dict[str, Tensor]) -> None:
    """Put back what `adapter_state` gave; the editor must be trained by the same settings."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    if _has_lora(editor):
        set_peft_model_state_dict(editor.unet, parts["lora"], adapter_name=ADAPTER)
    for name, module in _whole_modules(editor).items():
        module.load_state_dict(parts[name])


def merge_adapter(editor: Editor) -> None:
    """Fold the adapter, if there is one, into the weights and take it off: a plain editor again."""
    if _has_lora(editor):
        editor.unet.fuse_lora(adapter_names=[ADAPTER])
        editor.unet.unload_lora()
    del editor.reference_modules
    _freeze(editor)
