"""The commands of the chain, each run for real at the smallest size that still does its work."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from sim2real_aug.data import ReplayBuffer, load_photos
from sim2real_aug.editor import load_editor
from sim2real_aug.envs import make_renderer
from sim2real_aug.report.pictures import encode_png

TINY_POLICY = ["policy.training.steps=2", "policy.training.batch_size=4", "policy.model.down_dims=[16,32]"]
TINY_D3PO = ["d3po.rounds=1", "d3po.conditions_per_round=1", "d3po.trajectories_per_condition=2"]
TINY_D3PO += ["d3po.num_inference_steps=2", "d3po.train_timesteps=1", "d3po.held_out_frames=1"]


def summary(done: subprocess.CompletedProcess[str]) -> dict:
    """What --json printed; the command must have ended well."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal; progress of work that was done before it may stand above."""
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("sim2real-aug: error: ")
    return line


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two that are not square, of a randomized scene with the block in their middle."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        image = make_renderer("randomized/8").image([90, 400, 256, 220, number], 120)
        (folder / f"{number}.png").write_bytes(encode_png(image[:, 10:110]))
    return folder


@pytest.fixture
def sim(cli, tmp_path: Path) -> Path:
    summary(cli("simulate", "sim.zarr", "--episodes", 3, "--json", "max_steps=20"))
    return tmp_path / "sim.zarr"


@pytest.mark.parametrize("name", ["composed", "reinhard"])
def test_augment_without_a_trained_editor(cli, sim, photos, name):
    assert "give some with --photos DIR" in refused(cli("augment", sim, "--editor", name))
    done = summary(cli("augment", sim, "--editor", name, "--photos", photos, "--episodes", "0:1", "--json"))
    assert done["frames_edited"] == 20
    before, after = ReplayBuffer.open(sim), ReplayBuffer.open(sim.with_name("sim-edited.zarr"))
    assert np.array_equal(before.read("action"), after.read("action"))
    assert not np.array_equal(before.images(0, 20), after.images(0, 20))
    assert np.array_equal(before.images(20, 60), after.images(20, 60))
    assert after.attrs["augmentation"]["editor"] == name


def test_distill(cli, sim, photos, tmp_path):
    assert "one pass a step already" in refused(cli("distill", sim, "--photos", photos))
    editor = load_editor()
    editor.edit_settings = replace(editor.edit_settings, guidance_scale=1.5)
    editor.save_pretrained(tmp_path / "guided")
    tiny = ["editor.path=guided", "fit.steps=1", "fit.batch_size=1", "held_out_frames=1", "lora.rank=1"]
    done = cli("distill", sim, "--photos", photos, "--out", "run", *tiny)
    assert done.returncode == 0, done.stderr
    assert "psnr of one pass before" in done.stdout
    edited = summary(cli("augment", sim, "--editor", "run", "--episodes", "0:1", "--json"))
    assert edited["frames_edited"] == 20


