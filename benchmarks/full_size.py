"""The full-size editor with random weights: speed beside diffusers' pipeline, share of the peak, a round's time.

    python benchmarks/full_size.py --device cuda [--batch 16] [--json OUT.json]
    python benchmarks/full_size.py --tiny          # the same on networks that a laptop runs in seconds

Speed does not depend on the weights, so Stable Diffusion 1.5's architecture gets random ones. Three measurements:

edits: edits/s of our editor and of StableDiffusionInstructPix2PixPipeline, on the same VAE, text encoder and UNet, 20
steps at 256 and 512 pixels, one edit at a time and a batch of them; the ratio is of network passes/s. Both run three
passes a step: with the default scales, where s_sty is s_og, ours leaves one of its four out. The share of the peak
(model FLOPs utilisation) counts the UNet's operations alone, over the whole time of an edit, against the best that a
large matrix product reaches here in the same precision.

rounds: two rounds of D3PO with `d3po=paper`, but for the number of conditions; the second one's time in sampling,
judging and updating. The judge is the compact one: the published ones take longer.

frames: 64 frames through `augment`.

Claims, on an H200 or a like GPU: passes/s at least 2 times diffusers', at least half of the peak.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment_speed import write_store
from d3po_speed import make_task
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from paired_frames import SIZE, held_out_states
from torch import Tensor
from transformers import CLIPTokenizer

from sim2real_aug.augment import AugmentSettings, augment
from sim2real_aug.config import compose
from sim2real_aug.config import settings as settings_from
from sim2real_aug.d3po.learner import make_learner
from sim2real_aug.d3po.rollouts import sample_round
from sim2real_aug.d3po.scores import Conditions, Scores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.trainer import prepare, run_round
from sim2real_aug.d3po.work import pass_operations
from sim2real_aug.devices import matrix_rate
from sim2real_aug.editor.editor import Editor, EditSettings
from sim2real_aug.editor.guidance import active_passes
from sim2real_aug.editor.outline import STABLE_DIFFUSION, networks
from sim2real_aug.editor.widen import stochastic_scheduler, widened
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.judges import load_judge

LEAST_SPEED, LEAST_SHARE = 2.0, 0.5
THEIR_PASSES = 3
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # Stable Diffusion's
Networks = dict[str, dict[str, Any]]  # part -> its configuration
TINY_NETWORKS: Networks = {
    "unet": {
        "sample_size": 16,
        "in_channels": 8,
        "cross_attention_dim": 16,
        "block_out_channels": [16, 32],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    },
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "block_out_channels": [8, 8],
        "norm_num_groups": 4,
        "sample_size": 32,
    },
    "text_encoder": {
        **STABLE_DIFFUSION["text_encoder"],
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
}


@dataclass(frozen=True)
class Scale:
    """sizes: pixels a side. steps: of denoising. frames: to augment."""

    networks: Networks
    sizes: tuple[int, ...]
    steps: int
    frames: int


FULL = Scale(STABLE_DIFFUSION, (256, 512), steps=20, frames=64)
TINY = Scale(TINY_NETWORKS, (32,), steps=2, frames=4)


@dataclass(frozen=True)
class Machine:
    device: torch.device
    dtype: torch.dtype

    def seconds(self, run: Callable[[], object], repeats: int = 3) -> float:
        """The fastest of a few runs, after one that warms up."""
        run()
        return min(self.once(run) for _ in range(repeats))

    def once(self, run: Callable[[], object]) -> float:
        self.wait()
        began = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def random_parts(configs: Networks, machine: Machine) -> dict[str, Any]:
    """InstructPix2Pix's networks with random weights, and a tokenizer that knows single letters."""
    torch.manual_seed(0)
    with machine.device:
        parts = networks(configs)
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocabulary, [], unk_token=words[1], model_max_length=77)
    return {**{name: part.to(machine.dtype).eval() for name, part in parts.items()}, "tokenizer": tokenizer}


def random_editor(scale: Scale, size: int, machine: Machine) -> Editor:
    """Our editor of random parts, with the paper's scales."""
    scheduler = stochastic_scheduler(BETAS)
    editor = widened(random_parts(scale.networks, machine), scheduler, size, gradient_checkpointing=False)
    editor.edit_settings = EditSettings(num_inference_steps=scale.steps)
    editor.fusion.to(machine.device, machine.dtype)
    return editor


