"""Making a base editor a specialist: on-policy rounds of D3PO with the judges' preferences.

    sim2real-aug train-editor DATASET.zarr --photos DIR --out RUN

A round draws conditions, samples a group of edits for each, lets the judges rank them and learns from every
pair. From here to the maths: run_round -> update.update -> loss.d3po_loss. We leave D3PO's code in three
places: all pairs of a group instead of one, the reference is the same network with its adapter off instead of
a deep copy, and the round whose held-out edits score best is kept, for a longer run may learn to please the
judges. Everything drawn derives from (seed, round), so that a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import settings as settings_from
from sim2real_aug.d3po.checkpoint import (
    TrainingState,
    checkpoint_path,
    copy_adapter,
    load,
    make_optimizer,
    save,
)
from sim2real_aug.d3po.held_out import draw_grid, edit_held_out, held_out_metrics
from sim2real_aug.d3po.inputs import open_dataset, open_photos, training_images
from sim2real_aug.d3po.preferences import rank_pairs, total_score
from sim2real_aug.d3po.rollouts import Task, draw_conditions, sample_rollout
from sim2real_aug.d3po.scores import JudgedScores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.update import draw_steps, update, with_reference
from sim2real_aug.data.photos import PhotoSet
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.devices import resolve_device
from sim2real_aug.editor.adapter import (
    LoraSettings,
    add_lora,
    load_adapter_state,
    merge_adapter,
    reference,
    trainable_parameters,
)
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import Fault
from sim2real_aug.progress import progress, say
from sim2real_aug.runs import RunFolder
from sim2real_aug.seeding import derive_seed


def train_editor(
    config: DictConfig,
    dataset: str | Path | None = None,
    photos: Path | None = None,
    out: str | Path = Path("runs/editor"),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a specialist as `configs/train_editor.yaml` says; returns the summary that is saved with the run.

    dataset: a replay buffer; None simulates a small one. photos: a folder; None takes the editor's own.
    The same call continues an interrupted run. Raises BadInput before anything is written or removed.
    """
    settings = settings_from(D3POSettings, config.d3po)
    device = resolve_device(config.device)
    if dataset is not None:
        ReplayBuffer.open(dataset)
    editor = instantiate(config.editor).to(device)
    photo_set = open_photos(photos, editor)
    run = RunFolder.open(out, with_inputs(config, dataset, photos, photo_set), overwrite)
    finished = run.summary()
    if finished is not None:
        say(f"{run.path} is finished; --overwrite starts again")
        return finished
    buffer = open_dataset(dataset, config.simulate, run.path)
    images = training_images(buffer, photo_set, editor.image_size, settings)
    judge = instantiate(config.judge)
    if isinstance(judge, torch.nn.Module):
        judge.to(device)
    scorer = JudgedScores(judge, settings.regions, settings.lambda_outside)
    return train(Task(editor, scorer, images, settings), run)


def with_inputs(
    config: DictConfig, dataset: str | Path | None, photos: Path | None, photo_set: PhotoSet
) -> DictConfig:
    """The configuration to save with the run: other inputs make another run."""
    saved = DictConfig(OmegaConf.to_container(config, resolve=True))
    saved.dataset = None if dataset is None else str(dataset)
    saved.photos = None if photos is None else str(photos)
    saved.photo_hashes = list(photo_set.hashes)
    return saved


def train(task: Task, run: RunFolder) -> dict[str, Any]:
    """The loop: rounds of `run_round`, with held-out scores, pictures and checkpoints in between.

    Raises Fault when a score, loss or gradient is not finite; the last checkpoint then stays as it is.
    """
    began, settings = time.monotonic(), task.settings
    prepare(task.editor, settings)
    state = load(task, run) or start(task, run)
    run.rewind(state.round)
    with progress("train-editor", settings.rounds, done=state.round, unit="round") as bar:
        while state.round < settings.rounds:
            number = state.round + 1
            last = number == settings.rounds
            metrics = run_round(task, state.optimizer, number)
            if last or number % settings.evaluate_every == 0:
                metrics |= evaluate(task, state, run, number)
            state.round = number
            run.log(number, metrics)
            if last or number % settings.checkpoint_every == 0:
                save(task, state, run)
            bar.advance(note=f"structural {metrics['structural']:.4g} semantic {metrics['semantic']:.4g}")
    summary = finish(task, state, run)
    summary["seconds"] = round(time.monotonic() - began, 1)  # of this process: less than all after a resume
    run.write_summary(summary)
    return summary


