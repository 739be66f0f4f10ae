"""Sampling and learning on a tiny editor: the ratio, the log-probability, the reference, the draws."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sim2real_aug.d3po.learner import make_learner
from sim2real_aug.d3po.rollouts import (
    Rollout,
    Task,
    draw_conditions,
    draw_steps,
    guidance_scales,
    sample_round,
)
from sim2real_aug.d3po.trainer import prepare
from sim2real_aug.d3po.update import Lesson, step_policy, update, with_reference
from sim2real_aug.editor.adapter import adapter_state, reference

MakeTask = Callable[..., Task]


def first_rollout(task: Task, round_number: int = 1) -> Rollout:
    return sample_round(task, round_number)


def numpy_log_prob(task: Task, rollout: Rollout, step: int) -> np.ndarray:
    """REFERENCES' DDIM step with eta 1 in float64 numpy, from the editor's raw noise prediction only."""
    trajectory, alphas = rollout.trajectory, task.editor.scheduler.alphas_cumprod.numpy().astype(np.float64)
    t = int(trajectory.timesteps[step])
    x, taken = (
        part[:, step].numpy().astype(np.float64) for part in (trajectory.latents, trajectory.next_latents)
    )
    with torch.no_grad():
        noise = task.editor.predict(
            trajectory.latents[:, step], torch.tensor(t), rollout.conditioning, guidance_scales(task)
        )
    noise = noise.numpy().astype(np.float64)
    previous_t = t - 1000 // task.settings.num_inference_steps
    a, previous = alphas[t], alphas[max(previous_t, 0)]
    x0 = (x - np.sqrt(1 - a) * noise) / np.sqrt(a)
    std = np.sqrt((1 - previous) / (1 - a) * (1 - a / previous))
    mean = np.sqrt(previous) * x0 + np.sqrt(1 - previous - std**2) * noise
    density = -((taken - mean) ** 2) / (2 * std**2) - np.log(std) - np.log(np.sqrt(2 * np.pi))
    return density.mean((1, 2, 3))


def test_log_probabilities_equal_numpy_at_every_step(make_task: MakeTask) -> None:
    task = make_task()
    rollout = first_rollout(task)
    for step in range(task.settings.num_inference_steps):  # the last one too, where std is smallest
        expected = numpy_log_prob(task, rollout, step)
        np.testing.assert_allclose(rollout.trajectory.log_probs[:, step].numpy(), expected, atol=2e-4)


def first_lesson(task: Task, total: torch.Tensor | None = None) -> Lesson:
    rollout = sample_round(task, 1)
    conditions = np.arange(task.settings.conditions_per_round)
    steps = draw_steps(task.settings, 1, conditions)
    return with_reference(task, rollout, rollout.scores.structural if total is None else total, steps)


def log_probs(task: Task, lesson: Lesson, place: int) -> torch.Tensor:
    rows = torch.arange(len(lesson.steps))
    return step_policy(task, lesson.rollout, rows, lesson.steps[:, place]).log_probs


@pytest.mark.parametrize("train", ["lora", "full"])
def test_the_ratio_is_exactly_one_before_the_first_update(make_task: MakeTask, train: str) -> None:
    task = make_task(train_timesteps=4, train=train, batch_size=6)
    prepare(task.editor, task.settings)
    lesson = first_lesson(task)
    for place in range(4):  # with all four, step `place` comes at `place`
        new = log_probs(task, lesson, place)
        sampled = lesson.rollout.trajectory.log_probs[:, place]
        assert torch.equal(new, lesson.reference_log_probs[:, place])
        assert torch.equal(new, sampled)


@pytest.mark.parametrize(("train", "moved"), [("lora", ("conv_in", "lora")), ("full", ("unet",))])
def test_first_update_reports_an_unmoved_policy_and_moves_it(
    make_task: MakeTask, train: str, moved: tuple[str, ...]
) -> None:
    task = make_task(train=train)
    prepare(task.editor, task.settings)
    before = {name: tensor.clone() for name, tensor in adapter_state(task.editor).items()}
    lesson = first_lesson(task)
    learner = make_learner(task.editor, task.settings)
    seen = update(task, learner, lesson, 1)
    assert seen["margin"] == pytest.approx(0, abs=1e-5)
    assert seen["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert seen["loss"] == pytest.approx(np.log(2), abs=1e-6)
    again = update(task, learner, lesson, 1)
    assert again["margin"] > 1e-4, "a step on the pairs raises their own margin"
    assert again["approx_kl"] > 1e-6
    assert again["implicit_accuracy"] > 0.5
    changed = {
        name for name, value in adapter_state(task.editor).items() if not torch.equal(value, before[name])
    }
    assert all(any(name.startswith(part) for name in changed) for part in moved)
    with reference(task.editor), torch.no_grad():
        for place in range(task.settings.train_timesteps):
            torch.testing.assert_close(
                log_probs(task, lesson, place), lesson.reference_log_probs[:, place], atol=1e-5, rtol=0
            )


def test_a_round_of_ties_learns_nothing(make_task: MakeTask) -> None:
    task = make_task()
    prepare(task.editor, task.settings)
    lesson = first_lesson(task, torch.zeros(2, 3))
    assert update(task, make_learner(task.editor, task.settings), lesson, 1) == {}


def test_the_gradient_is_of_the_mean_over_pairs_whatever_the_minibatch(make_task: MakeTask) -> None:
    """A condition with one pair and one with three: each pair weighs the same, in one minibatch or in two."""
    total = torch.tensor([[1.0, 1.0, 2.0], [1.0, 2.0, 3.0]])  # 2 and 3 pairs
    norms, losses = [], []
    for batch_size in (3, 6):
        task = make_task(batch_size=batch_size)
        prepare(task.editor, task.settings)
        learner = make_learner(task.editor, task.settings)
        seen = update(task, learner, first_lesson(task, total), 1)
        norms.append(seen["grad_norm"])
        losses.append(update(task, learner, first_lesson(task, total), 2)["loss"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_updates_per_round_is_the_number_of_optimizer_steps(make_task: MakeTask) -> None:
    for updates, steps in ((1, 1), (2, 2), (5, 2)):  # two conditions: no more than two shares
        task = make_task(updates_per_round=updates, inner_epochs=2)
        prepare(task.editor, task.settings)
        learner = make_learner(task.editor, task.settings)
        update(task, learner, first_lesson(task), 1)
        first = next(iter(learner.optimizer.state.values()))
        assert first["step"] == 2 * steps


def test_bf16_rounds_the_passes_and_not_the_log_probabilities(make_task: MakeTask) -> None:
    exact, rounded = (first_lesson(prepared(make_task(precision=name))) for name in ("fp32", "bf16"))
    for lesson in (exact, rounded):
        assert lesson.reference_log_probs.dtype == torch.float32
        assert lesson.rollout.trajectory.latents.dtype == torch.float32
    gap = (exact.reference_mean - rounded.reference_mean).abs().max()
    assert 0 < gap < 0.1
    difference = rounded.reference_log_probs - rounded.rollout.trajectory.log_probs.gather(1, rounded.steps)
    assert difference.abs().max() < 1e-3, "at the start the ratio is 1 in bf16 too"


def prepared(task: Task) -> Task:
    prepare(task.editor, task.settings)
    return task


def test_a_group_shares_its_start_and_condition_and_nothing_else(make_task: MakeTask) -> None:
    rollout = first_rollout(make_task())
    latents, taken = rollout.trajectory.latents, rollout.trajectory.next_latents
    assert torch.equal(latents[0, 0], latents[1, 0])
    assert torch.equal(rollout.conditioning.source[0], rollout.conditioning.source[2])
    assert not torch.equal(taken[0, 0], taken[1, 0])
    assert torch.equal(latents[:, 1:], taken[:, :-1])


def test_draws_depend_on_the_round_and_not_on_the_minibatch(make_task: MakeTask) -> None:
    small, large = make_task(conditions_per_round=4), make_task(conditions_per_round=4, batch_size=12)
    one_by_one = torch.cat([conditions.source for conditions in draw_conditions(small, 3)])
    at_once = torch.cat([conditions.source for conditions in draw_conditions(large, 3)])
    other_round = torch.cat([conditions.source for conditions in draw_conditions(large, 4)])
    assert torch.equal(one_by_one, at_once)
    assert not torch.equal(at_once, other_round)


def test_steps_are_a_subset_without_repeats_and_each_conditions_own(make_task: MakeTask) -> None:
    settings = make_task(train_timesteps=3).settings
    drawn = draw_steps(settings, 1, np.arange(20)).tolist()
    assert all(len(set(steps)) == 3 and set(steps) <= set(range(4)) for steps in drawn)
    assert len({tuple(steps) for steps in drawn}) > 1
    assert draw_steps(settings, 1, np.array([7])).tolist() == [drawn[7]]
