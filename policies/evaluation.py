"""Closed-loop evaluation: how well a policy does in Push-T, drawn in any domain.

Success is coverage >= 0.95 at any time within 300 steps; mean max and final coverage are reported beside it,
as the three are not comparable with one another. Starts come from a fixed list of seeds, by default those of
the published evaluation, 100000 and on.

    sim2real-aug evaluate RUN --domain flat --episodes 50
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from sim2real_aug.devices import resolve_device
from sim2real_aug.envs.push_t import SUCCESS_THRESHOLD
from sim2real_aug.envs.rendering import is_pathtraced, make_renderer, scene_records
from sim2real_aug.envs.workers import in_order
from sim2real_aug.errors import BadInput, below_least
from sim2real_aug.policies.diffusion import DiffusionPolicy, load_policy
from sim2real_aug.policies.rollout import (
    Episode,
    Policy,
    episode_renderers,
    load_episodes,
    run_episodes,
    save_episodes,
)
from sim2real_aug.policies.starts import load_starts, refuse_known_starts
from sim2real_aug.policies.videos import animate
from sim2real_aug.progress import Progress, progress
from sim2real_aug.report.intervals import estimate, mean, share_estimate
from sim2real_aug.report.pictures import grid
from sim2real_aug.runs import RunFolder, write_text_atomically

PICTURE_FRAMES = 8
PUSH_T_DIMS = 2
EPISODES_A_PROCESS = 5
EPISODES_FILE = "episodes.npz"
PARTS = "parts"  # folder of the groups of episodes that are done, while an evaluation is unfinished
SECONDS_FILE = "seconds.txt"  # in it: what they took, over all stretches
SHOWN = ("picture_episodes", "video_episodes", "device")  # may be others when an evaluation is asked for again
ADDED = ("policy",)  # later than the first evaluations, which lack it: its keys are compared where it is there


@dataclass(frozen=True)
class EvaluateSettings:
    """What to evaluate on; each field is explained in `configs/evaluate.yaml`."""

    domain: str = "flat"
    episodes: int = 50
    seed: int = 100000
    max_steps: int = 300
    resamples: int = 10000
    picture_episodes: int = 4
    video_episodes: int = 0
    allow_training_starts: bool = False
    device: str = "auto"
    workers: int | None = None
    config_dir: str | None = None

    def __post_init__(self) -> None:
        least = {"episodes": 1, "max_steps": 1, "resamples": 1, "workers": 1}
        if wrong := below_least(self, **least, seed=0, picture_episodes=0, video_episodes=0):
            raise BadInput("; ".join(wrong))

    def folder(self, policy_run: Path) -> Path:
        """Where the evaluation of a training run goes when nothing else is said."""
        limit = "" if self.max_steps == EvaluateSettings.max_steps else f"-of-{self.max_steps}"
        return policy_run / "evaluations" / f"{self.domain.replace('/', '-')}-{self.seed}-{self.episodes}{limit}"


def summarise(episodes: Sequence[Episode], settings: EvaluateSettings) -> dict[str, Any]:
    """Means with 95 % intervals, and the episodes one by one.

    mean_max_reward is the published policies' score: max coverage / 0.95, at most 1. The interval of success_rate is
    Wilson's, the others are bootstrapped over the episodes.
    """
    covered = np.array([[episode.max_coverage for episode in episodes]])
    measured = {
        "mean_max_coverage": covered,
        "mean_final_coverage": np.array([[episode.final_coverage for episode in episodes]]),
        "mean_max_reward": np.minimum(covered / SUCCESS_THRESHOLD, 1.0),
    }
    figures = {"success_rate": share_estimate(np.array([float(episode.success) for episode in episodes]))}
    for name, values in measured.items():
        figures[name] = estimate(mean, values, seed=settings.seed, resamples=settings.resamples)
    summary: dict[str, Any] = {}
    for name, figure in figures.items():
        summary |= {name: figure.value, f"{name}_interval": [figure.low, figure.high]}
    summary["per_episode"] = [
        {
            "seed": episode.seed,
            "success": episode.success,
            "max_coverage": episode.max_coverage,
            "final_coverage": episode.final_coverage,
            "steps": episode.steps,
        }
        for episode in episodes
    ]
    return summary


def evaluate(
    policy: str | Path | Policy,
    settings: EvaluateSettings | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run the policy of a training run (or a policy in memory) and return its summary.

    out: folder for summary.json, episodes.npz (all states), episodes.png and videos; for a run by default
    RUN/evaluations/<domain>-<seed>-<n> (-of-<max_steps> where that is not 300), for a policy in memory nothing is
    written. An evaluation that is there already is not run again: what is missing of its picture and videos is drawn
    from its states (a policy of your own class, which has no weights to tell it by, is run every time). The policy of a
    run is evaluated in a path-traced domain by several processes, where there is no GPU: the calling script needs the
    usual `if __name__ == "__main__":`; stopped halfway, it goes on from the groups of episodes that are done.

    Raises BadInput for a path that is no policy run, a policy that does not fit Push-T, an unknown domain, and starts
    that the policy learned from, unless `allow_training_starts`.
    """
    settings = settings or EvaluateSettings()
    make_renderer(settings.domain, config_dir=settings.config_dir)
    device = resolve_device(settings.device)
    path = None
    if isinstance(policy, str | Path):
        path, policy = Path(policy), load_policy(policy).to(device)
        out = settings.folder(path) if out is None else out
    check_fits_push_t(policy)
    if path is not None and not settings.allow_training_starts:
        _refuse_training_starts(path, settings)
    run = None if out is None else _opened(Path(out), policy, settings, overwrite)
    if run is not None and isinstance(policy, DiffusionPolicy):
        finished = run.already_done()
        if finished is not None:
            return _shown_anew(finished, settings, run)
    if path is not None and run is not None and device.type == "cpu" and is_pathtraced(settings.domain):
        return _evaluate_apart(path, settings, run)
    return _evaluate(policy, settings, run)


