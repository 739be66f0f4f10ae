"""Runs from start to end on a tiny editor: a toy reward rises, resume is exact, faults keep what is good."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from sim2real_aug.d3po.checkpoint import copy_adapter
from sim2real_aug.d3po.held_out import edit_held_out, held_out_change, psnr
from sim2real_aug.d3po.learner import averaged, make_learner
from sim2real_aug.d3po.rollouts import Task, draw_conditions, sample_rollout, split_frames
from sim2real_aug.d3po.scores import Conditions, Scorer, Scores
from sim2real_aug.d3po.trainer import prepare, run_round, train
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.adapter import reference
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput, Fault
from sim2real_aug.runs import RunFolder

MakeTask = Callable[..., Task]
METRICS = {
    *("step", "structural", "semantic", "sigma_structural", "sigma_semantic"),
    *("group_sigma_structural", "group_sigma_semantic"),
    *("advantage_mean", "advantage_std", "pairs", "loss", "margin", "approx_kl", "implicit_accuracy"),
    *("clamped_share", "grad_norm", "held_out_structural", "held_out_semantic"),
    *("held_out_total", "held_out_win_rate"),
}


def open_run(path: Path) -> RunFolder:
    return RunFolder.open(path, OmegaConf.create({}))


def sampled_brightness(task: Task, round_number: int) -> Tensor:
    """Rewards of the edits that the editor now samples in a round that was never trained on."""
    rollouts = [sample_rollout(task, c, round_number) for c in draw_conditions(task, round_number)]
    return 1 - torch.cat([rollout.scores.structural.flatten() for rollout in rollouts])


@pytest.mark.slow
def test_a_toy_reward_rises(make_task: MakeTask) -> None:
    """Reward = brightness. Fresh samples of the trained policy beat the base's by 3 standard errors."""
    task = make_task(
        conditions_per_round=8,
        trajectories_per_condition=8,
        batch_size=64,
        train_timesteps=4,
        learning_rate=2e-3,
        lora_rank=8,
    )
    prepare(task.editor, task.settings)
    learner = make_learner(task.editor, task.settings)
    for number in range(1, 17):
        metrics = run_round(task, learner, number)
    assert metrics["approx_kl"] > 0
    trained = sampled_brightness(task, 1000)
    with reference(task.editor):
        base = sampled_brightness(task, 1001)  # other noise: the comparison is unpaired
    error = math.sqrt(trained.var().item() / len(trained) + base.var().item() / len(base))
    assert (trained.mean() - base.mean()).item() >= 3 * error


def test_a_run_leaves_an_editor_metrics_and_pictures(make_task: MakeTask, tmp_path: Path) -> None:
    task, run = make_task(keep="last"), open_run(tmp_path / "run")
    summary = train(task, run)
    assert [line["step"] for line in run.metrics()] == [0, 1, 2]
    last = run.metrics()[-1]
    assert set(last) == METRICS
    assert all(math.isfinite(value) for value in last.values())
    assert last["pairs"] == 2 * 3
    assert (run.path / "samples" / "specialist.png").is_file()
    specialist = Editor.from_pretrained(summary["editor"])
    np.testing.assert_array_equal(specialist.photos, task.images.photos)
    frames = task.images.read(task.images.held_out)
    np.testing.assert_array_equal(specialist(frames), task.editor(frames))


def test_the_saved_editor_is_the_trained_one(make_task: MakeTask, tmp_path: Path) -> None:
    """Held-out scores of the merged and reloaded editor are those that the trainer logged."""
    task, run = make_task(keep="last", learning_rate=1e-2), open_run(tmp_path / "run")
    summary = train(task, run)
    logged = run.metrics()[-1]["held_out_structural"]
    assert logged != run.metrics()[0]["held_out_structural"]
    reloaded = replace(task, editor=Editor.from_pretrained(summary["editor"]))
    scores = edit_held_out(reloaded).scores
    assert scores.structural.mean().item() == pytest.approx(logged, abs=1e-5)


class Interrupted(Exception):
    pass


