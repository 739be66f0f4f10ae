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
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from sim2real_aug.augment.provenance import judge_hash, weights_hash
from sim2real_aug.config import make
from sim2real_aug.config import settings as settings_from
from sim2real_aug.d3po.checkpoint import TrainingState, checkpoint_path, copy_adapter, load, save
from sim2real_aug.d3po.choice import choose, is_hacked
from sim2real_aug.d3po.held_out import draw_grid, edit_held_out, held_out_metrics
from sim2real_aug.d3po.inputs import (
    checked_composer,
    open_photos,
    require_object_in,
    simulated_dataset,
    training_images,
    with_inputs,
)
from sim2real_aug.d3po.learner import Learner, averaged, make_learner
from sim2real_aug.d3po.preferences import rank_pairs, total_score
from sim2real_aug.d3po.processes import (
    collect,
    count_processes,
    is_main,
    join_processes,
    main_first,
    own,
    require_work,
    wait_for_all,
)
from sim2real_aug.d3po.record import record_round, rewind, samples
from sim2real_aug.d3po.rollouts import Task, draw_steps, sample_round
from sim2real_aug.d3po.scores import JudgedScores
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.update import update, with_reference
from sim2real_aug.d3po.watch import held_out_targets, open_guard
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.devices import memory_advice
from sim2real_aug.editor.adapter import (
    LoraSettings,
    add_lora,
    load_adapter_state,
    merge_adapter,
    require_targets,
    train_whole,
)
from sim2real_aug.editor.composition import composition_of
from sim2real_aug.editor.ddim import require_stochastic
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import Fault
from sim2real_aug.judges import open_judge
from sim2real_aug.progress import progress, say
from sim2real_aug.runs import RunFolder
from sim2real_aug.seeding import derive_seed

BATCH_SIZE = "d3po.batch_size"  # memory alone
FREE = (BATCH_SIZE, "device", "dataset", "photos")  # a run may go on with others: of inputs the hashes decide
HACKED = "the judges' held-out score improves while the guard's gets worse"


