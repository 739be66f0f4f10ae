"""Pretraining: what examples are made of, resuming, and the whole run at a tiny size."""

import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from sim2real_aug.config import compose
from sim2real_aug.data.regions import relative_depth
from sim2real_aug.editor import load_editor
from sim2real_aug.envs.scenes import sample_scene
from sim2real_aug.errors import BadInput
from sim2real_aug.judges import load_judge
from sim2real_aug.pixels import to_images
from sim2real_aug.pretrain import loop, pretrain
from sim2real_aug.pretrain.autoencoder import (
    along,
    build_autoencoder,
    color_axes,
    encode_frames,
    fold_color_axes,
)
from sim2real_aug.pretrain.editor import draw_examples, dropout_masks
from sim2real_aug.pretrain.frames import FrameGroups
from sim2real_aug.pretrain.instructions import instruction_for, scene_words
from sim2real_aug.pretrain.judge import info_nce
from sim2real_aug.pretrain.loop import Draw, FitSettings, fit
from sim2real_aug.runs import RunFolder

WEIGHTS = "diffusion_pytorch_model.safetensors"
TINY = [
    "frames.groups=3", "frames.image_size=32", "held_out.scenes=2", "held_out.photos=2",
    "autoencoder.block_out_channels=[8,8,8]", "autoencoder.fit.steps=2", "autoencoder.fit.batch_size=2",
    "decoder.fit.steps=2", "decoder.fit.batch_size=2", "reader.fit.steps=2", "reader.fit.batch_size=8",
    "embedder.fit.steps=2", "embedder.fit.batch_size=8",
    "editor.fit.steps=2", "editor.fit.batch_size=4", "editor.architecture.block_out_channels=[16,16,16]",
    "editor.architecture.attention_heads=[2,2,2]", "editor.architecture.norm_num_groups=8",
    "editor.architecture.text_hidden_size=16", "editor.architecture.latent_size=8",
]  # fmt: skip


def test_colour_axes_have_equal_spread_and_fold_into_the_autoencoder_exactly() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(0, 1, (4, 40, 40, 3)) * (60, 12, 5) @ np.array([(1, 1, 1), (1, -1, 0), (1, 1, -2)])
    images = (mixed / 3 + 128).clip(0, 255).astype(np.uint8)
    axes = color_axes(images, rng)
    seen = along(axes, to_images(images) * 2 - 1).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    np.testing.assert_allclose(np.cov(seen.T), 0.25 * np.eye(3), atol=0.02)

    torch.manual_seed(0)
    vae = build_autoencoder([8, 8, 16], 4, 32, 4).eval()
    picture = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = along(torch.linalg.inv(axes), vae(along(axes, picture)).sample)
        fold_color_axes(vae, axes)
        torch.testing.assert_close(vae(picture).sample, expected, atol=2e-4, rtol=1e-4)


def test_dropout_leaves_each_kind_of_example() -> None:
    """p = 0.05: none, source, source and style, source and text, everything."""
    source, style, text = dropout_masks(np.array([0.01, 0.06, 0.11, 0.16, 0.5]))
    assert source.tolist() == [False, True, True, True, True]
    assert style.tolist() == [False, False, True, False, True]
    assert text.tolist() == [False, False, False, True, True]


def test_the_visual_prompt_is_another_state_in_the_targets_look() -> None:
    index = draw_examples(np.random.default_rng(0), (50, 3, 4), 500)
    assert (index.states != index.style_states).all()
    assert set(index.style_states) == {0, 1, 2, 3}
    assert (index.target_looks == 0).mean() == pytest.approx(0.06, abs=0.04)


def test_instructions_speak_of_the_scene() -> None:
    scene = sample_scene(4)
    words = scene_words(scene)
    texts = [instruction_for(scene, np.random.default_rng(seed)) for seed in range(300)]
    assert any(words["table"] in text for text in texts)
    assert any(words["block"] in text for text in texts)
    assert "make it look like a real photo" in texts


def test_relative_depth_by_hand() -> None:
    """Table 1000 away, block 40 high, pusher 60: 1, 0.5, 0.25."""
    depth = np.array([[[1.0, 0.96, 0.94]]])
    labels = np.array([[[0, 1, 3]]], np.uint8)
    np.testing.assert_allclose(relative_depth(depth, labels), [[[1.0, 0.5, 0.25]]], atol=1e-6)


def test_info_nce_is_low_for_matching_pairs_and_skips_unseen_regions() -> None:
    first = torch.eye(4)
    right, accuracy = info_nce(first, first)
    wrong, missed = info_nce(first, first.roll(1, 0))
    assert right < 0.01 < 5 < wrong
    assert (accuracy, missed) == (1, 0)
    first[0] = 0
    assert torch.isfinite(info_nce(first, torch.eye(4))[0])