def test_a_resumed_run_equals_an_uninterrupted_one(make_task: MakeTask, tmp_path: Path) -> None:
    whole = open_run(tmp_path / "whole")
    train(make_task(rounds=4, checkpoint_every=2), whole)

    task = make_task(rounds=4, checkpoint_every=2)
    calls = 0

    def failing(conditions: Conditions, edits: Tensor) -> Scores:
        nonlocal calls
        calls += 1
        if calls > 11:  # in round 4: two rounds have a checkpoint, the third is logged only
            raise Interrupted
        return task.scorer(conditions, edits)

    cut = open_run(tmp_path / "cut")
    with pytest.raises(Interrupted):
        train(replace(task, scorer=failing), cut)
    assert cut.metrics()[-1]["step"] == 3
    train(make_task(rounds=4, checkpoint_every=2), cut)
    assert cut.metrics() == whole.metrics()
    saved = [Editor.from_pretrained(run.path / "editor") for run in (whole, cut)]
    for ours, theirs in zip(saved[0].unet.parameters(), saved[1].unet.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_score_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task, run = make_task(rounds=3), open_run(tmp_path / "run")
    train_rounds = 0

    def poisoned(conditions: Conditions, edits: Tensor) -> Scores:
        nonlocal train_rounds
        train_rounds += edits.shape[1] > 1
        scores = task.scorer(conditions, edits)
        return replace(scores, semantic=scores.semantic * math.nan) if train_rounds > 2 else scores

    with pytest.raises(Fault, match=r"^round 2: .*not finite; start again in another --out with a lower d3po"):
        train(replace(task, scorer=poisoned), run)
    assert torch.load(run.checkpoints / "state.pt", weights_only=True)["round"] == 1


def scripted(task: Task, *levels: float) -> Scorer:
    """Samples are scored by the task's scorer, the held-out edits of the n-th evaluation all by levels[n]."""
    left = iter(levels)

    def score(conditions: Conditions, edits: Tensor) -> Scores:
        held_out = edits.shape[1] == 1
        return Scores(*torch.full((2, *edits.shape[:2]), next(left))) if held_out else task.scorer(conditions, edits)

    return score


@pytest.mark.parametrize(("judge", "guard"), [((0.0, -1.0, math.nan), ()), ((0.0, -1.0, -2.0), (0.0, 0.0, math.nan))])
def test_held_out_scores_that_are_not_finite_end_the_run_with_the_best_round_before(
    make_task: MakeTask, tmp_path: Path, judge: tuple[float, ...], guard: tuple[float, ...]
) -> None:
    task, run = make_task(rounds=3), open_run(tmp_path / "run")
    watched = replace(task, scorer=scripted(task, *judge), guard=scripted(task, *guard) if guard else None)
    with pytest.raises(Fault, match=r"^round 2: .*_total nan.* The best round so far, 1, is in .*run/editor$"):
        train(watched, run)
    assert [line["step"] for line in run.metrics()] == [0, 1]
    assert torch.load(run.checkpoints / "state.pt", weights_only=True)["choice"]["round"] == 1
    train(make_task(rounds=1, keep="last"), open_run(tmp_path / "alone"))
    kept, first = (load_editor(tmp_path / name) for name in ("run", "alone"))
    np.testing.assert_array_equal(kept.photos, task.images.photos)
    for ours, theirs in zip(kept.unet.parameters(), first.unet.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_rate_that_ruins_the_editor_ends_in_a_fault(make_task: MakeTask, tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    with pytest.raises(Fault, match=r"^round 1: .*held_out_total nan.*no editor was written"):
        train(make_task(rounds=1, learning_rate=1e12), run)
    assert not (run.path / "editor").exists()
    assert run.summary() is None


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(make_task: MakeTask) -> None:
    task = make_task()
    prepare(task.editor, task.settings)
    learner = make_learner(task.editor, task.settings)
    run_round(task, learner, 1)
    with torch.no_grad():
        task.editor.unet.conv_in.weight[0, 0, 0, 0] = math.nan
    before = copy_adapter(task.editor)
    with pytest.raises(Fault, match="not finite"):
        run_round(task, learner, 2)
    for name, value in copy_adapter(task.editor).items():
        assert torch.equal(value.nan_to_num(9.0), before[name].nan_to_num(9.0))


def test_a_policy_that_flies_off_stops_the_run_and_keeps_the_last_good_state(
    make_task: MakeTask, tmp_path: Path
) -> None:
    run = open_run(tmp_path / "run")
    with pytest.raises(Fault, match=r"round 2: the KL from the base editor is .* above d3po.max_kl; start again"):
        train(make_task(rounds=3, learning_rate=1e-2, max_kl=1e-6), run)
    assert [line["step"] for line in run.metrics()] == [0, 1]
    assert torch.load(run.checkpoints / "state.pt", weights_only=True)["round"] == 1


def test_best_keeps_the_base_editor_when_no_round_beats_it(make_task: MakeTask, tmp_path: Path) -> None:
    """A judge that is happiest with the base: the run ends with the base editor, and says so."""
    task, run = make_task(learning_rate=1e-2), open_run(tmp_path / "run")
    frames = task.images.read(task.images.held_out)
    before = task.editor(frames, task.images.photos)
    first: dict[int, Tensor] = {}

    def conservative(conditions: Conditions, edits: Tensor) -> Scores:
        change = (edits - first.setdefault(edits.shape[1], edits)).abs().flatten(2).mean(-1)
        return Scores(change, torch.zeros_like(change))

    summary = train(replace(task, scorer=conservative), run)
    assert summary["kept_round"] == 0
    np.testing.assert_array_equal(Editor.from_pretrained(summary["editor"])(frames), before)


def test_held_out_change_by_hand() -> None:
    base = Scores(torch.tensor([[0.1], [0.3]]), torch.tensor([[1.0], [1.0]]))  # spreads 0.1 and 0
    better = Scores(base.structural - 0.05, base.semantic)
    torch.testing.assert_close(held_out_change(better, base, alpha=1.0), torch.full((2, 1), -0.5))


def test_the_change_of_one_held_out_frame_is_in_its_own_scores() -> None:
    base, better = (Scores(torch.tensor([[s]]), torch.tensor([[1.0]])) for s in (0.2, 0.1))
    assert held_out_change(better, base, alpha=1.0).item() == pytest.approx(-0.5)


def test_held_out_frames_come_from_episodes_that_are_not_trained_on() -> None:
    ends = np.cumsum(np.full(20, 7))
    train_frames, held = split_frames(ends, 5, seed=0)
    assert len(held) == 5
    assert not set(train_frames // 7) & set(held // 7)
    assert len(train_frames) == 18 * 7
    np.testing.assert_array_equal(split_frames(ends, 5, seed=0)[1], held)
    assert not np.array_equal(split_frames(ends, 5, seed=1)[1], held)


def test_one_episode_holds_out_its_end() -> None:
    train_frames, held = split_frames(np.array([20]), 8, seed=0)
    assert held.tolist() == [18, 19]
    assert train_frames.tolist() == list(range(18))
    with pytest.raises(BadInput, match="at least 2"):
        split_frames(np.array([1]), 8, seed=0)


@pytest.mark.parametrize("settings", [{"ema_decay": 0.5}, {"train": "full"}, {"precision": "bf16"}])
def test_a_run_with_other_settings_resumes_exactly_too(
    make_task: MakeTask, tmp_path: Path, settings: dict[str, object]
) -> None:
    """Stopped after round 1 of 2: the checkpoint holds all that the second round needs."""
    whole, cut = open_run(tmp_path / "whole"), open_run(tmp_path / "cut")
    train(make_task(**settings), whole)

    task, rounds = make_task(**settings), 0

    def failing(conditions: Conditions, edits: Tensor) -> Scores:
        nonlocal rounds
        rounds += edits.shape[1] > 1
        if rounds > 2:
            raise Interrupted
        return task.scorer(conditions, edits)

    with pytest.raises(Interrupted):
        train(replace(task, scorer=failing), cut)
    train(make_task(**settings), cut)
    assert cut.metrics() == whole.metrics()


def test_the_average_is_what_is_scored_and_kept(make_task: MakeTask) -> None:
    """Decay 0.5: after update 1 the average is w1, after update 2 (2 w1 + 9 w2) / 11, as min(0.5, 2/11) = 2/11."""
    task = make_task(ema_decay=0.5, learning_rate=1e-2)
    prepare(task.editor, task.settings)
    learner = make_learner(task.editor, task.settings)
    weights = []
    for number in (1, 2):
        run_round(task, learner, number)
        weights.append(learner.parameters[0].detach().clone())
    with averaged(learner):
        kept = learner.parameters[0].detach().clone()
    torch.testing.assert_close(kept, weights[0] * 2 / 11 + weights[1] * 9 / 11)
    assert torch.equal(learner.parameters[0], weights[1]), (
        "training goes on from the weights, not the average"
    )


def test_psnr_by_hand() -> None:
    target = np.zeros((2, 2, 2, 3), np.uint8)
    image = target.copy()
    image[0] += 51  # a fifth of 255: MSE (1/5)^2 of the peak's square, 10 log10 25 = 13.979
    np.testing.assert_allclose(psnr(image, target), [13.9794, 100.0], atol=1e-4)


def test_the_real_look_is_compared_where_it_is_known(make_task: MakeTask, tmp_path: Path) -> None:
    task, run = make_task(rounds=1), open_run(tmp_path / "run")
    base = edit_held_out(task).edits
    train(replace(task, targets=base), run)
    assert run.metrics()[0]["held_out_psnr"] == 100.0
    assert run.metrics()[1]["held_out_psnr"] < 100.0
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")