def train_editor(
    config: DictConfig,
    dataset: str | Path | None = None,
    photos: Path | None = None,
    out: str | Path = Path("runs/editor"),
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train a specialist as `configs/train_editor.yaml` says; returns the summary that is saved with the run.

    dataset: a replay buffer; None simulates a small one. photos: a folder; None takes the editor's own.
    The same call continues an interrupted run, with another d3po.batch_size or device too. Raises BadInput before
    anything is written or removed, Fault where the memory ends.
    """
    settings = settings_from(D3POSettings, config.d3po)
    device = join_processes(config.device)
    store = None if dataset is None else ReplayBuffer.open(dataset)
    if store is not None and config.target is not None:
        store.array("state")
    require_work(conditions_per_round=settings.conditions_per_round)
    editor = make(config.editor).to(device)
    photo_set = open_photos(photos, editor, store)
    judge = open_judge(config.judge, device)
    guard = open_guard(config, judge, settings, device)
    read = partial(
        training_images, photos=photo_set, size=editor.image_size, held_out_frames=settings.held_out_frames,
        seed=settings.seed, redraw=config.frame_geometry,
        composer=checked_composer(editor, photo_set, judge, settings.regions),
    )  # fmt: skip
    images = None
    if store is not None:
        images = read(store)
        require_object_in(images, judge, settings.regions, device, store.path)
    hashes = {
        "editor_hash": weights_hash(editor.components),
        "judge_hash": judge_hash(judge),
        "guard_hash": None if guard is None else judge_hash(guard.judge),
        "composition": composition_of(editor),
        "dataset_hash": None if store is None else store.content_hash(),
        "photo_hashes": list(photo_set.hashes),
    }
    if settings.train == "lora":
        require_targets(editor, lora_of(settings))
    require_stochastic(editor.scheduler, settings.num_inference_steps, settings.eta)
    target = None if config.target is None else make(config.target)
    with main_first():
        saved = with_inputs(config, dataset, photos, hashes)
        run = RunFolder.open(out, saved, overwrite=overwrite and is_main(), free=FREE)
        finished = run.already_done()
        if finished is not None:
            return finished
        buffer = simulated_dataset(config.simulate, run.path) if store is None else store
    images = read(buffer) if images is None else images
    scorer = JudgedScores(judge, settings.regions, settings.lambda_outside)
    targets = held_out_targets(target, buffer, images.held_out, editor.image_size)
    with memory_advice(BATCH_SIZE, settings.batch_size, least=settings.trajectories_per_condition):
        return train(Task(editor, scorer, images, settings, guard, targets), run)


def train(task: Task, run: RunFolder) -> dict[str, Any]:
    """The loop: rounds of `run_round`, with held-out scores, pictures and checkpoints in between.

    Ends early when the guard says that the judges are being pleased. Raises Fault when a score, loss or gradient
    is not finite, or when the policy flies off; the best round until then is left in RUN/editor.
    """
    settings = task.settings
    prepare(task.editor, settings)
    state = load(task, run) or start(task, run)
    rewind(run, state.round)
    wait_for_all()
    rounds = settings.rounds
    with progress("train-editor", rounds, done=state.round, unit="round", shown=is_main()) as bar:
        while state.round < rounds and not is_hacked(state.choice, settings):
            try:
                metrics = advance(task, state, run)
            except Fault as fault:
                raise Fault(f"round {state.round + 1}: {fault}; {give_up(task, state, run)}") from fault
            bar.advance(note=f"structural {metrics['structural']:.4g} semantic {metrics['semantic']:.4g}")
    summary = finish(task, state, run)
    summary["seconds"] = round(state.seconds(), 1)
    if is_main():
        run.write_summary(summary)
    return summary


def prepare(editor: Editor, settings: D3POSettings) -> None:
    """Make trainable what is to be trained, and give the editor the run's instruction."""
    if settings.instruction is not None:
        editor.edit_settings = replace(editor.edit_settings, instruction=settings.instruction)
    if settings.photos_per_edit is not None:
        editor.edit_settings = replace(editor.edit_settings, photos_per_edit=settings.photos_per_edit)
    if settings.train == "full":
        train_whole(editor)
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, "adapter"))
        add_lora(editor, lora_of(settings))


def lora_of(settings: D3POSettings) -> LoraSettings:
    """The adapter that a run trains."""
    return LoraSettings(
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        target_modules=settings.lora_target_modules,
        train_conditioning=settings.train_conditioning,
    )


def start(task: Task, run: RunFolder) -> TrainingState:
    """The state before the first round: the base editor's held-out scores are line 0 of the metrics."""
    began = time.monotonic()
    base = edit_held_out(task)
    metrics = held_out_metrics(task, base, base)
    state = TrainingState(make_learner(task.editor, task.settings), base, copy_adapter(task.editor), began)
    rewind(run, -1)
    record_round(task, run, 0, metrics, base)
    save(task, state, run)
    return state


def advance(task: Task, state: TrainingState, run: RunFolder) -> dict[str, float]:
    """One round with all that comes with it: held-out scores, the choice, metrics, the checkpoint.

    Raises Fault before anything is chosen or saved.
    """
    settings, number = task.settings, state.round + 1
    last, held = number == settings.rounds, None
    metrics = run_round(task, state.learner, number)
    if last or number % settings.evaluate_every == 0:
        with averaged(state.learner):
            held = edit_held_out(task)
            metrics |= held_out_metrics(task, held, state.base)
            state.choice = choose(state.choice, number, metrics, settings)
            if state.choice.round == number:
                state.best_adapter = copy_adapter(task.editor)
    state.round = number
    record_round(task, run, number, metrics, held)
    if last or number % settings.checkpoint_every == 0 or is_hacked(state.choice, settings):
        save(task, state, run)
    return metrics


