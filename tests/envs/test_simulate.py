"""Recording episodes: the same store however it is made, and nothing lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import zarr

from sim2real_aug.config import compose
from sim2real_aug.config import settings as settings_of
from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter
from sim2real_aug.envs.flat import FlatRenderer
from sim2real_aug.envs.geometry import keypoints
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.envs.randomized import RandomizedRenderer
from sim2real_aug.envs.recordings import load_recordings
from sim2real_aug.envs.scenes import sample_scene
from sim2real_aug.envs.simulate import SimulateSettings, simulate
from sim2real_aug.envs.starts import StartDistribution, load_start
from sim2real_aug.errors import BadInput

THREE = {"source": "expert", "episodes": 3, "seed": 7, "size": 32, "workers": 1}


def content(path: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of the expert, seed 7, drawn flat at 32 pixels."""
    path = tmp_path_factory.mktemp("recorded") / "three.zarr"
    simulate(path, SimulateSettings(**THREE))
    return path


def test_the_shipped_configuration_is_the_default() -> None:
    assert settings_of(SimulateSettings, compose("simulate")) == SimulateSettings()


def test_what_is_recorded(recorded: Path) -> None:
    store = ReplayBuffer.open(recorded)
    n = store.n_frames
    assert store.n_episodes == 3
    shapes = {name: (store.array(name).shape, str(store.array(name).dtype)) for name in store.names}
    assert shapes == {
        "img": ((n, 32, 32, 3), "uint8"),
        "state": ((n, 5), "float32"),
        "action": ((n, 2), "float32"),
        "keypoint": ((n, 9, 2), "float32"),
        "n_contacts": ((n, 1), "float32"),
        "coverage": ((n, 1), "float32"),
    }
    assert store.zarr_format == 2
    assert store.read("n_contacts").max() >= 1
    states = store.read("state")
    for frame in (0, n // 2, n - 1):
        np.testing.assert_array_equal(
            store.images(frame, frame + 1)[0], FlatRenderer().image(states[frame], 32)
        )
        np.testing.assert_allclose(store.read("keypoint")[frame], keypoints(states[frame, 2:]), atol=1e-3)


def test_actions_lead_from_state_to_state(recorded: Path) -> None:
    store = ReplayBuffer.open(recorded)
    frames = store.episode(1)
    states, actions = (store.read(name, frames.start, frames.stop) for name in ("state", "action"))
    env = PushTEnv()
    env.reset(options={"reset_to_state": states[0]})
    coverages = []
    for step in range(12):
        np.testing.assert_allclose(env.state, states[step], atol=1e-2)
        *_, info = env.step(actions[step])
        coverages.append(info["coverage"])
    np.testing.assert_allclose(store.read("coverage")[frames][:12, 0], coverages, atol=1e-3)


def test_workers_do_not_matter(recorded: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "two.zarr", SimulateSettings(**{**THREE, "workers": 2}))
    assert content(tmp_path / "two.zarr") == content(recorded)


def test_episodes_of_a_shorter_run_begin_a_longer_one(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "grown.zarr"
    simulate(path, SimulateSettings(**{**THREE, "episodes": 1}))
    summary = simulate(path, SimulateSettings(**THREE))
    assert summary["episodes"] == 3
    assert content(path) == content(recorded)
    before = content(path)
    simulate(path, SimulateSettings(**THREE))
    assert content(path) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_command_continues(tmp_path: Path, workers: int) -> None:
    """kill -9 of the command, the same command again: byte for byte the store of a run that was left alone."""

    def command(path: Path, *words: str) -> list[str]:
        typed = ["--source", "expert", "--episodes", "16", "--workers", str(workers), "size=16", "seed=3"]
        return [sys.executable, "-P", "-m", "sim2real_aug", "simulate", str(path), *typed, *words]

    killed, whole = tmp_path / "killed.zarr", tmp_path / "whole.zarr"
    process = subprocess.Popen(command(killed), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while _episodes_in(killed) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 2 <= _episodes_in(killed) < 16, "the run must be killed half way for the test to mean anything"
    subprocess.run(command(killed), check=True, capture_output=True)
    simulate(whole, SimulateSettings(source="expert", episodes=16, seed=3, size=16, workers=1))
    assert content(killed) == content(whole)


def test_what_ships_is_the_default_source(tmp_path: Path) -> None:
    path, recordings = tmp_path / "shipped.zarr", load_recordings()
    simulate(path, SimulateSettings(episodes=2, size=32))
    store = ReplayBuffer.open(path)
    assert store.episode_ends.tolist() == recordings.episode_ends[:2].tolist()
    n = store.n_frames
    np.testing.assert_array_equal(store.read("state"), recordings.state[:n])
    np.testing.assert_array_equal(store.read("action"), recordings.action[:n])
    np.testing.assert_array_equal(store.read("n_contacts"), recordings.n_contacts[:n])
    np.testing.assert_array_equal(store.read("coverage"), recordings.coverage[:n])
    np.testing.assert_allclose(store.read("keypoint")[5], keypoints(recordings.state[5, 2:]), atol=1e-4)
    assert {name: (a.shape[1:], str(a.dtype)) for name in store.names if (a := store.array(name))} == {
        "img": ((32, 32, 3), "uint8"),
        "state": ((5,), "float32"),
        "action": ((2,), "float32"),
        "keypoint": ((9, 2), "float32"),
        "n_contacts": ((1,), "float32"),
        "coverage": ((1,), "float32"),
    }


def test_an_episode_of_what_ships_ends_after_max_steps(tmp_path: Path) -> None:
    simulate(tmp_path / "cut.zarr", SimulateSettings(episodes=2, size=8, max_steps=7))
    assert ReplayBuffer.open(tmp_path / "cut.zarr").episode_ends.tolist() == [7, 14]


def test_more_than_what_ships_is_for_the_expert(tmp_path: Path) -> None:
    shipped = load_recordings().n_episodes
    with pytest.raises(BadInput, match=rf"at most the {shipped} .*--source expert .*got {shipped + 1}"):
        simulate(tmp_path / "more.zarr", SimulateSettings(episodes=shipped + 1))
    assert list(tmp_path.iterdir()) == []


def test_domains_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "turns.zarr"
    simulate(path, SimulateSettings(episodes=3, size=32, max_steps=4, domain=("flat", "randomized/3")))
    store = ReplayBuffer.open(path)
    states = store.read("state")
    for frame, renderer in ((0, FlatRenderer()), (4, RandomizedRenderer(sample_scene(3))), (8, FlatRenderer())):
        np.testing.assert_array_equal(store.images(frame, frame + 1)[0], renderer.image(states[frame], 32))


def test_the_expert_starts_where_it_is_told(tmp_path: Path) -> None:
    settings = SimulateSettings(
        source="expert", episodes=3, size=8, max_steps=2, start=load_start("near_goal"), workers=1
    )
    simulate(tmp_path / "near.zarr", settings)
    starts = ReplayBuffer.open(tmp_path / "near.zarr").read("state")[[0, 2, 4], 2:4]
    assert np.abs(starts - 256).max() <= 26
    with pytest.raises(BadInput, match="made with another start"):
        simulate(tmp_path / "near.zarr", SimulateSettings(source="expert", episodes=3, size=8, max_steps=2))


def test_replay_redraws_the_states_and_carries_the_rest(recorded: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same.zarr", tmp_path / "other.zarr"
    simulate(same, SimulateSettings(source=f"replay:{recorded}", size=32))
    simulate(other, SimulateSettings(source=f"replay:{recorded}", size=32, domain="randomized", episodes=2))
    source, redrawn, random = (ReplayBuffer.open(path) for path in (recorded, same, other))
    for name in source.names:
        np.testing.assert_array_equal(redrawn.read(name), source.read(name))
    assert random.episode_ends.tolist() == source.episode_ends[:2].tolist()
    np.testing.assert_array_equal(random.read("action"), source.read("action")[: random.n_frames])
    first, second = (random.images()[frame].astype(int) for frame in (0, random.episode_ends[0]))
    assert np.abs(first - source.images(0, 1)[0]).mean() > 2
    assert np.abs(np.median(first, (0, 1)) - np.median(second, (0, 1))).max() > 2, (
        "each episode has its scene"
    )


def test_replay_of_a_store_that_grew(tmp_path: Path) -> None:
    source, out = tmp_path / "source.zarr", tmp_path / "out.zarr"
    for episodes in (1, 3):
        simulate(source, SimulateSettings(episodes=episodes, size=8, max_steps=3))
        simulate(out, SimulateSettings(source=f"replay:{source}", size=8), overwrite=True)
        assert ReplayBuffer.open(out).n_episodes == episodes


def test_a_replayed_store_may_be_moved_meanwhile(recorded: Path, tmp_path: Path) -> None:
    out, moved = tmp_path / "out.zarr", tmp_path / "moved.zarr"
    simulate(out, SimulateSettings(source=f"replay:{recorded}", size=8, episodes=1))
    shutil.copytree(recorded, moved)
    assert simulate(out, SimulateSettings(source=f"replay:{moved}", size=8))["episodes"] == 3
    simulate(tmp_path / "another.zarr", SimulateSettings(episodes=3, size=8, max_steps=3))
    with pytest.raises(BadInput, match="made with another replayed_hash"):
        simulate(out, SimulateSettings(source=f"replay:{tmp_path / 'another.zarr'}", size=8))


def test_a_store_is_not_replayed_onto_itself(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(recorded)
    monkeypatch.chdir(recorded.parent)
    with pytest.raises(BadInput, match="cannot be replayed onto itself"):
        simulate(recorded, SimulateSettings(source=f"replay:./{recorded.name}"), overwrite=True)
    assert content(recorded) == before


def test_a_replayed_store_may_be_in_the_home_folder(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(recorded.parent))
    assert simulate(tmp_path / "o.zarr", SimulateSettings(source="replay:~/three.zarr", size=8))["episodes"] == 3


def test_replay_of_the_published_store(published_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "again.zarr"
    simulate(path, SimulateSettings(source=f"replay:{published_store}", episodes=1))
    ours, published = ReplayBuffer.open(path), ReplayBuffer.open(published_store)
    frames = published.episode(0)
    difference = ours.images().astype(int) - published.images(frames.start, frames.stop)
    assert np.abs(difference).mean() < 0.2
    np.testing.assert_array_equal(ours.read("n_contacts"), published.read("n_contacts", 0, frames.stop))


def test_nothing_existing_is_lost(recorded: Path, tmp_path: Path) -> None:
    before = content(recorded)
    with pytest.raises(BadInput, match=r"made with another seed; .*--overwrite"):
        simulate(recorded, SimulateSettings(**{**THREE, "seed": 8}))
    with pytest.raises(BadInput, match="3 episodes already, more than the 2"):
        simulate(recorded, SimulateSettings(**{**THREE, "episodes": 2}))
    assert content(recorded) == before
    foreign = tmp_path / "foreign.zarr"
    with ReplayBufferWriter.create(foreign) as writer:
        writer.append_episode({"action": np.ones((4, 2), np.float32)})
    before = content(foreign)
    with pytest.raises(BadInput, match="not made by simulate"):
        simulate(foreign, SimulateSettings(episodes=1))
    assert content(foreign) == before
    simulate(foreign, SimulateSettings(episodes=1, size=16, max_steps=5), overwrite=True)
    assert ReplayBuffer.open(foreign).n_frames == 5


def test_a_packed_store_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "small.zarr.zip"
    settings = SimulateSettings(episodes=1, size=16, max_steps=5, zarr_format=3)
    first = simulate(path, settings)
    written = path.read_bytes()
    assert simulate(path, settings) == first
    assert path.read_bytes() == written
    with pytest.raises(BadInput, match="holds 1 episodes, not 2"):
        simulate(path, SimulateSettings(episodes=2, size=16, max_steps=5, zarr_format=3))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "exprt"}, "Did you mean 'expert'"),
        ({"source": "replay:"}, "unknown source"),
        ({"domain": "flet"}, "Did you mean 'flat'"),
        ({"episodes": 0, "workers": 0}, "episodes must be at least 1; got 0; workers must be at least 1"),
        ({"zarr_format": 4}, "2 or 3"),
        ({"domain": ("flat", "randomised")}, "Did you mean 'randomized'"),
        ({"domain": ()}, "at least one domain"),
        ({"domain": 3}, "at least one domain.*got 3"),
        ({"domain": ["flat", 3]}, "at least one domain.*got .*3"),
        ({"domain": None}, "at least one domain.*got None"),
        ({"domain": "randomized/"}, "unknown scene 'randomized/'"),
        ({"start": StartDistribution(legacy=False)}, "start is for source=expert"),
    ],
)
def test_settings_are_checked(values: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        SimulateSettings(**values)  # type: ignore[arg-type]


def test_a_bad_source_writes_nothing(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(BadInput, match="nowhere"):
        simulate(out, SimulateSettings(source=f"replay:{tmp_path / 'nowhere.zarr'}"))
    with pytest.raises(BadInput, match="at most the 3"):
        simulate(out, SimulateSettings(source=f"replay:{recorded}", episodes=4))
    assert not out.exists()


@pytest.mark.slow
def test_path_traced_episodes_do_not_depend_on_workers(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba")
    settings = {"domain": "pathtraced/whiteboard", "episodes": 2, "max_steps": 3, "size": 32}
    for workers in (1, 2):
        simulate(tmp_path / f"{workers}.zarr", SimulateSettings(**settings, workers=workers))
    assert content(tmp_path / "1.zarr") == content(tmp_path / "2.zarr")


@pytest.mark.slow
def test_a_scene_that_changed_does_not_continue_a_store(tmp_path: Path) -> None:
    pytest.importorskip("mitsuba")
    (tmp_path / "scene").mkdir()
    scene = tmp_path / "scene" / "mine.yaml"
    scene.write_text((files("sim2real_aug.configs") / "scene" / "whiteboard.yaml").read_text())
    command = [sys.executable, "-P", "-m", "sim2real_aug", "simulate", str(tmp_path / "store.zarr")]
    command += ["--domain", "pathtraced/mine", "--config-dir", str(tmp_path), "--workers", "1"]
    command += ["max_steps=2", "size=16", "--episodes"]
    subprocess.run([*command, "1"], check=True, capture_output=True)
    subprocess.run([*command, "2"], check=True, capture_output=True)
    scene.write_text(re.sub(r"(?m)^( +height:) \d+$", r"\1 33", scene.read_text()))
    refused = subprocess.run([*command, "3"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "made with another scenes" in refused.stderr


def _episodes_in(path: Path) -> int:
    """Complete episodes of a store that is being written, or was cut off."""
    try:
        return int((zarr.open_array(path / "meta" / "episode_ends", mode="r")[:] > 0).sum())
    except (OSError, KeyError, ValueError, zarr.errors.ArrayNotFoundError):
        return 0
