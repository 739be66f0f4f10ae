"""Training: the data that a step sees, the schedules, resume, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from omegaconf import DictConfig
from torch import nn

from sim2real_aug.config import compose
from sim2real_aug.config import settings as read_settings
from sim2real_aug.data.augmented import draws_edit
from sim2real_aug.data.replay_buffer import ReplayBuffer
from sim2real_aug.data.writer import ReplayBufferWriter
from sim2real_aug.errors import BadInput, Fault
from sim2real_aug.policies import trainer
from sim2real_aug.policies.demonstrations import HELD_OUT, TRAIN, BatchOrder, load_demonstrations, open_stores
from sim2real_aug.policies.diffusion import DiffusionPolicy, PolicySettings, load_policy
from sim2real_aug.policies.evaluation import EvaluateSettings
from sim2real_aug.policies.trainer import TrainSettings, learning_rate_factor, make_ema, train_policy

Compose = Callable[..., DictConfig]
Write = Callable[..., Path]
MODEL = PolicySettings(image_size=24, crop_size=20)


def test_ema_by_hand() -> None:
    """Decay of call n is 1 - n ** -0.75, at most 0.9999: weights 1, 2, 4 give 1, then 1.59..., then 2.64..."""
    module = nn.Linear(1, 1, bias=False)
    ema = make_ema(module, TrainSettings())
    expected, averages = 0.0, []
    for n, weight in enumerate((1.0, 2.0, 4.0), start=1):
        with torch.no_grad():
            module.weight.fill_(weight)
        ema.step(module.parameters())
        decay = 1 - n**-0.75
        expected = decay * expected + (1 - decay) * weight
        averages.append(float(ema.shadow_params[0]))
        assert averages[-1] == pytest.approx(expected, rel=1e-6)
    assert averages == pytest.approx([1.0, 1.594604, 2.649832], abs=1e-5)


def test_learning_rate_by_hand() -> None:
    factors = [learning_rate_factor(step, 4, 12) for step in (0, 2, 4, 6, 8, 12)]
    # half a cosine: 1, cos(pi/4) side (1 + 0.7071) / 2, a half, 0
    assert factors == pytest.approx([0, 0.5, 1, 0.853553, 0.5, 0])


def test_each_pass_takes_every_window_once_and_batches_are_always_full() -> None:
    order = BatchOrder(items=10, batch_size=4, augmented_probability=0.5, seed=3)
    batches = [order.batch(step)[0] for step in range(5)]
    assert all(len(batch) == 4 for batch in batches)
    drawn = np.concatenate(batches)
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])


def test_edits_are_drawn_as_the_dataset_wrapper_draws_them() -> None:
    order = BatchOrder(items=50, batch_size=50, augmented_probability=0.3, seed=7)
    for epoch in range(3):
        items, edited = order.batch(epoch)
        assert list(edited) == [draws_edit(7, epoch, int(item), 0.3) for item in items]
    share = np.mean([BatchOrder(500, 500, 0.3, 7).batch(epoch)[1].mean() for epoch in range(4)])
    assert 0.25 < share < 0.35


def test_windows_are_read_as_stored(write_store: Write) -> None:
    path = write_store("sim.zarr")
    train, val = load_demonstrations(*open_stores(path, None, MODEL, 0.34), MODEL, None, 0.34, seed=0)
    store = ReplayBuffer.open(path)
    whole = {state.tobytes(): row for row, state in enumerate(store.read("state")[:, :2])}
    ends = set(store.episode_ends - 1)
    # windows: an episode of L frames has L - 16 + 1 + 1 + 7
    assert len(train) + len(val) == sum(length - 7 for length in (20, 14, 17))
    items = np.arange(len(train))
    observation, actions = train.batch(items, np.zeros(len(items), bool))
    assert observation.frames.shape == (len(train), 2, 24, 24, 3)
    assert actions.shape == (len(train), 16, 2)
    for item in items:
        rows = [whole[state.numpy().tobytes()] for state in observation.states[item]]
        assert rows[1] - rows[0] in (0, 1)
        assert np.array_equal(observation.frames[item, 1], store.images(rows[1], rows[1] + 1)[0])
        ahead = [rows[1]]
        while len(ahead) < 15:
            ahead.append(ahead[-1] if ahead[-1] in ends else ahead[-1] + 1)
        assert np.array_equal(actions[item, 1:], store.read("action")[ahead])


def test_only_the_wanted_split_is_decoded(write_store: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = open_stores(write_store("sim.zarr"), None, MODEL, 0.34)
    both = load_demonstrations(*stores, MODEL, None, 0.34, seed=0)
    read: list[int] = []
    images = ReplayBuffer.images

    def counted(self: ReplayBuffer, start: int, stop: int) -> np.ndarray:
        read.append(stop - start)
        return images(self, start, stop)

    monkeypatch.setattr(ReplayBuffer, "images", counted)
    for place, name in enumerate((TRAIN, HELD_OUT)):
        read.clear()
        alone = load_demonstrations(*stores, MODEL, None, 0.34, seed=0, wanted=(name,))
        assert sum(read) == len(both[place].frames)
        assert np.array_equal(alone[place].frames, both[place].frames)
        assert len(alone[1 - place]) == 0


def test_windows_show_edits_but_where_the_gate_refused_one_of_their_frames(
    write_store: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_store("sim.zarr")
    ok = np.ones((51, 1), bool)
    ok[::3] = False
    edited = write_store("a longer name.zarr", edit_ok=ok)
    original, edit = ReplayBuffer.open(path), ReplayBuffer.open(edited)
    zarr.open(str(edited), mode="r+")["data/action"][:] = original.read("action")  # other frames only
    train, _ = load_demonstrations(*open_stores(path, edited, MODEL, 0.0), MODEL, None, 0.0, seed=0)
    items = np.array([0, 5, 6, 29])  # rows 0 and 0, 4 and 5, 5 and 6, 28 and 29
    rows = train.windows[items][:, :2]
    shown = train.batch(items, np.array([True, True, True, False]))[0].frames.numpy()
    frames, edits = original.images(), edit.images()
    for window, seen, edited_there in zip(shown, rows, (False, True, False, False), strict=True):
        assert np.array_equal(window, (edits if edited_there else frames)[seen])
    told = "34 of its 51 frames are edits that passed the gate"
    assert told in capsys.readouterr().err
    every, _ = load_demonstrations(
        *open_stores(path, edited, MODEL, 0.0), MODEL, None, 0.0, seed=0, use_gate=False
    )
    assert told not in capsys.readouterr().err
    shown = every.batch(items, np.ones(4, bool))[0].frames.numpy()
    assert np.array_equal(shown, edits[every.windows[items][:, :2]]), "without the gate, every edit"


def test_edits_that_are_never_shown_change_nothing(
    write_store: Write, tiny_config: Compose, tmp_path: Path
) -> None:
    store, edits = write_store("sim.zarr"), write_store("a longer name.zarr")
    zarr.open(str(edits), mode="r+")["data/action"][:] = ReplayBuffer.open(store).read("action")
    short = ("policy.training.steps=2", "policy.training.augmented_probability=0")
    train_policy(tiny_config(*short), store, out=tmp_path / "plain")
    train_policy(tiny_config(*short), store, edits, tmp_path / "never")
    plain, never = (load_policy(tmp_path / name).state_dict() for name in ("plain", "never"))
    assert all(torch.equal(plain[name], never[name]) for name in plain)


def test_frames_are_normalised_by_what_is_shown(write_store: Write) -> None:
    path, edited = write_store("sim.zarr"), write_store("a longer name.zarr")
    zarr.open(str(edited), mode="r+")["data/action"][:] = ReplayBuffer.open(path).read("action")
    train, _ = load_demonstrations(*open_stores(path, edited, MODEL, 0.0), MODEL, None, 0.0, seed=0)
    originals, edits = train.frames, train.edited
    for probability, shown in ((0, [originals]), (0.25, [originals, edits]), (1, [edits])):
        assert np.array_equal(train.frame_sample(probability).numpy(), np.concatenate(shown))


def metrics(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    write_store: Write, tiny_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store("sim.zarr", keypoint=np.random.default_rng(0).uniform(0, 512, (51, 9, 2)))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    summary = train_policy(tiny_config(), store, out=whole)
    assert [line["step"] for line in metrics(whole)] == [2, 4, 6, 8]
    assert {"val_loss", "val_action_error"} <= metrics(whole)[1].keys()
    assert summary["step"] == 8

    real_step = trainer.train_step

    def dies(training: trainer.Training, *rest: Any) -> float:
        if training.step == 5:  # the last checkpoint is that of step 3, within a logging interval
            raise KeyboardInterrupt
        return real_step(training, *rest)

    monkeypatch.setattr(trainer, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_policy(tiny_config(), store, out=broken)
    monkeypatch.undo()
    last = broken / "checkpoints" / "last.pt"
    torch.save({**torch.load(last, weights_only=True), "seconds": 100.0}, last)  # as if the first session was long
    torch.manual_seed(123)  # nothing may hang on the global generator
    train_policy(tiny_config(), store, out=broken)
    assert metrics(broken) == metrics(whole)
    saved = torch.load(broken / "checkpoints" / "last.pt", weights_only=True)
    assert json.loads((broken / "summary.json").read_text())["seconds"] >= round(saved["seconds"], 1) > 100
    one, other = (load_policy(path).state_dict() for path in (whole, broken))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_finished_run_is_returned_and_another_configuration_refused(
    write_store: Write, tiny_config: Compose, tmp_path: Path
) -> None:
    store, out = write_store("sim.zarr"), tmp_path / "run"
    short = "policy.training.steps=2"
    summary = train_policy(tiny_config(short), store, out=out)
    assert train_policy(tiny_config(short), store, out=out) == summary
    with pytest.raises(BadInput, match="another seed"):
        train_policy(tiny_config(short, "seed=1"), store, out=out)
    assert (
        train_policy(tiny_config(short, "seed=1"), store, out=out, overwrite=True)["loss"] != summary["loss"]
    )


def test_data_that_changed_under_its_path_is_another_run(
    write_store: Write, tiny_config: Compose, tmp_path: Path
) -> None:
    store, edits, out = write_store("sim.zarr"), write_store("sim.zarr.edited"), tmp_path / "run"
    original = ReplayBuffer.open(store)
    zarr.open(str(edits), mode="r+")["data/action"][:] = original.read("action")
    short = tiny_config("policy.training.steps=2")
    summary = train_policy(short, store, edits, out)
    moved = store.rename(tmp_path / "moved.zarr")
    assert train_policy(short, moved, edits, out) == summary, "the same data elsewhere"
    moved.rename(store)
    zarr.open(str(edits), mode="r+").attrs["augmentation"] = {"min_region_iou": 0.7}
    with pytest.raises(BadInput, match="holds a run made with another augmented_hash"):
        train_policy(short, store, edits, out)
    zarr.open(str(store), mode="r+")["data/img"][0] = 7
    with pytest.raises(BadInput, match="holds a run made with another augmented_hash, dataset_hash"):
        train_policy(short, store, edits, out)


def test_a_store_without_keypoints_is_said_to_lack_them(
    write_store: Write, tiny_config: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tiny_config("policy.training.steps=1")
    train_policy(short, write_store("sim.zarr"), out=tmp_path / "without")
    assert "has no data/keypoint" in capsys.readouterr().err
    points = np.random.default_rng(0).uniform(0, 512, (51, 9, 2))
    train_policy(short, write_store("more.zarr", keypoint=points), out=tmp_path / "with")
    assert "data/keypoint" not in capsys.readouterr().err


@pytest.mark.parametrize(("recorded", "said"), [({"keep_refused": False}, True), ({"keep_refused": True}, False)])
def test_refused_edits_that_were_not_stored_cannot_be_taken(
    recorded: dict[str, bool],
    said: bool,
    write_store: Write,
    tiny_config: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, edits = write_store("sim.zarr"), write_store("a longer name.zarr")
    changed = zarr.open(str(edits), mode="r+")
    changed["data/action"][:] = ReplayBuffer.open(store).read("action")
    changed.attrs["augmentation"] = recorded
    for use_gate in (True, False):
        short = ("policy.training.steps=1", f"policy.training.use_gate={use_gate}")
        train_policy(tiny_config(*short), store, edits, tmp_path / str(use_gate))
        told = "has original frames where the gate refused an edit" in capsys.readouterr().err
        assert told == (said and not use_gate)


def test_keypoints_that_are_not_finite_are_refused_where_they_are_learned_from(
    write_store: Write, tiny_config: Compose, tmp_path: Path
) -> None:
    points = np.random.default_rng(0).uniform(0, 512, (51, 9, 2))
    points[25, 3] = np.nan
    store, short = write_store("sim.zarr", keypoint=points), "policy.training.steps=1"
    with pytest.raises(BadInput, match=r"data/keypoint holds NaN .* in 1 frames, first in frame 25 \(episode 1\)"):
        train_policy(tiny_config(short), store, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train_policy(tiny_config(short, "policy.training.landmark_weight=0"), store, out=tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(
    write_store: Write, tiny_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DiffusionPolicy.denoising_loss
    calls = iter([1.0, 1.0, 1.0, 1.0, float("nan")])
    monkeypatch.setattr(DiffusionPolicy, "denoising_loss", lambda *a, **k: real(*a, **k) * next(calls))
    with pytest.raises(Fault, match=r"nan at step 4; start again with a lower .*learning_rate and --overwrite"):
        train_policy(
            tiny_config("policy.training.validate_every=100"), write_store("sim.zarr"), out=tmp_path / "r"
        )
    assert (tmp_path / "r" / "checkpoints" / "last.pt").exists()
    assert not (tmp_path / "r" / "summary.json").exists()


def test_memory_that_ends_is_one_line_with_the_batch_size_to_try(
    write_store: Write, tiny_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DiffusionPolicy, "denoising_loss", full)
    with pytest.raises(Fault, match=r"try policy\.training\.batch_size=2 --overwrite \("):
        train_policy(tiny_config(), write_store("sim.zarr"), out=tmp_path / "r")


@pytest.mark.parametrize(
    ("lengths", "size", "overrides", "message"),
    [
        ((30,), 24, (), "has 1 episode; training with val_fraction 0.02 needs at least 2"),
        ((30, 5), 24, (), "has an episode of 5 frames; with horizon 16 every episode needs at least 8"),
        ((30, 30), 32, (), "data/img is 32x32 and the policy takes 24x24"),
        (
            (30, 30),
            24,
            ("policy.model.action_dim=3",),
            r"data/action is \(N, 2\); the policy predicts \(N, 3\)",
        ),
        (
            (30, 30),
            24,
            ("policy.model.state_dim=6",),
            r"data/state is \(N, 5\); the policy takes its first 6",
        ),
        (
            (30, 30),
            24,
            ("policy.training.batch_size=0",),
            "policy.training: batch_size must be at least 1; got 0",
        ),
        (
            (30, 30),
            24,
            ("policy.training.learning_rate=-1", "policy.training.adam_betas=[2,0.9]"),
            r"learning_rate must be above 0; got -1; adam_betas must both lie in 0\.\.1, below 1; got \[2, 0.9\]",
        ),
        ((30, 30), 24, ("policy.training.warmup_steps=-3",), "warmup_steps must be at least 0; got -3"),
        ((30, 30), 24, ("policy.training.val_fraction=1.5",), r"val_fraction must lie in 0\.\.1, below 1; got 1.5"),
        ((30, 30), 24, ("policy.training.max_train_episodes=0",), "max_train_episodes must be at least 1; got 0"),
        ((30, 30), 24, ("policy.model.kernel_size=4",), "kernel_size must be odd"),
        ((30, 30), 24, ("device=cuda:77",), "device 'cuda:77' is not available"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_anything_is_written(
    lengths: tuple[int, ...],
    size: int,
    overrides: tuple[str, ...],
    message: str,
    write_store: Write,
    tiny_config: Compose,
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        train_policy(tiny_config(*overrides), write_store("sim.zarr", lengths, size), out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_edit_of_another_store_is_refused(
    write_store: Write, tiny_config: Compose, tmp_path: Path
) -> None:
    store = write_store("sim.zarr")
    with pytest.raises(BadInput, match=r"is not an edit of .*: their actions differ"):
        train_policy(tiny_config(), store, write_store("a longer name.zarr"), out=tmp_path / "run")
    with pytest.raises(BadInput, match=r"2 episodes.* is not an edit of .*3 episodes"):
        train_policy(tiny_config(), store, write_store("b.zarr", (20, 31)), out=tmp_path / "run")
    with pytest.raises(BadInput, match=r"shows the frames of .*sim\.zarr as they are; give the store that"):
        train_policy(tiny_config(), store, store, out=tmp_path / "run")
    zarr.open(str(store), mode="r+").attrs["augmentation"] = {"image_name": "wrist"}
    with pytest.raises(BadInput, match=r"edits of data/wrist, and data/img as it was"):
        train_policy(tiny_config(), store, store, out=tmp_path / "run")


def test_frames_that_no_policy_here_takes_stay_with_their_own_training(tiny_config: Compose, tmp_path: Path) -> None:
    arrays = {"img": np.zeros((20, 24, 32, 3), np.uint8), "state": np.zeros((20, 2)), "action": np.zeros((20, 2))}
    for lacking, message in (("state", "has no data/state"), (None, "is 24x32 and policies here take square frames")):
        with ReplayBufferWriter.create(tmp_path / "wide.zarr", overwrite=True) as writer:
            writer.append_episode({name: array for name, array in arrays.items() if name != lacking})
        with pytest.raises(BadInput, match=f"{message}.*; keep your own training, on AugmentedDataset or a copy by"):
            train_policy(tiny_config(), tmp_path / "wide.zarr", out=tmp_path / "run")


@pytest.mark.parametrize("name", ["compact", "resnet18"])
def test_the_shipped_configurations_are_the_published_setting_where_they_must_be(name: str) -> None:
    config = compose("train_policy", [f"policy={name}"])
    model = read_settings(PolicySettings, config.policy.model)
    training = read_settings(TrainSettings, config.policy.training)
    assert read_settings(EvaluateSettings, compose("evaluate")) == EvaluateSettings()
    assert (model.horizon, model.n_obs_steps, model.n_action_steps) == (16, 2, 8)
    assert (model.image_size, model.crop_size, model.num_train_timesteps) == (96, 84, 100)
    assert training.adam_betas == (0.95, 0.999)
    if name == "compact":
        assert (model, training) == (PolicySettings(), TrainSettings()), "the defaults in Python"
    if name == "resnet18":
        assert model.down_dims == (512, 1024, 2048)
        assert (training.learning_rate, training.batch_size, training.warmup_steps) == (1e-4, 64, 500)
    with torch.device("meta"):
        DiffusionPolicy(model)


def test_a_few_steps_on_the_published_demonstrations(published: Path, tmp_path: Path) -> None:
    overrides = (
        "device=cpu",
        "policy.training.steps=3",
        "policy.training.batch_size=8",
        "policy.training.max_train_episodes=2",
        "policy.training.val_fraction=0.005",
        "policy.training.val_items=8",
        "policy.training.warmup_steps=1",
    )
    summary = train_policy(compose("train_policy", overrides), published, out=tmp_path / "run")
    assert summary["parameters"] == sum(p.numel() for p in load_policy(tmp_path / "run").parameters())
    assert 0.3 < summary["loss"] < 2
    # the action range is that of the two episodes, within the window
    offset = load_policy(tmp_path / "run").action_normalizer.unnormalize(
        torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    )
    assert offset.min() >= 0
    assert offset.max() <= 512
