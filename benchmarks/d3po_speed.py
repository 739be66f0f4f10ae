"""D3PO samples per second and peak memory, against a straightforward reading of D3PO's public code.

    python benchmarks/d3po_speed.py [--json OUT.json] [--pairs 2] [--device cpu]

Both train the editor that ships on the same pairs, all denoising steps, one optimiser step a pair, and must end
with the same weights. The reading (yk7333/d3po, scripts/train_with_rm.py) keeps a deep copy as the reference, runs
every guidance pass, encodes for each side of a pair anew, and learns from one pair and one step at a time, with
both sides in one graph. A sample is one edit: drawn, scored, learnt from.

Every arm is a process of its own with one thread. On a CPU a second is one of the processor's, which other work on
the machine moves little, and memory is what the run adds to a process that has imported everything; on a GPU
seconds are the clock's and memory is torch's peak. The arm `all passes` has scales that leave no pass out; `as
shipped` is configs/d3po/compact.yaml with its groups and its subset of steps.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sim2real_aug.config import compose
from sim2real_aug.config import settings as settings_from
from sim2real_aug.d3po.learner import Learner, make_learner
from sim2real_aug.d3po.preferences import total_score
from sim2real_aug.d3po.rollouts import (
    Task,
    TrainingImages,
    draw_conditions,
    guidance_scales,
    initial_latents,
)
from sim2real_aug.d3po.scores import Conditions, JudgedScores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.trainer import prepare, run_round
from sim2real_aug.data.photos import as_photo_set
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.ddim import ddim_step, log_prob, sampling_timesteps, velocity_of
from sim2real_aug.editor.editor import Conditioning, Editor
from sim2real_aug.envs import make_renderer
from sim2real_aug.envs.recordings import load_recordings
from sim2real_aug.judges import load_judge
from sim2real_aug.seeding import numpy_generator, torch_generator

ARMS = ("public", "same pairs", "all passes", "as shipped")
LEAST_SPEED, MOST_MEMORY, SAME_WEIGHTS = 2.0, 0.7, 1e-3
STEPS = 8  # of configs/d3po/compact.yaml


@dataclass(frozen=True)
class Measured:
    """One arm. weights: norm of what was learnt, and its dot product with a fixed direction, to compare arms."""

    samples: int
    seconds: float
    samples_per_second: float
    peak_memory_MB: float
    weights: tuple[float, float]


@dataclass(frozen=True)
class Side:
    """One edit of each of C conditions: conditioning, latents and next_latents (C, T, c, h, w), scores (C, 1)."""

    conditioning: Conditioning
    latents: Tensor
    next_latents: Tensor
    structural: Tensor
    semantic: Tensor


# ---- the reading of the public code ----


@dataclass(frozen=True)
class Policy:
    """A network that can be asked for a step: the one that learns, or its deep copy."""

    unet: nn.Module
    fusion: nn.Module


def guided(task: Task, policy: Policy, latents: Tensor, t: Tensor, seen: Conditioning) -> Tensor:
    """All four predictions in one batch, combined by DESIGN's guidance formula."""
    none = torch.zeros_like(seen.source)
    source = torch.cat([none, seen.source, seen.source, seen.source])
    style = torch.cat([none, none, seen.style, seen.style])
    text = torch.cat([seen.null_text, seen.null_text, seen.null_text, seen.text])
    images = policy.fusion(torch.cat([source, style], dim=1), text)
    batch = torch.cat([latents.repeat(4, 1, 1, 1), images], dim=1)
    output = policy.unet(batch, t.repeat(4), encoder_hidden_states=text).sample
    if task.editor.composes:
        prompts = style * task.editor.vae.config.scaling_factor
        output = output + velocity_of(task.editor.scheduler, prompts, t.repeat(4))
    bare, with_source, with_style, full = output.chunk(4)
    scales = guidance_scales(task)
    return (
        bare
        + scales.image * (with_source - bare)
        + scales.style * (with_style - with_source)
        + scales.text * (full - with_style)
    )