def _opened(out: Path, policy: Policy, settings: EvaluateSettings, overwrite: bool) -> RunFolder:
    """The folder of this evaluation. Raises BadInput for one of another policy, or of other settings."""
    made_with = {**dataclasses.asdict(settings), "policy": dataclasses.asdict(policy.settings)}
    made_with["weights"] = _digest(policy) if isinstance(policy, DiffusionPolicy) else "unknown"
    for name in ("workers", "allow_training_starts"):  # no other episodes
        made_with.pop(name)
    made_with["scenes"] = scene_records((settings.domain,), made_with.pop("config_dir"))
    return RunFolder.open(out, OmegaConf.create(made_with), overwrite, free=(*SHOWN, *ADDED))


def _refuse_training_starts(policy_run: Path, settings: EvaluateSettings) -> None:
    known = load_starts(policy_run)
    if known is not None:
        seeds = range(settings.seed, settings.seed + settings.episodes)
        advice = "choose another --seed, or allow_training_starts=true"
        refuse_known_starts(known, seeds, f"those that {policy_run} learned from", advice)


def check_fits_push_t(policy: Policy) -> None:
    """Raise BadInput unless the policy sees the agent's position and gives its target."""
    dims = (policy.settings.state_dim, policy.settings.action_dim)
    if dims != (PUSH_T_DIMS, PUSH_T_DIMS):
        raise BadInput(
            f"the policy takes {dims[0]} state columns and gives {dims[1]} actions; "
            "Push-T has two of each: train with policy.model.state_dim=2 policy.model.action_dim=2"
        )


def _evaluate(policy: Policy, settings: EvaluateSettings, run: RunFolder | None) -> dict[str, Any]:
    """All episodes at once, in this process."""
    start = time.monotonic()
    with _progress(settings) as bar:
        episodes = _run(policy, settings, range(settings.episodes), bar.advance)
    return _finish(episodes, settings, run, time.monotonic() - start)


def _evaluate_apart(policy_run: Path, settings: EvaluateSettings, run: RunFolder) -> dict[str, Any]:
    """All episodes, a few at once in each of `settings.workers` processes; how many does not hang on their number,
    nor do the results. Each group is kept as soon as it is done."""
    _loaded.cache_clear()  # the run may have been trained again since an earlier call
    parts = run.path / PARTS
    parts.mkdir(exist_ok=True)
    clock = parts / SECONDS_FILE
    start = time.monotonic() - (float(clock.read_text()) if clock.exists() else 0.0)
    episodes: list[Episode] = []
    groups = range(math.ceil(settings.episodes / EPISODES_A_PROCESS))
    work = partial(_group, str(policy_run), settings, parts)
    with _progress(settings) as bar:
        for group in in_order(work, groups, settings.workers, path_traced=True):
            episodes += group
            write_text_atomically(clock, str(time.monotonic() - start))
            bar.advance(len(group) * settings.max_steps, f"{len(episodes)} of {settings.episodes} episodes done")
    summary = _finish(episodes, settings, run, time.monotonic() - start)
    shutil.rmtree(parts)
    return summary