@pytest.mark.slow
def test_augment_by_rays_workers(cli, sim, photos, monkeypatch):
    """With a cluster that the command begins and ends itself, apart from any that runs on this machine."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # at Ray's own 15 workers wait for the tests beside them
    command = ("augment", sim, "--editor", "reinhard", "--photos", photos, "--json", "keep_refused=true")
    for out, engine in (("one.zarr", ()), ("many.zarr", ("--engine", "ray", "workers=2", "batch_size=8"))):
        assert summary(cli(*command, "--out", out, *engine))["frames_edited"] == ReplayBuffer.open(sim).n_frames
    one, many = (ReplayBuffer.open(sim.with_name(name)) for name in ("one.zarr", "many.zarr"))
    assert np.array_equal(one.images(), many.images())
    assert "Did you mean 'ray'?" in refused(cli(*command, "--out", "none.zarr", "--engine", "rays"))


def test_simulate_again_does_nothing_and_more_episodes_are_added(cli, sim):
    before = ReplayBuffer.open(sim)
    ends = before.episode_ends.tolist()
    assert ends == [20, 40, 60]  # no episode of 20 steps reaches the goal
    summary(cli("simulate", sim, "--episodes", 3, "--json", "max_steps=20"))
    assert summary(cli("simulate", sim, "--episodes", 4, "--json", "max_steps=20"))["episodes"] == 4
    after = ReplayBuffer.open(sim)
    assert after.episode_ends.tolist() == [*ends, 80]
    assert np.array_equal(after.read("action", 0, 60), before.read("action"))


def test_simulate_refuses_what_is_there_and_keeps_it(cli, sim, tmp_path):
    assert "another seed" in refused(cli("simulate", sim, "--seed", 1, "max_steps=20"))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/precious.txt").write_text("keep me")
    for flags in ([], ["--overwrite"]):  # --overwrite is for our own output, never for a folder of the user's
        refused(cli("simulate", tmp_path / "notes", "--episodes", 1, *flags))
    assert (tmp_path / "notes/precious.txt").read_text() == "keep me"
    assert ReplayBuffer.open(sim).n_episodes == 3


def test_simulate_takes_domains_by_turns_and_starts_from_the_configuration(cli, tmp_path):
    words = ["--source", "expert", "--episodes", 2, "--workers", 1, "start=near_goal", "max_steps=2", "size=32"]
    domains = ["--domain", "flat", "--domain", "randomized/3"]
    assert summary(cli("simulate", "two.zarr", *domains, *words, "--json"))["frames"] == 4
    store = ReplayBuffer.open(tmp_path / "two.zarr")
    assert store.attrs["simulate"]["domain"] == ["flat", "randomized/3"]
    assert np.abs(store.read("state")[[0, 2], 2:4] - 256).max() <= 26
    assert "start" in refused(cli("simulate", "two.zarr", *domains, *words[:-3], "max_steps=2", "size=32"))
    assert "Did you mean 'near_goal'" in refused(cli("simulate", "new.zarr", "start=near_gaol"))
    assert "start: angle must be" in refused(cli("simulate", "new.zarr", "--source", "expert", "start.angle=[1,0]"))


def test_photos_for_the_editor(cli, tmp_path):
    words = ["photos", "bench", "--domain", "randomized/3", "size=64", "--json"]
    assert summary(cli(*words, "--count", 2))["photos"] == 2
    assert summary(cli(*words, "--count", 3))["photos"] == 3
    assert load_photos(tmp_path / "bench", 32).images.shape == (3, 32, 32, 3)
    assert "seed" in refused(cli(*words, "--count", 3, "--seed", 1))


def complete_episodes(ends: Path) -> int:
    """How many a store that is being written has; an entry is 0 until its episode is complete."""
    return int(np.count_nonzero(zarr.open_array(ends, mode="r")[:])) if (ends / "0").exists() else 0


@pytest.mark.slow
def test_interrupted_simulation_ends_with_130_and_continues(start, cli, tmp_path):
    words = ["simulate", "cut.zarr", "--episodes", 40, "--domain", "randomized", "max_steps=60"]
    process = start(*words)
    ends = tmp_path / "cut.zarr/meta/episode_ends"
    while process.poll() is None and complete_episodes(ends) == 0:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("sim2real-aug: interrupted; run the same command again to go on")
    assert 0 < complete_episodes(ends) < 40
    assert summary(cli(*words, "--json"))["episodes"] == 40
    whole = summary(cli("simulate", "whole.zarr", *words[2:], "--json"))
    assert whole["episodes"] == 40
    cut, uncut = (ReplayBuffer.open(tmp_path / name) for name in ("cut.zarr", "whole.zarr"))
    assert np.array_equal(cut.images(), uncut.images())
    assert np.array_equal(cut.read("state"), uncut.read("state"))


@pytest.mark.parametrize(
    "words", [["augment"], ["train-policy"], ["train-editor"], ["convert", "--overwrite"], ["inspect"]]
)
def test_a_missing_store_is_said_in_one_line(cli, tmp_path, words):
    target = ["copy.zarr"] if words[0] == "convert" else []
    assert "nowhere.zarr" in refused(cli(words[0], "nowhere.zarr", *target, *words[1:]))
    assert list(tmp_path.iterdir()) == []


def test_a_store_with_nan_states_is_refused(cli, store):
    zarr.open_group(str(store), mode="r+")["data/state"][1, 2] = np.nan
    assert "state" in refused(cli("inspect", store))


def test_train_policy_and_evaluate(cli, sim, tmp_path):
    trained = summary(cli("train-policy", sim, "--out", "run", "--json", *TINY_POLICY))
    assert trained["step"] == 2
    assert "seed" in refused(cli("train-policy", sim, "--out", "run", "--seed", 1, *TINY_POLICY))
    words = ["evaluate", "run", "--episodes", 2, "--domain", "randomized/3", "max_steps=9", "--json"]
    result = summary(cli(*words))
    assert (result["episodes"], result["domain"], len(result["per_episode"])) == (2, "randomized/3", 2)
    assert "marble" in refused(cli("evaluate", "run", "--domain", "marble"))
    assert summary(cli(*words, "--out", "shown"))["per_episode"] == result["per_episode"]
    assert (tmp_path / "shown/episodes.npz").exists()
    assert "finished" in cli("inspect", "run").stdout
    page = summary(cli("report", "run", "--json"))
    assert (page["report"], page["runs"]) == ("run/report.html", 2)


@pytest.mark.slow
def test_train_editor_and_augment(cli, sim, photos, tmp_path):
    trained = summary(cli("train-editor", sim, "--photos", photos, "--out", "run", "--json", *TINY_D3PO))
    assert trained["rounds"] == 1
    edited = summary(cli("augment", sim, "--editor", "run", "--episodes", "0:1", "--json"))
    assert (edited["frames"], edited["frames_edited"]) == (60, 20)
    before, after = ReplayBuffer.open(sim), ReplayBuffer.open(tmp_path / "sim-edited.zarr")
    assert np.array_equal(before.read("action"), after.read("action"))
    assert np.array_equal(before.images(20, 60), after.images(20, 60))
    assert not np.array_equal(before.images(0, 20), after.images(0, 20))
    again = summary(cli("augment", sim, "--editor", "run", "--episodes", "0:1", "--json"))
    assert (again["frames_edited_now"], again["frames_passed"]) == (0, edited["frames_passed"])
    assert "sim-edited.zarr exists, edited with another episodes" in refused(cli("augment", sim, "--editor", "run"))


def test_photos_that_cannot_be_read_are_refused(cli, sim, photos):
    (photos / "2.jpg").write_bytes(b"not a photo")
    assert "2.jpg" in refused(cli("train-editor", sim, "--photos", photos, *TINY_D3PO))
    assert "photos" in refused(cli("train-editor", sim, "--photos", photos.parent / "none", *TINY_D3PO))


def test_two_commands_do_not_write_to_one_place(start, cli, tmp_path):
    first = start("simulate", "many.zarr", "--episodes", 500, "--source", "expert", "workers=1")
    while not (tmp_path / "many.zarr").exists():
        assert first.poll() is None
    second = cli("simulate", "many.zarr", "--episodes", 500, "--source", "expert", "workers=1")
    assert "many.zarr is being written by process" in refused(second)
    assert cli("simulate", "other.zarr", "--episodes", 1, "max_steps=5").returncode == 0
    first.kill()
    first.communicate()
    again = cli("simulate", "many.zarr", "--episodes", 1, "--source", "expert", "workers=1", "--overwrite")
    assert again.returncode == 0
    assert not list(tmp_path.glob(".*lock"))