def test_interrupted_fit_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count()
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))

    def train(folder: Path, stop: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 1)

        def loss(draw: Draw) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            x = torch.randn(8, 3, generator=draw.torch)
            if stop is not None and loss.calls == stop:  # type: ignore[attr-defined]
                raise KeyboardInterrupt
            loss.calls += 1  # type: ignore[attr-defined]
            return (module(x) - x.sum(1, keepdim=True)).square().mean(), {}

        loss.calls = 0  # type: ignore[attr-defined]
        run = RunFolder.open(folder, compose("pretrain"))
        settings = FitSettings(20, 8, 0.01, warmup_steps=2, checkpoint_every=4, log_every=1)
        fit("toy", module, loss, settings, run, seed=0)
        return module.weight.detach()

    expected = train(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", 10)
    RunFolder(tmp_path / "cut").log(50, {"part": "another"})
    torch.testing.assert_close(train(tmp_path / "cut", None), expected)
    lines = RunFolder(tmp_path / "cut").metrics()
    assert [line["step"] for line in lines if line["part"] == "toy"] == list(range(1, 21))
    assert [line["step"] for line in lines if line["part"] == "another"] == [50]
    seconds = [line["seconds"] for line in lines if line["part"] == "toy"]
    assert seconds == sorted(seconds), "the time before the stop counts too"


def test_latents_that_were_cut_short_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(content: object, path: Path) -> None:
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    shape = (1, 3, 2, 8, 8)
    frames = FrameGroups(
        np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), np.zeros(shape, np.float16), np.zeros((1, 2), int)
    )
    vae, path = build_autoencoder([8, 8], 4, 8, 4), tmp_path / "latents.pt"
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            encode_frames(vae, frames, path)
    made = encode_frames(vae, frames, path)
    assert made.shape == (1, 3, 2, 4, 4, 4)
    assert torch.equal(encode_frames(vae, frames, path), made)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
@pytest.mark.parametrize(
    "wrong",
    [
        *("recipe=gpu", "initial_weights=nowhere", "editor.fit.steps=many", "editor.fit.batch_size=0"),
        *("reader.fit.checkpoint_every=0", "editor.fit.learning_rate=-1", "frames.groups=0", "held_out.photos=0"),
        *("frames.image_size=128", "frames.image_size=98"),
    ],
)
def test_bad_input_removes_nothing(tmp_path: Path, wrong: str) -> None:
    run = RunFolder.open(tmp_path, compose("pretrain"))
    run.checkpoint("editor.pt").write_bytes(b"hours of work")
    with pytest.raises(BadInput):
        pretrain(compose("pretrain", [wrong]), tmp_path, overwrite=True)
    assert run.checkpoint("editor.pt").read_bytes() == b"hours of work"


def test_whole_pretraining_at_a_tiny_size(tmp_path: Path) -> None:
    out = tmp_path / "pretrain"
    summary = pretrain(compose("pretrain", TINY), out)
    assert set(summary) == {"autoencoder", "judge", "editor", "seconds"}
    assert json.loads((out / "summary.json").read_text()) == summary
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "weights" / "MODEL_CARD.md").read_text()
    assert "3 groups of 4 Push-T states" in card
    editor = load_editor(out / "weights" / "editor")
    assert editor.photos is not None
    edited = editor(np.zeros((2, 32, 32, 3), np.uint8))
    assert edited.shape == (2, 32, 32, 3)
    assert load_judge(out / "weights" / "judge").depth(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 32)


def test_training_goes_on_from_weights_and_keeps_a_part_of_no_steps(tmp_path: Path) -> None:
    pretrain(compose("pretrain", TINY), tmp_path / "first")
    kept = [f"{part}.fit.steps=0" for part in ("autoencoder", "decoder", "reader", "embedder")]
    again = [*TINY, *kept, f"initial_weights={tmp_path / 'first' / 'weights'}", "seed=1"]
    pretrain(compose("pretrain", again), tmp_path / "second")
    for part, same in (("editor/unet", False), ("editor/vae", True), ("judge", True)):
        files = [tmp_path / run / "weights" / part / WEIGHTS for run in ("first", "second")]
        assert (files[0].read_bytes() == files[1].read_bytes()) is same, part


def test_a_part_of_no_steps_needs_weights_to_keep(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"reader\.fit\.steps is 0: give initial_weights=FOLDER"):
        pretrain(compose("pretrain", [*TINY, "reader.fit.steps=0"]), tmp_path / "run")