def step(task: Task, policy: Policy, latents: Tensor, t: Tensor, seen: Conditioning) -> tuple[Tensor, Tensor]:
    output = guided(task, policy, latents, t, seen)
    return ddim_step(task.editor.scheduler, output, t, latents, task.settings.num_inference_steps, eta=1.0)


@torch.no_grad()
def sample_side(task: Task, policy: Policy, conditions: Conditions, round_number: int, side: int) -> Side:
    """One edit of each condition, its own encodings and its own call of the judges."""
    editor, seed = task.editor, task.settings.seed
    seen = editor.condition(conditions.source, conditions.visual_prompts, editor.edit_settings.instruction)
    path = [initial_latents(task, "initial latents", round_number, numbers=conditions.numbers)]
    noise = [torch_generator(seed, "step noise", round_number, int(n), side) for n in conditions.numbers]
    for t in sampling_timesteps(editor.scheduler, task.settings.num_inference_steps).to(editor.device):
        mean, std = step(task, policy, path[-1], t.expand(len(path[-1])), seen)
        drawn = torch.stack([torch.randn(mean.shape[1:], generator=g) for g in noise])
        path.append(mean + std * drawn.to(mean))
    scores = task.scorer(conditions, editor.draw(path[-1], seen)[:, None])
    stacked = torch.stack(path, dim=1)
    return Side(seen, stacked[:, :-1], stacked[:, 1:], scores.structural, scores.semantic)


def log_ratio(task: Task, policy: Policy, reference: Policy, side: Side, pair: int, place: int) -> Tensor:
    """log pi_theta - log pi_ref of one step of one edit: (1,)."""
    timesteps = sampling_timesteps(task.editor.scheduler, task.settings.num_inference_steps)
    t = timesteps[place : place + 1].to(task.editor.device)
    latents, taken = side.latents[pair : pair + 1, place], side.next_latents[pair : pair + 1, place]
    seen = side.conditioning.index(slice(pair, pair + 1))
    new = log_prob(taken, *step(task, policy, latents, t, seen))
    old = log_prob(taken, *step(task, reference, latents, t, seen))
    return new - old.detach()


def public_round(task: Task, learner: Learner, reference: Policy, number: int) -> None:
    """Sample both sides of every pair, then learn from pair after pair, step after step."""
    settings, policy = task.settings, Policy(task.editor.unet, task.editor.fusion)
    (conditions,) = draw_conditions(replace(task, settings=replace(settings, batch_size=10**6)), number)
    sides = [sample_side(task, policy, conditions, number, side) for side in (0, 1)]
    structural = torch.cat([side.structural for side in sides], dim=1)
    semantic = torch.cat([side.semantic for side in sides], dim=1)
    total = total_score(structural, semantic, settings.alpha)
    order = numpy_generator(settings.seed, "minibatches", number, 0).permutation(len(total))
    for pair in order.tolist():
        prefer = torch.sign(total[pair, 1] - total[pair, 0])  # 1: the first side is the better one
        learner.optimizer.zero_grad(set_to_none=True)
        for place in range(settings.num_inference_steps):
            kept = [1 - settings.clip_ratio, 1 + settings.clip_ratio]
            ratios = [
                torch.clamp(torch.exp(log_ratio(task, policy, reference, side, pair, place)), *kept)
                for side in sides
            ]
            margin = settings.beta * prefer * (torch.log(ratios[0]) - torch.log(ratios[1]))
            (-torch.log(torch.sigmoid(margin)).mean() / settings.num_inference_steps).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters, settings.max_grad_norm)
        learner.optimizer.step()


# ---- the arms ----


def arm_settings(arm: str, pairs: int) -> D3POSettings:
    shipped = settings_from(D3POSettings, compose("train_editor").d3po)
    if arm == "as shipped":
        return shipped
    return replace(
        shipped, conditions_per_round=pairs, trajectories_per_condition=2, batch_size=2, updates_per_round=pairs,
        num_inference_steps=STEPS, train_timesteps=STEPS, shared_noise=False, weigh_steps=False,
    )  # fmt: skip


