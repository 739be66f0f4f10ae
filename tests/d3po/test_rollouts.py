"""Which noise the edits of a group have in common."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sim2real_aug.d3po.rollouts import Task, draw_steps, sample_round, step_noise

MakeTask = Callable[..., Task]
SIZE = torch.Size((2, 3, 3))
NUMBERS = np.array([4, 7, 1])


@pytest.mark.parametrize("learned", [1, 3])
def test_with_shared_noise_a_group_differs_in_the_steps_that_are_learned_from(
    make_task: MakeTask, learned: int
) -> None:
    task = make_task(shared_noise=True, train_timesteps=learned)
    noise = step_noise(task, 5, NUMBERS, SIZE)
    assert noise.shape == (3, 3, 4, *SIZE)
    differs = (noise[:, 1:] != noise[:, :1]).flatten(3).any(-1).all(1)
    for row, steps in zip(differs, draw_steps(task.settings, 5, NUMBERS), strict=True):
        assert row.nonzero().flatten().tolist() == steps.tolist()


def test_without_it_every_step_of_every_edit_has_its_own(make_task: MakeTask) -> None:
    noise = step_noise(make_task(), 5, NUMBERS, SIZE).flatten(0, 2).flatten(1)
    assert len(torch.unique(noise, dim=0)) == 3 * 3 * 4
    assert (noise.mean().abs() < 0.1) & ((noise.std() - 1).abs() < 0.1)


def test_a_groups_noise_is_that_of_its_condition_whatever_it_is_drawn_with(make_task: MakeTask) -> None:
    task = make_task(shared_noise=True, train_timesteps=1)
    together, alone = step_noise(task, 2, NUMBERS, SIZE), step_noise(task, 2, NUMBERS[1:2], SIZE)
    assert torch.equal(together[1], alone[0])


def test_trajectories_part_where_the_learned_step_is_taken(make_task: MakeTask) -> None:
    task = make_task(shared_noise=True, train_timesteps=1)
    path = sample_round(task, 1).trajectory.next_latents.unflatten(0, (2, 3))
    for group, steps in zip(path, draw_steps(task.settings, 1, np.arange(2)), strict=True):
        step = int(steps[0])
        assert torch.equal(group[0, :step], group[1, :step])
        assert not torch.equal(group[0, step:], group[1, step:])