def run_round(task: Task, learner: Learner, number: int) -> dict[str, float]:
    """One on-policy round: sample, judge, rank, learn. Returns its metrics; the scores are the samples'.

    Raises Fault when a score, loss or gradient is not finite, or when the policy flies off: with one update a round
    that is what the update before has made of it.
    """
    settings, count = task.settings, task.settings.conditions_per_round
    rollout = sample_round(task, number)
    structural, semantic = collect(rollout.scores.structural, count), collect(rollout.scores.semantic, count)
    total = total_score(structural, semantic, settings.alpha)  # over the round, not the minibatch
    if not torch.isfinite(total).all():
        raise Fault("a score of the judges is not finite")
    lesson = with_reference(task, rollout, total, draw_steps(settings, number, own(count)))
    learned = update(task, learner, lesson, number)
    if learned.get("approx_kl", 0.0) > settings.max_kl:
        raise Fault(f"the KL from the base editor is {learned['approx_kl']:.3g}, above d3po.max_kl")
    return {
        "structural": structural.mean().item(),
        "semantic": semantic.mean().item(),
        "sigma_structural": structural.std(unbiased=False).item(),
        "sigma_semantic": semantic.std(unbiased=False).item(),
        "group_sigma_structural": structural.std(dim=1, unbiased=False).mean().item(),
        "group_sigma_semantic": semantic.std(dim=1, unbiased=False).mean().item(),
        "advantage_mean": total.mean().item(),
        "advantage_std": total.std(unbiased=False).item(),
        "pairs": len(rank_pairs(total)),
        **learned,
    }


def give_up(task: Task, state: TrainingState, run: RunFolder) -> str:
    """After a Fault: write the best round, if there is one, to RUN/editor; returns what to tell the user."""
    advice = "start again in another --out with a lower d3po.learning_rate"
    if state.choice.round == 0:
        return f"{advice}. No round before it was found better than the base editor: no editor was written"
    load_adapter_state(task.editor, state.best_adapter)
    write_specialist(task, run)
    return f"{advice}. The best round so far, {state.choice.round}, is in {run.path / 'editor'}"


def write_specialist(task: Task, run: RunFolder) -> None:
    """Write the editor as it is to RUN/editor, the adapter merged and the photos beside it, in the main process."""
    if not is_main():
        return
    merge_adapter(task.editor)
    task.editor.photo_set = task.images.kept_photos or task.images.photo_set
    task.editor.save_pretrained(run.path / "editor")


def finish(task: Task, state: TrainingState, run: RunFolder) -> dict[str, Any]:
    """Write RUN/editor and the picture of base against specialist."""
    editor, kept = task.editor, state.round
    trained = sum(parameter.numel() for parameter in state.learner.parameters)
    if task.settings.keep == "best" or is_hacked(state.choice, task.settings):
        kept = state.choice.round
        load_adapter_state(editor, state.best_adapter)
    elif state.learner.ema is not None:
        state.learner.ema.copy_to(state.learner.parameters)
    held = edit_held_out(task)
    if is_main():
        if kept == 0:
            say("no round scored better than the base editor on the held-out frames: the base editor is kept")
        if is_hacked(state.choice, task.settings):
            say(f"stopped after round {state.round}: {HACKED}")
        edits, labels = [state.base.edits, held.edits], ["base editor", "specialist"]
        draw_grid(task.images, edits, labels, samples(run, "specialist"))
    write_specialist(task, run)
    return {
        "editor": str(run.path / "editor"),
        "picture": str(samples(run, "specialist")),
        "curves": str(run.path / "curves.png"),
        "checkpoint": str(checkpoint_path(run)),
        "rounds": state.round,
        "kept_round": kept,
        "stopped": HACKED if is_hacked(state.choice, task.settings) else None,
        "trained_parameters": trained,
        "processes": count_processes(),
        "base_structural": state.base.scores.structural.mean().item(),
        "base_semantic": state.base.scores.semantic.mean().item(),
        **held_out_metrics(task, held, state.base),
    }