def prepare(editor: Editor, settings: D3POSettings) -> None:
    """Put the adapter on the editor, the only part that is trained, and give it the run's instruction."""
    if settings.instruction is not None:
        editor.edit_settings = replace(editor.edit_settings, instruction=settings.instruction)
    lora = LoraSettings(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        target_modules=settings.lora_target_modules,
        train_conditioning=settings.train_conditioning,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "adapter"))
        add_lora(editor, lora)


def start(task: Task, run: RunFolder) -> TrainingState:
    """The state before the first round: the base editor's held-out scores are line 0 of the metrics."""
    base, edits = edit_held_out(task)
    state = TrainingState(make_optimizer(task.editor, task.settings), base, copy_adapter(task.editor))
    draw_grid(task.images, [edits], ["base editor"], samples(run, 0))
    run.rewind(-1)
    run.log(0, held_out_metrics(base, base, task.settings.alpha))
    save(task, state, run)
    return state


def run_round(task: Task, optimizer: torch.optim.Optimizer, number: int) -> dict[str, float]:
    """One on-policy round: sample, judge, rank, learn. Returns its metrics; the scores are the samples'."""
    rollouts = [sample_rollout(task, conditions, number) for conditions in draw_conditions(task, number)]
    structural = torch.cat([rollout.scores.structural for rollout in rollouts])
    semantic = torch.cat([rollout.scores.semantic for rollout in rollouts])
    total = total_score(structural, semantic, task.settings.alpha)  # over the round, not the minibatch
    parts = total.split([len(rollout.scores.structural) for rollout in rollouts])
    try:
        if not torch.isfinite(total).all():
            raise Fault("a score of the judges is not finite")
        batches = [
            with_reference(task, rollout, rank_pairs(part), draw_steps(task.settings, number, index))
            for index, (rollout, part) in enumerate(zip(rollouts, parts, strict=True))
        ]
        learned = update(task, optimizer, batches, number)
    except Fault as fault:
        raise Fault(
            f"round {number}: {fault}; stopped, the checkpoint holds the last good round. "
            "A lower d3po.learning_rate usually mends this"
        ) from fault
    return {
        "structural": structural.mean().item(),
        "semantic": semantic.mean().item(),
        "sigma_structural": structural.std(unbiased=False).item(),
        "sigma_semantic": semantic.std(unbiased=False).item(),
        "advantage_mean": total.mean().item(),
        "advantage_std": total.std(unbiased=False).item(),
        "pairs": sum(len(batch.pairs) for batch in batches),
        **learned,
    }


def evaluate(task: Task, state: TrainingState, run: RunFolder, number: int) -> dict[str, float]:
    """Score the held-out frames, remember the adapter when it is the best so far, draw the samples."""
    settings = task.settings
    scores, edits = edit_held_out(task)
    metrics = held_out_metrics(scores, state.base, settings.alpha)
    if metrics["held_out_total"] < state.best_total:
        state.best_round, state.best_total = number, metrics["held_out_total"]
        state.best_adapter = copy_adapter(task.editor)
    if number == settings.rounds or number % settings.sample_grid_every == 0:
        draw_grid(task.images, [edits], [f"round {number}"], samples(run, number))
    return metrics


def samples(run: RunFolder, number: int) -> Path:
    return run.path / "samples" / f"round-{number:04d}.png"


def finish(task: Task, state: TrainingState, run: RunFolder) -> dict[str, Any]:
    """Write RUN/editor (adapter merged, photos beside it) and the picture of base against specialist."""
    editor, kept = task.editor, state.round
    if task.settings.keep == "best":
        kept = state.best_round
        load_adapter_state(editor, state.best_adapter)
        if kept == 0:
            say("no round scored better than the base editor on the held-out frames: the base editor is kept")
    with reference(editor):
        _, base_edits = edit_held_out(task)
    scores, edits = edit_held_out(task)
    labels = ["base editor", "specialist"]
    picture = draw_grid(task.images, [base_edits, edits], labels, run.path / "samples" / "specialist.png")
    trained = sum(parameter.numel() for parameter in trainable_parameters(editor))
    merge_adapter(editor)
    editor.photos = task.images.photos
    editor.save_pretrained(run.path / "editor")
    return {
        "editor": str(run.path / "editor"),
        "picture": str(picture),
        "checkpoint": str(checkpoint_path(run)),
        "rounds": state.round,
        "kept_round": kept,
        "trained_parameters": trained,
        "base_structural": state.base.structural.mean().item(),
        "base_semantic": state.base.semantic.mean().item(),
        **held_out_metrics(scores, state.base, task.settings.alpha),
    }
