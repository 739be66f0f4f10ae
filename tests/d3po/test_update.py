"""Sampling and learning on a tiny editor: the ratio, the log-probability, the reference, the draws."""

from collections.abc import Callable

import numpy as np
import torch

from sim2real_aug.d3po.checkpoint import make_optimizer
from sim2real_aug.d3po.preferences import rank_pairs
from sim2real_aug.d3po.rollouts import Rollout, Task, draw_conditions, guidance_scales, sample_rollout
from sim2real_aug.d3po.trainer import prepare
from sim2real_aug.d3po.update import draw_steps, step_policy, update, with_reference
from sim2real_aug.editor.adapter import adapter_state, reference

MakeTask = Callable[..., Task]


def first_rollout(task: Task, round_number: int = 1) -> Rollout:
    return sample_rollout(task, next(draw_conditions(task, round_number)), round_number)


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


def test_the_ratio_is_exactly_one_before_the_first_update(make_task: MakeTask) -> None:
    task = make_task()
    prepare(task.editor, task.settings)
    rollout = first_rollout(task)
    batch = with_reference(task, rollout, rank_pairs(rollout.scores.structural), range(4))
    for step, old in enumerate(batch.references):
        new = step_policy(task, rollout, step)
        assert torch.equal(new.log_probs, old.log_probs)
        assert torch.equal(new.log_probs, rollout.trajectory.log_probs[:, step])


def test_first_update_reports_an_unmoved_policy_and_moves_it(make_task: MakeTask) -> None:
    task = make_task()
    prepare(task.editor, task.settings)
    rollout = first_rollout(task)
    before = {name: tensor.clone() for name, tensor in adapter_state(task.editor).items()}
    batch = with_reference(task, rollout, rank_pairs(rollout.scores.structural), range(4))
    optimizer = make_optimizer(task.editor, task.settings)
    seen = update(task, optimizer, [batch], 1)
    assert seen["margin"] == 0
    assert seen["approx_kl"] == 0
    assert seen["implicit_accuracy"] == 0.5
    assert seen["loss"] == float(np.float32(np.log(2)))
    again = update(task, optimizer, [batch], 1)
    assert again["margin"] > 0, "a step on the pairs raises their own margin"
    assert again["approx_kl"] > 0
    changed = {
        name for name, value in adapter_state(task.editor).items() if not torch.equal(value, before[name])
    }
    assert any(name.startswith("conv_in") for name in changed)
    assert any(name.startswith("lora") for name in changed)
    with reference(task.editor), torch.no_grad():
        for step, old in enumerate(batch.references):
            assert torch.equal(step_policy(task, rollout, step).log_probs, old.log_probs), (
                "the reference moved"
            )


def test_a_round_of_ties_learns_nothing(make_task: MakeTask) -> None:
    task = make_task()
    prepare(task.editor, task.settings)
    rollout = first_rollout(task)
    batch = with_reference(task, rollout, rank_pairs(torch.zeros(1, 3)), (0,))
    assert update(task, make_optimizer(task.editor, task.settings), [batch], 1) == {}


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


def test_steps_are_a_subset_without_repeats(make_task: MakeTask) -> None:
    settings = make_task(train_timesteps=3).settings
    drawn = [draw_steps(settings, 1, batch) for batch in range(20)]
    assert all(len(set(steps)) == 3 and set(steps) <= set(range(4)) for steps in drawn)
    assert len(set(drawn)) > 1
    assert draw_steps(settings, 1, 0) == drawn[0]
