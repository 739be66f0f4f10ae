"""What a run of `train-editor` will need, said before it runs: parameters, memory, disk and work. An estimate.

The editor is built without weights, and one minibatch runs through it on fake tensors (torch's FakeTensorMode: shapes
without values), while every block of memory that torch would hold is counted, from the operation that makes it to
the last that needs it. So the count follows the architecture, guidance, checkpointing and precision by themselves; it
is linear in the batch.

Measured on the compact editor and 2 CPU cores. Learning from 24 edits: 398 MB counted, 403 MB resident where glibc
gives every block back (MALLOC_MMAP_THRESHOLD_=65536), 595 to 614 MB where it does as it likes: ROOM is for that. A
whole round, its memory above what is loaded, with batches of 6, 24 and 48 edits: 0.19, 0.70 and 1.38 GB expected,
0.23, 0.71 and 1.32 GB seen. What a GPU adds was not measured: its 1.2 is an assumption. Not in it: what the judges
need beside their weights.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from sim2real_aug.config import settings as settings_from
from sim2real_aug.d3po.rollouts import Task, guidance_scales
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.trainer import prepare
from sim2real_aug.d3po.work import pass_operations, round_passes
from sim2real_aug.editor.adapter import adapter_state, trainable_parameters
from sim2real_aug.editor.editor import Conditioning, Editor
from sim2real_aug.editor.outline import outline

ALL_PHOTOS = 8  # of a bench, where an edit takes after all of them: no folder is asked for here
FLOAT = 4  # bytes; weights, optimiser and what is kept of a round are float32
ROOM = {"cpu": 1.7, "cuda": 1.2}  # of a minibatch's memory: what the allocator and the kernels take on top
PARTS = ("unet", "vae", "text_encoder", "fusion")
# Parameters as the authors of the judges' checkpoints give them.
JUDGES = {
    "depth-anything/Depth-Anything-V2-Small-hf": 25e6,
    "IDEA-Research/grounding-dino-tiny": 172e6,
    "facebook/sam2.1-hiera-tiny": 39e6,
    "facebook/dinov2-small": 22e6,
    "openai/clip-vit-large-patch14": 304e6,
    "ensemble": 260e6,
}
NAMES = ("name", "detector", "segmenter", "path")  # the keys of our loaders under which a checkpoint is named
COMPACT_JUDGE = "sim2real_aug.judges.load_judge"


@dataclass(frozen=True)
class Phase:
    """Memory in bytes of a minibatch of one group of edits, and what each group more adds."""

    first: float
    more: float

    def memory(self, groups: int) -> float:
        return self.first + (groups - 1) * self.more

    def groups_in(self, free: float) -> int:
        """How many groups fit into `free` bytes, 0 at least."""
        return 0 if free < self.first else 1 + int((free - self.first) / self.more)


@dataclass(frozen=True)
class Plan:
    """What a run needs; memory and disk in bytes.

    parameters: of each part of the editor. trained: how many of them, or added to them, move. held: memory that is
    taken throughout, by purpose. phases: memory of each thing that is done with a minibatch, of groups of `group`
    edits. disk: of the run folder. passes: of a round, see `work`; operations: of one. uncounted: judges whose size is
    not known.
    """

    parameters: dict[str, int]
    trained: int
    held: dict[str, float]
    phases: dict[str, Phase]
    group: int
    disk: float
    passes: int
    operations: float
    uncounted: tuple[str, ...]

    def minibatch(self, batch_size: int) -> float:
        """Memory of a minibatch, which has at least one group, as in training."""
        groups = max(1, batch_size // self.group)
        return max(phase.memory(groups) for phase in self.phases.values())

    def memory(self, batch_size: int) -> float:
        return sum(self.held.values()) + self.minibatch(batch_size)

    def largest_batch(self, free: float) -> int:
        """The largest batch size, in whole groups, whose memory is at most `free`; 0 where not even one fits."""
        left = free - sum(self.held.values())
        return self.group * min(phase.groups_in(left) for phase in self.phases.values())


def plan(config: DictConfig, device: torch.device) -> Plan:
    """What the configuration `train_editor` needs on `device`. Raises BadInput for one that cannot be run."""
    settings = settings_from(D3POSettings, config.d3po)
    editor = outline(config.editor)
    parameters = {name: _size(getattr(editor, name)) for name in PARTS}
    operations = pass_operations(editor)  # before an adapter, which is small, is on it
    scales = guidance_scales(_task(editor, settings))
    with torch.device("meta"):
        prepare(editor, settings)
    trained = sum(parameter.numel() for parameter in trainable_parameters(editor))
    adapter = sum(tensor.numel() for tensor in adapter_state(editor).values())
    averages = 1 if settings.ema_decay else 0
    judges = [name for key in ("judge", "guard") for name in judges_of(config.get(key))]
    held = {
        "editor": FLOAT * sum(_size(getattr(editor, name)) for name in PARTS),
        "reference": FLOAT * sum(_size(module) for module in editor.reference_modules.values()),
        "optimiser": FLOAT * (trained * (3 + averages) + adapter),  # gradient, two moments; the best round's copy
        "round": FLOAT * _round_size(editor, settings),
        "judges": FLOAT * sum(JUDGES.get(name, 0.0) for name in judges),
    }
    checkpoint = 2 * adapter + trained * (2 + averages)
    return Plan(
        parameters=parameters,
        trained=trained,
        held=held,
        phases=count_phases(editor, settings, ROOM.get(device.type, max(ROOM.values()))),
        group=settings.trajectories_per_condition,
        disk=FLOAT * (2 * checkpoint + sum(parameters.values())),  # a new checkpoint beside the old
        passes=round_passes(settings, scales, editor.unet.is_gradient_checkpointing),
        operations=operations,
        uncounted=tuple(name for name in judges if name not in JUDGES),
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def judges_of(node: DictConfig | None) -> list[str]:
    """What each judge of a node is called: its checkpoint, else its class; but for the compact one, which is small."""
    return [] if node is None else _names(OmegaConf.to_container(node))


def _names(node: Any) -> list[str]:
    parts = [name for value in node.values() if isinstance(value, dict) for name in _names(value)]
    if parts or node.get("_target_") == COMPACT_JUDGE:
        return parts
    return [str(node[key]) for key in NAMES if node.get(key) is not None] or [str(node.get("_target_"))]


def _task(editor: Editor, settings: D3POSettings) -> Task:
    unasked: Any = None  # no judge and no images: precision and scales alone are asked for
    return Task(editor, unasked, unasked, settings)


def _latent_shape(editor: Editor) -> tuple[int, int, int]:
    side = editor.image_size // editor.latent_stride
    return int(editor.vae.config.latent_channels), side, side


def _text_shape(editor: Editor) -> tuple[int, int]:
    config = editor.text_encoder.config
    return int(config.max_position_embeddings), int(config.hidden_size)


def _round_size(editor: Editor, settings: D3POSettings) -> int:
    """Numbers kept of a round: each edit's latents before and after every step, its conditioning, the reference."""
    latent, text = torch.Size(_latent_shape(editor)).numel(), torch.Size(_text_shape(editor)).numel()
    kept = 2 * settings.num_inference_steps + settings.train_timesteps + 2
    return settings.conditions_per_round * settings.trajectories_per_condition * (kept * latent + 2 * text)