def edits(scale: Scale, size: int, batch: int, peak: float, machine: Machine) -> dict[str, Any]:
    """Edits/s of both at one size and batch."""
    images = torch.rand(batch, 3, size, size, device=machine.device)
    ours, operations = our_seconds(scale, images, machine)
    theirs = their_seconds(scale, images, machine)
    passes = len(active_passes(EditSettings().scales))
    our_speed, their_speed = (scale.steps * batch * rate for rate in (passes / ours, THEIR_PASSES / theirs))
    return {
        "size": size,
        "batch": batch,
        "passes": passes,
        "edits_per_second": round(batch / ours, 3),
        "diffusers_edits_per_second": round(batch / theirs, 3),
        "times_the_passes": round(our_speed / their_speed, 3),
        "share_of_peak": round(our_speed * operations / peak, 4),
    }


@torch.no_grad()
def our_seconds(scale: Scale, images: Tensor, machine: Machine) -> tuple[float, float]:
    """Of one batch of edits; and the operations of one pass of the UNet."""
    size = images.shape[-1]
    editor = random_editor(scale, size, machine)
    noise = editor.initial_latents(len(images), torch.Generator().manual_seed(0), size)
    return machine.seconds(lambda: editor.edit(images, images.flip(0), noise)), pass_operations(editor)


def their_seconds(scale: Scale, images: Tensor, machine: Machine) -> float:
    pipeline = StableDiffusionInstructPix2PixPipeline(
        **random_parts(scale.networks, machine),
        scheduler=DDIMScheduler(**BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": scale.steps, "guidance_scale": 7.5, "output_type": "pt"}
    prompts = [EditSettings().instruction] * len(images)
    return machine.seconds(lambda: pipeline(prompts, image=images.to(machine.dtype), **options))


@dataclass
class TimedScorer:
    """The scorer, and the seconds that it took."""

    scorer: Callable[[Conditions, Tensor], Scores]
    machine: Machine
    seconds: float = 0.0

    def __call__(self, conditions: Conditions, edits: Tensor) -> Scores:
        self.machine.wait()
        began = time.perf_counter()
        scores = self.scorer(conditions, edits)
        self.machine.wait()
        self.seconds += time.perf_counter() - began
        return scores


def rounds(editor: Editor, conditions: int, machine: Machine) -> dict[str, Any]:
    """Two rounds of D3PO; what the second one's seconds went into."""
    paper = settings_from(D3POSettings, compose("train_editor", ["d3po=paper"]).d3po)
    steps = editor.edit_settings.num_inference_steps
    settings = replace(
        paper,
        conditions_per_round=conditions,
        batch_size=min(16, 2 * conditions),
        num_inference_steps=steps,
        train_timesteps=steps,
    )
    plain = make_task(editor, settings, machine.device)
    task = replace(plain, scorer=TimedScorer(plain.scorer, machine))
    prepare(editor, settings)
    learner = make_learner(editor, settings)
    run_round(task, learner, 1)
    sampled = machine.once(lambda: sample_round(task, 2))  # the same edits that round 2 samples
    task.scorer.seconds = 0.0
    whole = machine.once(lambda: run_round(task, learner, 2))
    judged = task.scorer.seconds
    return {
        "edits": conditions * settings.trajectories_per_condition,
        "seconds": round(whole, 2),
        "sampling": round(sampled - judged, 2),
        "judging": round(judged, 2),
        "updating": round(whole - sampled, 2),
    }


def frames(editor: Editor, count: int, batch: int) -> dict[str, Any]:
    """`count` frames of a synthetic store, edited and judged."""
    photos = np.stack([make_renderer("flat").render(state, SIZE).image for state in held_out_states(2, seed=0)])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.zarr"
        write_store(source, episodes=1, frames=count)
        judge = load_judge().to(editor.device)
        done = augment(source, editor, Path(folder) / "out.zarr", AugmentSettings(batch_size=batch), photos, judge)
    return {name: done[name] for name in ("frames", "frames_per_second")}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny networks at 32 pixels")
    parser.add_argument("--batch", type=int, default=16, help="edits at once")
    parser.add_argument("--conditions", type=int, default=16, help="of a round of D3PO")
    parser.add_argument("--json", type=Path, help="write the result here")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    half = Machine(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    scale = TINY if chosen.tiny else FULL
    peak, batches = matrix_rate(device, half.dtype), (1, chosen.batch)
    result: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    result["peak_tflops"] = round(peak / 1e12, 3)
    result["edits"] = [edits(scale, size, batch, peak, half) for size in scale.sizes for batch in batches]
    result["frames"] = frames(random_editor(scale, scale.sizes[0], half), scale.frames, chosen.batch)
    trained = random_editor(scale, scale.sizes[0], Machine(device, torch.float32))  # bf16 is a setting of D3PO's
    result["round"] = rounds(trained, chosen.conditions, half)
    print(json.dumps(result, indent=2))
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    best = [max(row[name] for row in result["edits"]) for name in ("times_the_passes", "share_of_peak")]
    return 0 if best[0] >= LEAST_SPEED and best[1] >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
