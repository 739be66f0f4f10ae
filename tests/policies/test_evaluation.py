"""Closed-loop evaluation against stepping the environment by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from sim2real_aug.config import settings as read_settings
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.rendering import make_renderer
from sim2real_aug.errors import BadInput
from sim2real_aug.policies import evaluation
from sim2real_aug.policies.diffusion import DiffusionPolicy, PolicySettings, load_policy
from sim2real_aug.policies.evaluation import EvaluateSettings, evaluate, summarise
from sim2real_aug.policies.observation import Observation
from sim2real_aug.policies.rollout import Episode, load_episodes, run_episodes
from sim2real_aug.policies.trainer import train_policy
from sim2real_aug.seeding import torch_generator


class Constant:
    """Pushes towards a target that each row draws; remembers what it saw."""

    def __init__(self, settings: PolicySettings | None = None) -> None:
        self.settings = settings or PolicySettings()
        self.seen: list[Observation] = []

    def act(self, observation: Observation, generators: Sequence[torch.Generator]) -> torch.Tensor:
        self.seen.append(observation)
        targets = [torch.rand(1, 2, generator=generator) * 512 for generator in generators]
        return torch.stack(targets).expand(-1, self.settings.n_action_steps, 2)


def test_the_three_metrics_by_hand() -> None:
    def episode(seed: int, *coverages: float) -> Episode:
        return Episode(seed, np.zeros((len(coverages), 5)), np.array(coverages))

    episodes = [episode(7, 0.0, 0.5, 0.2), episode(8, 0.1, 0.95), episode(9, 0.0, 0.96)]
    summary = summarise(episodes, EvaluateSettings(resamples=100))
    assert summary["success_rate"] == pytest.approx(2 / 3)
    assert summary["success_rate_interval"] == pytest.approx([0.2077, 0.9385], abs=1e-4), "Wilson's of 2 of 3"
    assert summary["mean_max_coverage"] == pytest.approx((0.5 + 0.95 + 0.96) / 3)
    assert summary["mean_final_coverage"] == pytest.approx((0.2 + 0.95 + 0.96) / 3)
    assert summary["mean_max_reward"] == pytest.approx((0.5 / 0.95 + 1 + 1) / 3)
    assert summary["per_episode"][1] == {
        "seed": 8, "success": True, "max_coverage": 0.95, "final_coverage": 0.95, "steps": 1,
    }  # fmt: skip


def test_episodes_are_those_of_the_environment_stepped_by_hand() -> None:
    policy = Constant()
    episodes = run_episodes(policy, "flat", [100000, 100001], max_steps=20)
    assert len(policy.seen) == 3  # calls at 0, 8 and 16
    for row, episode in enumerate(episodes):
        alone = run_episodes(Constant(), "flat", [100000 + row], max_steps=20)[0]
        assert np.array_equal(alone.states, episode.states)  # the rest of the batch does not matter
        assert episode.steps == 20
    env = PushTEnv(obs_type="state")
    env.reset(seed=100001)
    assert np.array_equal(env.state, episodes[1].states[0])
    for step in range(20):
        target = torch.rand(1, 2, generator=torch_generator(100001, "policy noise", step // 8)) * 512
        _, _, _, _, info = env.step(target[0].numpy())
        assert np.array_equal(env.state, episodes[1].states[step + 1])
        assert info["coverage"] == episodes[1].coverages[step + 1]


class Recorded:
    """Plays actions back, (E, steps, 2)."""

    settings = PolicySettings()

    def __init__(self, actions: np.ndarray) -> None:
        self.actions, self.done = torch.from_numpy(actions), 0

    def act(self, observation: Observation, generators: Sequence[torch.Generator]) -> torch.Tensor:
        self.done += self.settings.n_action_steps
        return self.actions[:, self.done - self.settings.n_action_steps : self.done]


def test_recorded_actions_cover_what_they_cover_in_gym_pusht(gym_pusht_episodes: list[dict[str, Any]]) -> None:
    theirs = np.array([episode["coverages"] for episode in gym_pusht_episodes])
    seeds = [episode["seed"] for episode in gym_pusht_episodes]
    actions = np.array([episode["actions"] for episode in gym_pusht_episodes])
    assert theirs.max() < 0.95, "an episode that succeeds would end early here"
    ours = run_episodes(Recorded(actions), "flat", seeds, max_steps=theirs.shape[1])
    for episode, coverages in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(episode.coverages[1:], coverages, atol=1e-6)
        assert episode.max_coverage == pytest.approx(max(coverages.max(), episode.coverages[0]), abs=1e-6)
    assert np.ptp(theirs, axis=1).max() > 0.1, "something was covered"


def test_the_policy_sees_the_last_two_states_drawn_in_the_domain() -> None:
    policy = Constant()
    episode = run_episodes(policy, "flat", [100003], max_steps=9)[0]
    renderer = make_renderer("flat")
    for call, steps in enumerate([(0, 0), (7, 8)]):
        for place, step in enumerate(steps):
            state = episode.states[step]
            assert np.array_equal(policy.seen[call].frames[0, place], renderer.render(state, 96).image)
            np.testing.assert_allclose(policy.seen[call].states[0, place], state[:2], rtol=1e-6)


@pytest.mark.parametrize(
    ("n_action_steps", "drawn"),
    [
        (8, [0, 7, 8, 15, 16]),  # looks at 0 (twice the start), at 7 and 8, at 15 and 16
        (1, list(range(20))),  # looks overlap
    ],
)
def test_a_frame_is_drawn_once_and_only_if_the_policy_looks(
    monkeypatch: pytest.MonkeyPatch, n_action_steps: int, drawn: list[int]
) -> None:
    seen: list[np.ndarray] = []
    image = FlatRenderer.image

    def counted(self: FlatRenderer, state: np.ndarray, size: int = 96) -> np.ndarray:
        seen.append(state)
        return image(self, state, size)

    monkeypatch.setattr(FlatRenderer, "image", counted)
    policy = Constant(PolicySettings(n_obs_steps=2, n_action_steps=n_action_steps))
    episode = run_episodes(policy, "flat", [100000], max_steps=20)[0]
    assert episode.steps == 20
    np.testing.assert_array_equal(seen, episode.states[drawn])


def test_an_episode_ends_at_success(monkeypatch: pytest.MonkeyPatch) -> None:
    covered = iter([0.1, 0.2, 0.3, 0.97, 0.5, 0.5])
    monkeypatch.setattr(PushTEnv, "coverage", property(lambda self: next(covered)))
    policy = Constant()
    episode = run_episodes(policy, "flat", [100000], max_steps=50)[0]
    assert list(episode.coverages) == [0.1, 0.3, 0.97] or list(episode.coverages) == [0.2, 0.3, 0.97]
    assert episode.success
    assert len(policy.seen) == 1


def test_each_episode_of_the_randomized_domain_has_its_own_scene() -> None:
    policy = Constant()
    run_episodes(policy, "randomized", [100000, 100001], max_steps=1)
    first, second = policy.seen[0].frames[:, 0].numpy().reshape(2, -1).astype(float)
    assert np.abs(first.mean() - second.mean()) > 1 or np.abs(first - second).mean() > 5


def test_a_trained_run_is_evaluated_once_and_drawn(
    write_store: Callable[..., Path], tiny_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_policy(tiny_config("policy.training.steps=2"), write_store("sim.zarr"), out=run)
    settings = EvaluateSettings(episodes=2, max_steps=10, resamples=50, video_episodes=1, device="cpu")
    summary = evaluate(run, settings)
    folder = run / "evaluations" / "flat-100000-2-of-10"
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert [episode["seed"] for episode in summary["per_episode"]] == [100000, 100001]
    assert Path(summary["picture"]).read_bytes().startswith(b"\x89PNG")
    kept = load_episodes(folder / "episodes.npz")
    assert [e.max_coverage for e in kept] == [e["max_coverage"] for e in summary["per_episode"]]
    assert [e.states.shape for e in kept] == [(11, 5), (11, 5)]
    with Image.open(summary["videos"][0]) as video:
        assert video.n_frames == 4, "steps 0, 4, 8 and 10"
    written = (folder / "summary.json").stat().st_mtime_ns
    assert evaluate(run, settings) == summary
    assert (folder / "summary.json").stat().st_mtime_ns == written
    again = evaluate(run, settings, overwrite=True)
    same = summary.keys() - {"seconds"}
    assert {key: again[key] for key in same} == {key: summary[key] for key in same}


def test_a_finished_evaluation_is_that_of_one_policy_only(tmp_path: Path) -> None:
    model = PolicySettings(
        features=8, keypoints=4, down_dims=(8, 16), step_dim=8, image_size=24, crop_size=20, num_inference_steps=10
    )
    quick = EvaluateSettings(episodes=1, max_steps=3, resamples=50, picture_episodes=0, device="cpu")
    policy = DiffusionPolicy(model).eval()
    first = evaluate(policy, quick, out=tmp_path / "one")
    assert evaluate(policy, quick, out=tmp_path / "one") == first
    with pytest.raises(BadInput, match=r"holds a run made with another weights;"):
        evaluate(DiffusionPolicy(model).eval(), quick, out=tmp_path / "one")
    policy.settings = replace(model, num_inference_steps=16)
    with pytest.raises(BadInput, match=r"holds a run made with another policy\.num_inference_steps;"):
        evaluate(policy, quick, out=tmp_path / "one")
    for _ in range(2):
        own = Constant()
        evaluate(own, quick, out=tmp_path / "own")
        assert own.seen, "nothing tells two policies of one's own class apart: each is run"


def test_an_evaluation_from_before_the_policy_was_recorded_counts(tmp_path: Path) -> None:
    quick = EvaluateSettings(episodes=1, max_steps=3, resamples=50, picture_episodes=0, device="cpu")
    policy = DiffusionPolicy(PolicySettings()).eval()
    first = evaluate(policy, quick, out=tmp_path)
    made_with = OmegaConf.load(tmp_path / "config.yaml")
    del made_with["policy"]
    OmegaConf.save(made_with, tmp_path / "config.yaml")
    assert evaluate(policy, quick, out=tmp_path) == first


def test_pictures_and_videos_are_drawn_later_from_the_states(
    write_store: Callable[..., Path], tiny_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_policy(tiny_config("policy.training.steps=2"), write_store("sim.zarr"), out=run)
    quick = {"episodes": 2, "max_steps": 5, "resamples": 50, "device": "cpu"}
    first = evaluate(run, EvaluateSettings(**quick, picture_episodes=0))
    folder = run / "evaluations" / "flat-100000-2-of-5"
    stamp = (folder / "episodes.npz").stat().st_mtime_ns
    assert "picture" not in first
    later = evaluate(run, EvaluateSettings(**{**quick, "device": "auto"}, picture_episodes=1, video_episodes=1))
    assert (folder / "episodes.npz").stat().st_mtime_ns == stamp, "not run again"
    assert later["per_episode"] == first["per_episode"]
    assert Path(later["picture"]).stat().st_size > 100
    more = evaluate(run, EvaluateSettings(**quick, picture_episodes=0, video_episodes=2))
    assert [Path(path).name for path in more["videos"]] == ["episode-100000.webp", "episode-100001.webp"]
    assert more["picture"] == later["picture"]
    assert json.loads((folder / "summary.json").read_text()) == more


def test_starts_that_the_policy_learned_from_are_refused(
    write_store: Callable[..., Path], tiny_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    store, run = write_store("sim.zarr"), tmp_path / "run"
    env = PushTEnv(obs_type="state")
    env.reset(seed=100001)
    states = zarr.open(str(store), mode="r+")["data/state"]
    for first in (0, 20, 34):
        states[first] = env.state
    train_policy(tiny_config("policy.training.steps=2"), store, out=run)
    chosen = EvaluateSettings(episodes=2, max_steps=3, resamples=50, picture_episodes=0, device="cpu")
    with pytest.raises(BadInput, match=r"evaluation seed 100001 starts where episode 0 of those that .*run learned"):
        evaluate(run, chosen)
    assert not (run / "evaluations").exists()
    evaluate(run, replace(chosen, seed=100002))
    assert evaluate(run, replace(chosen, allow_training_starts=True))["episodes"] == 2


def test_path_traced_episodes_are_the_same_with_any_number_of_processes(
    write_store: Callable[..., Path], tiny_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """Six episodes are a group of five and one of one."""
    pytest.importorskip("mitsuba")
    run = tmp_path / "run"
    train_policy(tiny_config("policy.training.steps=2"), write_store("sim.zarr"), out=run)
    alike = {"domain": "pathtraced/linen", "episodes": 6, "max_steps": 6, "picture_episodes": 0, "device": "cpu"}
    found = []
    for workers in (1, 2):
        chosen = read_settings(EvaluateSettings, {**alike, "workers": workers})
        evaluate(run, chosen, out=tmp_path / str(workers))
        found.append(load_episodes(tmp_path / str(workers) / "episodes.npz"))
    assert [episode.seed for episode in found[0]] == list(range(100000, 100006))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.states, other.states, atol=1e-2)
    in_memory = evaluate(load_policy(run), chosen)
    for result, episode in zip(in_memory["per_episode"], found[0], strict=True):
        assert result["max_coverage"] == pytest.approx(episode.max_coverage, abs=1e-3)


def test_a_stopped_evaluation_goes_on_from_the_groups_that_are_done(
    write_store: Callable[..., Path],
    tiny_config: Callable[..., DictConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven episodes are a group of five and one of two, as of a path-traced domain."""
    run, out = tmp_path / "run", tmp_path / "broken"
    train_policy(tiny_config("policy.training.steps=2"), write_store("sim.zarr"), out=run)
    monkeypatch.setattr(evaluation, "is_pathtraced", lambda domain: True)
    seven = EvaluateSettings(episodes=7, max_steps=3, resamples=50, picture_episodes=0, device="cpu", workers=1)
    whole = evaluate(run, seven, out=tmp_path / "whole")
    seen: list[list[int]] = []

    def dies(policy: Any, domain: str, seeds: list[int], *rest: Any) -> list[Episode]:
        seen.append(seeds)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return run_episodes(policy, domain, seeds, *rest)

    monkeypatch.setattr(evaluation, "run_episodes", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, seven, out=out)
    (out / "parts" / "seconds.txt").write_text("100")  # as if the first stretch was long
    again = evaluate(run, seven, out=out)
    first, last = list(range(100000, 100005)), [100005, 100006]
    assert seen == [first, last, last]
    assert again["per_episode"] == whole["per_episode"]
    assert again["seconds"] >= 100
    assert {path.name for path in out.iterdir()} == {"config.yaml", "episodes.npz", "summary.json"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"domain": "flatt"}, "unknown domain 'flatt'. Did you mean 'flat'"),
        ({"episodes": 0}, "episodes must be at least 1; got 0"),
        ({"device": "cuda:77"}, "device 'cuda:77' is not available"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        evaluate(Constant(), read_settings(EvaluateSettings, settings))


def test_a_policy_for_another_robot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="takes 7 state columns and gives 2 actions"):
        evaluate(Constant(PolicySettings(state_dim=7)))
    with pytest.raises(BadInput, match="is not a policy run"):
        evaluate(tmp_path)