def make_task(editor: Editor, settings: D3POSettings, device: torch.device) -> Task:
    """An editor on 64 recorded states, drawn flat at its size, with photos of a randomized scene."""
    recorded = load_recordings().state
    states = recorded[np.linspace(0, len(recorded) - 1, 64).astype(int)]
    flat, scene = make_renderer("flat"), make_renderer("randomized/25")
    frames = np.stack([flat.render(state, editor.image_size).image for state in states])
    photos = np.stack([scene.render(state, editor.image_size).image for state in states[:8]])
    images = TrainingImages(
        read=lambda numbers: frames[numbers], train=np.arange(60), held_out=np.arange(60, 64),
        photo_set=as_photo_set(photos),
    )  # fmt: skip
    judge = load_judge().to(device)  # type: ignore[attr-defined]
    return Task(editor, JudgedScores(judge, settings.regions, settings.lambda_outside), images, settings)


def measure(arm: str, pairs: int, device: torch.device) -> Measured:
    """One round to warm up, one that is timed; the peak is of both."""
    settings = arm_settings(arm, pairs)
    before = reset_peak(device)
    editor = load_editor().to(device)
    if arm == "all passes":
        scales = {"image_guidance_scale": 1.5, "style_guidance_scale": 2.0, "guidance_scale": 7.5}
        editor.edit_settings = replace(editor.edit_settings, **scales)
    task = make_task(editor, settings, device)
    reference = Policy(copy.deepcopy(editor.unet), copy.deepcopy(editor.fusion)) if arm == "public" else None
    prepare(editor, settings)
    learner = make_learner(editor, settings)
    start = [parameter.detach().clone() for parameter in learner.parameters]
    for number in (1, 2):
        began = clock(device)
        if reference is not None:
            public_round(task, learner, reference, number)
        else:
            run_round(task, learner, number)
    seconds = clock(device) - began
    samples = settings.conditions_per_round * settings.trajectories_per_condition
    moved = torch.cat(
        [(p.detach() - s).flatten().cpu() for p, s in zip(learner.parameters, start, strict=True)]
    )
    direction = torch.randn(len(moved), generator=torch.Generator().manual_seed(0))
    return Measured(
        samples=samples,
        seconds=round(seconds, 2),
        samples_per_second=round(samples / seconds, 3),
        peak_memory_MB=round(peak(device) - before, 1),
        weights=(moved.norm().item(), (moved @ direction / moved.norm()).item()),
    )


def clock(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak(device: torch.device) -> float:
    """Forget the peak of memory so far; what is in use now, MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return peak(device)


def peak(device: torch.device) -> float:
    """The most memory in use since `reset_peak`, MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def in_a_process(arm: str, arguments: argparse.Namespace) -> Measured:
    options = ["--arm", arm, "--pairs", str(arguments.pairs), "--device", arguments.device]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    result = Measured(**json.loads(done.stdout.splitlines()[-1]))
    print(arm, result, file=sys.stderr, flush=True)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--pairs", type=int, default=2, help="pairs of a round in all arms but the last")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--arm", choices=ARMS, help="measure this one here, print it as one line")
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(asdict(measure(arguments.arm, arguments.pairs, torch.device(arguments.device)))))
        return 0
    arms = {arm: in_a_process(arm, arguments) for arm in ARMS}
    public, same = arms["public"], arms["same pairs"]
    result = {
        "device": arguments.device,
        "pairs": arguments.pairs,
        "arms": {arm: asdict(measured) for arm, measured in arms.items()},
        "times_the_speed": {
            arm: round(arms[arm].samples_per_second / public.samples_per_second, 2) for arm in ARMS[1:]
        },
        "share_of_the_memory": {
            arm: round(arms[arm].peak_memory_MB / public.peak_memory_MB, 2) for arm in ARMS[1:]
        },
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    learnt_the_same = np.allclose(public.weights, same.weights, rtol=SAME_WEIGHTS, atol=SAME_WEIGHTS)
    fast = result["times_the_speed"]["same pairs"] >= LEAST_SPEED
    return 0 if learnt_the_same and fast and result["share_of_the_memory"]["same pairs"] <= MOST_MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
