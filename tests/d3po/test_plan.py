"""The estimate: bytes counted by hand, fake tensors against real ones, sums that agree with a run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.config import compose, settings
from sim2real_aug.d3po.checkpoint import copy_adapter
from sim2real_aug.d3po.learner import make_learner
from sim2real_aug.d3po.plan import PARTS, LiveBytes, Phase, Plan, _works, count_phases, judges_of, plan
from sim2real_aug.d3po.rollouts import Task
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.d3po.trainer import prepare
from sim2real_aug.d3po.work import pass_operations, round_passes
from sim2real_aug.editor import load_editor
from sim2real_aug.editor.guidance import GuidanceScales
from sim2real_aug.editor.outline import outline

MakeTask = Callable[..., Task]
CPU = torch.device("cpu")


@pytest.fixture
def configure(editor_folder: Path) -> Callable[..., DictConfig]:
    """The training configuration of the tiny editor: groups of two edits."""
    small = [f"editor.path={editor_folder}", "d3po.trajectories_per_condition=2", "d3po.batch_size=4"]
    return lambda *overrides: compose("train_editor", [*small, *overrides])


def test_bytes_are_counted_while_they_live() -> None:
    weight = torch.empty(100)  # 400 bytes, known
    with LiveBytes(known=[weight]) as live:
        a = weight + 1  # 400
        b = a.view(10, 10) * 2  # 800: a view holds nothing of its own
        del a  # 400
        c = torch.cat([b, b, b])  # 1600
    assert (live.peak, live.now) == (1600, 1600)
    del b, c
    assert live.now == 0


def test_what_fits_by_hand() -> None:
    phases = {"decode": Phase(first=1.0, more=4.0), "learn": Phase(first=6.0, more=2.0)}
    needs = Plan({}, 0, {"editor": 10.0, "round": 5.0}, phases, 3, disk=0.0, passes=0, operations=0.0, uncounted=())
    assert [needs.minibatch(size) for size in (1, 3, 5, 6, 15)] == [6.0, 6.0, 6.0, 8.0, 17.0]
    assert needs.memory(6) == 23.0
    assert [needs.largest_batch(free) for free in (20.9, 21.0, 22.9, 23.0, 32.0)] == [0, 3, 3, 6, 15]


def test_fake_tensors_count_what_real_ones_do(configure: Callable[..., DictConfig]) -> None:
    config = configure()
    chosen = settings(D3POSettings, config.d3po)
    with torch.device("meta"):
        empty = outline(config.editor)
        prepare(empty, chosen)
    phases = count_phases(empty, chosen)
    whole = load_editor(config.editor.path)
    prepare(whole, chosen)
    weights = [tensor for name in PARTS for tensor in getattr(whole, name).state_dict(keep_vars=True).values()]
    for groups in (1, 2, 5):
        for name, work in _works(whole, chosen, groups).items():
            gradients = []
            for parameter in make_learner(whole, chosen).parameters:
                parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
            with LiveBytes(known=[*weights, *gradients]) as live:
                work()
            assert live.peak == pytest.approx(phases[name].memory(groups), rel=0.02), (name, groups)


@pytest.mark.parametrize("override", ["d3po.train=lora", "d3po.train=full", "d3po.ema_decay=0.9"])
def test_what_is_trained_and_held_is_what_a_run_has(configure: Callable[..., DictConfig], override: str) -> None:
    config = configure(override)
    chosen = settings(D3POSettings, config.d3po)
    needs = plan(config, CPU)
    editor = load_editor(config.editor.path)
    assert needs.parameters == {
        name: sum(p.numel() for p in getattr(editor, name).parameters()) for name in PARTS
    }
    prepare(editor, chosen)
    learner = make_learner(editor, chosen)
    assert needs.trained == sum(parameter.numel() for parameter in learner.parameters)
    for parameter in learner.parameters:
        parameter.grad = torch.zeros_like(parameter)
    learner.optimizer.step()
    states = learner.optimizer.state.values()
    moments = sum(value.numel() for state in states for key, value in state.items() if key != "step")
    average = sum(shadow.numel() for shadow in learner.ema.shadow_params) if learner.ema is not None else 0
    best = sum(tensor.numel() for tensor in copy_adapter(editor).values())
    assert needs.held["optimiser"] == 4 * (needs.trained + moments + average + best)


def test_more_precision_guidance_and_size_need_more(configure: Callable[..., DictConfig]) -> None:
    base = plan(configure("d3po.guidance_scale=1.0"), CPU).minibatch(4)
    assert plan(configure("d3po.guidance_scale=7.5"), CPU).minibatch(4) > 1.5 * base
    assert plan(configure("d3po.precision=bf16"), CPU).minibatch(4) < base


def test_an_edit_after_all_photos_encodes_more_than_one(configure: Callable[..., DictConfig]) -> None:
    one, every, more = (
        plan(configure(f"d3po.photos_per_edit={count}"), CPU).phases["encode"].first for count in (1, 0, 16)
    )
    assert every > 4 * one
    assert more > 1.5 * every


def test_the_judges_that_are_known_count(configure: Callable[..., DictConfig]) -> None:
    assert plan(configure(), CPU).held["judges"] == 0
    assert plan(configure("judge=grounded"), CPU).held["judges"] == 4 * (25e6 + 172e6 + 39e6 + 22e6)


def test_the_judges_that_are_not_known_are_named(configure: Callable[..., DictConfig]) -> None:
    other = ["judge=grounded", "judge.depth.name=/my/depth", "guard=compact", "guard.path=/my/guard"]
    needs = plan(configure(*other), CPU)
    assert needs.uncounted == ("/my/depth",)
    assert needs.held["judges"] == 4 * (172e6 + 39e6 + 22e6)
    assert judges_of(compose("train_editor", ["judge=grounded_dreamsim"]).judge)[-1] == "ensemble"
    assert judges_of(OmegaConf.create({"_target_": "my.judge", "threshold": 0.5})) == ["my.judge"]


def test_passes_of_a_round_by_hand() -> None:
    """2 conditions of 3 edits, 10 steps of which 4 are learned from."""
    counts = {"conditions_per_round": 2, "trajectories_per_condition": 3, "num_inference_steps": 10}
    chosen = D3POSettings(**counts, train_timesteps=4)
    one, three = GuidanceScales(1, 1, 1), GuidanceScales(1.5, 1.5, 7.5)
    assert round_passes(chosen, one, checkpointing=False) == 6 * (10 + 4 + 4 * 2)
    assert round_passes(chosen, three, checkpointing=True) == 6 * 3 * (10 + 4 + 4 * 3)
    whole = replace(chosen, train="full", inner_epochs=2)
    assert round_passes(whole, one, checkpointing=False) == 6 * (10 + 4 + 2 * 4 * 3)


def test_a_pair_of_the_papers_settings_costs_600_passes_of_a_fifth_of_a_teraflop() -> None:
    config = compose("train_editor", ["editor=sd15", "d3po=paper"])
    paper = settings(D3POSettings, config.d3po)
    scales = GuidanceScales(paper.image_guidance_scale, paper.style_guidance_scale, paper.guidance_scale)  # type: ignore[arg-type]
    assert round_passes(paper, scales, config.editor.gradient_checkpointing) == 256 * 600
    assert pass_operations(outline(config.editor)) == pytest.approx(0.2e12, rel=0.15)