def _progress(settings: EvaluateSettings) -> AbstractContextManager[Progress]:
    return progress(f"evaluating in {settings.domain}", settings.episodes * settings.max_steps, unit="steps")


def _finish(
    episodes: Sequence[Episode], settings: EvaluateSettings, run: RunFolder | None, seconds: float
) -> dict[str, Any]:
    """The summary; all that is written is there when it is."""
    summary = {**dataclasses.asdict(settings), **summarise(episodes, settings), "seconds": round(seconds, 1)}
    if run is not None:
        save_episodes(episodes, run.path / EPISODES_FILE)
        summary |= _show(episodes, settings, run.path, {})
        run.write_summary(summary)
    return summary


def _shown_anew(summary: dict[str, Any], settings: EvaluateSettings, run: RunFolder) -> dict[str, Any]:
    """The summary of a finished evaluation, with the picture and the videos that it lacks drawn from its states."""
    asked = {"picture_episodes": settings.picture_episodes, "video_episodes": settings.video_episodes}
    more = {name: count for name, count in asked.items() if count > summary[name]}
    if not more:
        return summary
    if not (run.path / EPISODES_FILE).is_file():
        raise BadInput(f"{run.path} holds no {EPISODES_FILE} to draw from; --overwrite evaluates again")
    episodes = load_episodes(run.path / EPISODES_FILE)
    summary = {**summary, **more, **_show(episodes, settings, run.path, summary)}
    run.write_summary(summary)
    return summary


def _show(
    episodes: Sequence[Episode], settings: EvaluateSettings, folder: Path, there: Mapping[str, Any]
) -> dict[str, Any]:
    """Draw the picture and the videos that `settings` asks for beyond those of the summary `there`; their places."""
    shown: dict[str, Any] = {"videos": list(there.get("videos", ()))}
    if settings.picture_episodes > there.get("picture_episodes", 0):
        chosen = episodes[: settings.picture_episodes]
        shown["picture"] = str(draw(chosen, settings.domain, folder / "episodes.png", settings.config_dir))
    shown["videos"] += film(episodes[len(shown["videos"]) : settings.video_episodes], settings, folder)
    return shown


def _run(
    policy: Policy,
    settings: EvaluateSettings,
    indices: range,
    on_steps: Callable[[int, str], None] = lambda steps, note: None,
) -> list[Episode]:
    seeds = [settings.seed + index for index in indices]
    return run_episodes(policy, settings.domain, seeds, settings.max_steps, on_steps, settings.config_dir)


def _group(policy_run: str, settings: EvaluateSettings, parts: Path, group: int) -> list[Episode]:
    """The episodes of one group, run unless they are among `parts`."""
    first = group * EPISODES_A_PROCESS
    indices = range(first, min(first + EPISODES_A_PROCESS, settings.episodes))
    place = parts / f"{indices.start}-{indices.stop}.npz"
    if not place.exists():
        save_episodes(_run(_loaded(policy_run), settings, indices), place)
    return load_episodes(place)


_loaded = cache(load_policy)


def film(episodes: Sequence[Episode], settings: EvaluateSettings, folder: Path) -> list[str]:
    """Write an animation of each episode, named by its seed."""
    renderers = episode_renderers(settings.domain, [e.seed for e in episodes], settings.config_dir)
    return [
        str(animate({f"seed {e.seed}": (renderer, e.states)}, folder / f"episode-{e.seed}.webp"))
        for e, renderer in zip(episodes, renderers, strict=True)
    ]


def draw(episodes: Sequence[Episode], domain: str, path: Path, config_dir: str | None = None) -> Path:
    """Write a picture: a row an episode, frames evenly spread from its start to its end."""
    rows = []
    renderers = episode_renderers(domain, [episode.seed for episode in episodes], config_dir)
    for episode, renderer in zip(episodes, renderers, strict=True):
        moments = np.linspace(0, episode.steps, PICTURE_FRAMES).round().astype(int)
        rows.append([renderer.image(episode.states[moment], 192) for moment in moments])
    return grid(rows, path, ["start", *[""] * (PICTURE_FRAMES - 2), "end"])


def _digest(policy: DiffusionPolicy) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(policy.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