def count_phases(editor: Editor, settings: D3POSettings, room: float = 1.0) -> dict[str, Phase]:
    """Encode, decode and learn, from what one group and two take; `editor` is prepared, and of the meta device."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        for name in PARTS:
            getattr(editor, name).to_empty(device="cpu")
        for parameter in trainable_parameters(editor):
            parameter.grad = torch.empty_like(parameter)  # of the minibatch before
        if settings.precision == "bf16":
            _normalise_in_float32(editor)
        one, two = (
            {name: room * _peak(editor, work) for name, work in _works(editor, settings, groups).items()}
            for groups in (1, 2)
        )
    return {name: Phase(one[name], two[name] - one[name]) for name in one}


def _normalise_in_float32(editor: Editor) -> None:
    """As CUDA's autocast does, and the CPU's, which counts here, does not."""
    for module in (*editor.unet.modules(), *editor.vae.modules()):
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(), *inputs[1:]))


def _works(editor: Editor, settings: D3POSettings, groups: int) -> dict[str, Callable[[], object]]:
    """What a round does with a minibatch of `groups`, by name."""
    task = _task(editor, settings)
    latent, text, size = _latent_shape(editor), _text_shape(editor), editor.image_size
    rows = groups * settings.trajectories_per_condition
    photos = groups * (editor.edit_settings.photos_per_edit or ALL_PHOTOS)

    def encode() -> object:
        with torch.no_grad(), task.autocast():
            return editor.encode_images(torch.empty(photos, 3, size, size))

    def decode() -> object:
        with torch.no_grad(), task.autocast():
            return editor.decode(torch.empty(rows, *latent))

    def learn() -> object:
        images, words = torch.empty(2, rows, *latent), torch.empty(2, rows, *text)
        seen = Conditioning(images[0], images[1], words[0], words[1])
        at = torch.zeros(rows, dtype=torch.long)
        with task.autocast():
            output = editor.predict(torch.empty(rows, *latent), at, seen, guidance_scales(task))
        return output.sum().backward()

    return {"encode": encode, "decode": decode, "learn": learn}


def _peak(editor: Editor, work: Callable[[], object]) -> int:
    """Most bytes that are alive at once in `work`, besides weights and gradients."""
    weights = [tensor for name in PARTS for tensor in getattr(editor, name).state_dict(keep_vars=True).values()]
    gradients = [tensor.grad for tensor in weights if tensor.grad is not None]
    with LiveBytes(known=[*weights, *gradients]) as live:
        work()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside while they live. known: tensors that are not counted."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, result)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.seen:  # a view
            return
        self.seen.add(storage)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, size: int) -> None:
        self.now -= size
