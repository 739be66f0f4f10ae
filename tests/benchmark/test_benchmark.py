"""`sim2real-aug benchmark` end to end, on tiny checkpoints of every kind of editor."""

import csv
import json
import shutil
import weakref
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

from sim2real_aug.benchmark.material import read_material
from sim2real_aug.benchmark.rows import ColorTransfer
from sim2real_aug.benchmark.run import run_benchmark
from sim2real_aug.benchmark.samples import Edit, content_hash, open_sources, read_tasks
from sim2real_aug.cli.app import run as command_line
from sim2real_aug.config import compose
from sim2real_aug.data import ReplayBufferWriter
from sim2real_aug.data.photos import to_square
from sim2real_aug.editor.editor import Editor
from sim2real_aug.editor.null_text import NullTextEditor
from sim2real_aug.errors import BadInput

from ..single_file import write_single_file
from ..tiny_editor import build_editor
from ..tiny_pix2pix import instruct_pix2pix

COUNT = 3
TRANSFER = "sim2real_aug.benchmark.rows.ColorTransfer"
ANSWER = "sim2real_aug.benchmark.measures.TextAnswer"
PIX2PIX = "sim2real_aug.benchmark.rows.InstructPix2Pix"


def config(rows: dict[str, Any], *overrides: str) -> DictConfig:
    """The command's configuration, the whole image to edit, with other rows."""
    composed = compose("benchmark", ["edits.realistic.region=null", "device=cpu", *overrides])
    composed.rows = OmegaConf.create(rows)
    return composed


def transfers(*names: str) -> dict[str, Any]:
    return {name: {"_target_": TRANSFER, "name": name} for name in names}


def table(out: Path) -> dict[str, dict[str, Any]]:
    """The lines over all edits, by editor."""
    return {
        line["name"]: line["figures"]
        for line in json.loads((out / "table.json").read_text())
        if line["edit"] == "all"
    }


def modified(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def five_editors(folder: Path) -> dict[str, Any]:
    brief = {"_target_": PIX2PIX, "num_inference_steps": 2}
    inversion = "sim2real_aug.benchmark.rows.NullTextInversion"
    return {
        "NTI-P2P": {
            "_target_": inversion, "path": str(folder / "stable-diffusion"), "num_inference_steps": 2, "inner_steps": 1,
        },
        "InstructPix2Pix": {**brief, "path": str(folder / "instruct-pix2pix")},
        "MagicBrush": {**brief, "path": str(folder / "magicbrush")},
        "HIVE": {**brief, "path": str(folder / "instruct-pix2pix"), "suffix": ", image quality is five out of five"},
        "ours": {"_target_": "sim2real_aug.benchmark.rows.Specialist", "path": str(folder / "ours")},
    }  # fmt: skip


def test_all_five_editors_of_the_paper(checkpoints: Path, images: Path, photos: Path, tmp_path: Path):
    rows, out = five_editors(checkpoints), tmp_path / "run"
    asked = config(rows, "sweep.rows=[ours,InstructPix2Pix]", "sweep.image_guidance_scales=[1.2,1.8]")
    scorer = {"_target_": "sim2real_aug.judges.clip_text.load_clip_text", "name": str(checkpoints / "clip")}
    asked.measures = {**asked.measures, "text": {"_target_": ANSWER, "name": "CLIP_txt", "scorer": scorer}}
    summary = run_benchmark(asked, images, photos, out)
    assert summary["failures"] == {}
    found = table(out)
    assert set(rows) | {"ours, s_I 1.2", "ours, s_I 1.8"} <= set(found)
    for row in rows:
        assert set(found[row]) == {"Depth_out", "Depth_all", "L2_out", "STY_in", "CLIP_txt"}
        assert found[row]["L2_out"] is None, "the region is the whole image: nothing is outside"
        assert found[row]["Depth_all"]["value"] > 0
    assert found["MagicBrush"] == found["InstructPix2Pix"], "the same weights under another class's name"
    assert (out / "trade-off.png").is_file()
    lines = list(csv.DictReader((out / "table.csv").open()))
    assert {line["editor"] for line in lines} == set(found)


def test_a_single_file_is_the_folder_that_it_was_made_of(
    checkpoints: Path, images: Path, photos: Path, tmp_path: Path
):
    file, folder = tmp_path / "hive.safetensors", str(checkpoints / "instruct-pix2pix")
    write_single_file(instruct_pix2pix(), file)
    weights = load_file(file)
    torch.save({"state_dict": weights, "global_step": 3}, tmp_path / "hive.ckpt")
    for part in ("model.diffusion_model.out.2.bias", "cond_stage_model.transformer.text_model.final_layer_norm.bias"):
        save_file({name: each for name, each in weights.items() if name != part}, tmp_path / f"{part[:4]}.safetensors")
    files = ("hive.safetensors", "hive.ckpt", "mode.safetensors", "cond.safetensors")
    places = {"folder": folder, **{name: str(tmp_path / name) for name in files}}
    brief = {"_target_": PIX2PIX, "num_inference_steps": 2, "architecture": folder}
    rows = {name: {**brief, "path": path} for name, path in places.items()}
    out = tmp_path / "run"
    failures = run_benchmark(config(rows, "images=1"), images, photos, out)["failures"]
    assert table(out)["folder"] == table(out)["hive.safetensors"] == table(out)["hive.ckpt"]
    assert set(failures) == {"row mode.safetensors", "row cond.safetensors"}
    for reason in failures.values():
        assert f"lacks weights of the networks that {folder} describes" in reason


def test_a_row_that_fails_is_named_and_the_others_stand(images: Path, photos: Path, tmp_path: Path):
    rows = {**transfers("reinhard"), "lost": {"_target_": PIX2PIX, "path": str(tmp_path / "nowhere")}}
    summary = run_benchmark(config(rows), images, photos, tmp_path / "run")
    assert set(summary["failures"]) == {"row lost"}
    assert "neither a folder nor" in summary["failures"]["row lost"]
    assert set(table(tmp_path / "run")) == {"reinhard"}


def test_a_scale_that_fails_leaves_the_row_as_it_is(images: Path, photos: Path, tmp_path: Path):
    asked = config(transfers("reinhard"), "sweep.rows=[reinhard]", "sweep.image_guidance_scales=[1.2]")
    summary = run_benchmark(asked, images, photos, tmp_path / "run")
    assert set(summary["failures"]) == {"row reinhard, s_I 1.2"}
    assert set(table(tmp_path / "run")) == {"reinhard"}


def test_memory_that_ends_is_a_failure_with_the_batch_size_to_try(
    images: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def ends(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    rows = {**transfers("reinhard"), "large": {"_target_": PIX2PIX, "path": "none"}}
    monkeypatch.setattr("sim2real_aug.benchmark.rows.InstructPix2Pix.__init__", lambda row, *_, **__: None)
    monkeypatch.setattr("sim2real_aug.benchmark.rows.InstructPix2Pix.__call__", ends)
    monkeypatch.setattr("sim2real_aug.benchmark.rows.InstructPix2Pix.identity", "x", raising=False)
    monkeypatch.setattr("sim2real_aug.benchmark.rows.InstructPix2Pix.batch_size", 4, raising=False)
    monkeypatch.setattr("sim2real_aug.benchmark.measures.Style.__call__", ends)
    failures = run_benchmark(config(rows), images, photos, tmp_path / "run")["failures"]
    assert "ran out with rows.large.batch_size=4; try ++rows.large.batch_size=2 " in failures["row large"]
    assert "ran out with batch_size=16; try batch_size=8 " in failures["measure style"]
    assert set(failures) == {"row large", "measure style"}
    advice = failures["row large"].split("try ")[1].split()[0]
    for benchmark, row in (("push_t", "base"), ("roads", "instruct_pix2pix")):
        advised = compose("benchmark", [f"benchmark={benchmark}", advice.replace("large", row)])
        assert advised.rows[row].batch_size == 2


def test_a_segmentation_that_does_not_load_fails_what_needs_regions(
    checkpoints: Path, images: Path, photos: Path, tmp_path: Path
):
    asked = config(transfers("reinhard"), "edits.realistic.region=table")
    asked.segmentation = {"_target_": "sim2real_aug.judges.load_judge", "path": str(tmp_path / "none")}
    scorer = {"_target_": "sim2real_aug.judges.clip_text.load_clip_text", "name": str(checkpoints / "clip")}
    asked.measures = {**asked.measures, "text": {"_target_": ANSWER, "name": "CLIP_txt", "scorer": scorer}}
    summary = run_benchmark(asked, images, photos, tmp_path / "run")
    assert set(summary["failures"]) == {"segmentation", "measure preservation", "measure style"}
    assert "'table' cannot be found: the segmentation failed" in summary["failures"]["measure style"]
    assert set(table(tmp_path / "run")["reinhard"]) == {"CLIP_txt"}


def test_a_row_may_have_an_editor_for_each_edit(checkpoints: Path, images: Path, photos: Path, tmp_path: Path):
    build_editor(seed=1).save_pretrained(tmp_path / "other")
    shutil.copytree(photos, photos / "second")
    rows = {"ours": {"_target_": "sim2real_aug.benchmark.rows.Specialist", "path": str(checkpoints / "ours")}}
    second = "+edits.second={instruction: a, source_caption: a, target_caption: a}"
    place = {"realistic": str(checkpoints / "ours"), "second": str(tmp_path / "other")}
    figures = {}
    for name, path in (("one", place["realistic"]), ("each", place)):
        asked = config(rows, second)
        asked.rows.ours.path = path
        run_benchmark(asked, images, photos, tmp_path / name)
        lines = json.loads((tmp_path / name / "table.json").read_text())
        figures[name] = {line["edit"]: line["figures"]["STY_in"]["value"] for line in lines}
    assert figures["one"]["realistic"] == figures["each"]["realistic"]
    assert figures["one"]["second"] != figures["each"]["second"]
    asked.rows.ours.path = {"realistic": place["realistic"]}
    with pytest.raises(BadInput, match="row ours: path gives no editor for second; it has realistic"):
        run_benchmark(asked, images, photos, tmp_path / "lacking")


class Lone(ColorTransfer):
    """A row that fails to load beside another."""

    alive: ClassVar[weakref.WeakSet["Lone"]] = weakref.WeakSet()

    def __init__(self, path: str, device: str) -> None:
        assert not self.alive, "another editor is in memory"
        super().__init__(path, device=device)
        self.alive.add(self)


def test_the_editor_of_one_edit_is_gone_before_that_of_the_next_loads(images: Path, photos: Path, tmp_path: Path):
    row = {"_target_": f"{__name__}.Lone", "path": {"realistic": "reinhard", "second": "histogram"}}
    asked = config({"own": row}, "+edits.second={instruction: a, source_caption: a, target_caption: a}")
    assert run_benchmark(asked, images, photos, tmp_path / "run")["failures"] == {}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_networks_run_in_the_precision_that_is_asked_for(
    precision: str, checkpoints: Path, images: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    entered: dict[str, set[bool]] = {"predict": set(), "fit_null_texts": set(), "sample": set()}
    for kind, name in ((Editor, "predict"), (NullTextEditor, "fit_null_texts"), (NullTextEditor, "sample")):

        def recorded(*words: Any, own: Any, name: str) -> Any:
            entered[name].add(torch.is_autocast_enabled("cpu"))
            return own(*words)

        monkeypatch.setattr(kind, name, partialmethod(recorded, own=getattr(kind, name), name=name))
    rows = {row: node for row, node in five_editors(checkpoints).items() if row in ("NTI-P2P", "ours")}
    asked = config(rows, "images=1", f"precision={precision}")
    assert run_benchmark(asked, images, photos, tmp_path / "run")["failures"] == {}
    half = precision == "bf16"
    assert entered == {"predict": {half}, "fit_null_texts": {False}, "sample": {half}}


def test_edits_of_another_precision_are_others(checkpoints: Path, images: Path, photos: Path, tmp_path: Path):
    rows = {"ours": five_editors(checkpoints)["ours"]}
    for precision in ("fp32", "bf16", "fp32"):
        run_benchmark(config(rows, "images=1", f"precision={precision}"), images, photos, tmp_path / "run")
    assert len(list((tmp_path / "run" / "cache" / "images").iterdir())) == 2


def test_photos_are_those_of_the_edits_name_where_there_are(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / "own.png")
    for folder in (photos / "snow", tmp_path / "elsewhere"):
        folder.mkdir()
        shutil.copy(tmp_path / "own.png", folder)
    edit = Edit("a", "b", "c")
    edits = {"sand": edit, "snow": edit, "mud": edit, "ice": replace(edit, photos=str(tmp_path / "elsewhere"))}
    tasks = {task.name: task.photos.names for task in read_tasks(edits, photos, 8)}
    assert tasks["snow"] == tasks["ice"] == ("own.png",)
    assert tasks["sand"] == tasks["mud"] == ("dark.jpg", "light.jpg")
    said = capsys.readouterr().err
    assert f"sand, mud take after the same photos, {photos}; " in said
    assert "ice" not in said


def test_photos_have_the_shape_of_the_images(images: Path, tmp_path: Path):
    wide = np.random.default_rng(2).integers(0, 256, (40, 60, 3), np.uint8)  # as wide for its height as the images
    (tmp_path / "wide").mkdir()
    Image.fromarray(wide).save(tmp_path / "wide" / "bench.png")
    material = read_material(config({}), images, tmp_path / "wide", tmp_path / "cache")
    np.testing.assert_array_equal(material.samples[0].task.photos.images[0], to_square(wide, 32, ratio=60 / 40))


def test_nothing_is_made_twice_and_a_new_row_only_adds(images: Path, photos: Path, tmp_path: Path):
    out = tmp_path / "run"
    run_benchmark(config(transfers("reinhard")), images, photos, out)
    before, figures = modified(out / "cache" / "images"), modified(out / "cache" / "scores")
    first = table(out)["reinhard"]
    run_benchmark(config(transfers("reinhard")), images, photos, out)
    assert modified(out / "cache" / "images") == before
    assert modified(out / "cache" / "scores") == figures
    run_benchmark(config(transfers("histogram", "reinhard")), images, photos, out)
    after = modified(out / "cache" / "images")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + COUNT
    assert table(out)["reinhard"] == first


def test_a_column_is_of_one_measure_and_goes_by_its_name(
    checkpoints: Path, images: Path, photos: Path, tmp_path: Path
):
    asked = config(transfers("reinhard"), "+measures.style.name=STY_compact")
    scorer = {"_target_": "sim2real_aug.judges.clip_text.load_clip_text", "name": str(checkpoints / "clip")}
    text = {"_target_": ANSWER, "name": "STY_compact", "scorer": scorer}
    asked.measures = {"style": asked.measures.style, "text": text}
    summary = run_benchmark(asked, images, photos, tmp_path / "run")
    assert set(summary["failures"]) == {"measure text"}
    assert "another measure gives STY_compact too" in summary["failures"]["measure text"]
    style = table(tmp_path / "run")["reinhard"]
    assert set(style) == {"STY_compact"}
    asked.measures.text.name = "CLIP_txt"
    assert run_benchmark(asked, images, photos, tmp_path / "run")["failures"] == {}
    both = table(tmp_path / "run")["reinhard"]
    assert set(both) == {"STY_compact", "CLIP_txt"}
    assert both["STY_compact"] == style["STY_compact"]


@pytest.mark.parametrize("changed", ["VERSION", "REVISION"])
def test_what_other_code_made_is_made_anew(
    changed: str, images: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "run"
    run_benchmark(config(transfers("reinhard")), images, photos, out)
    before = [set(modified(out / "cache" / kind)) for kind in ("images", "scores")]
    monkeypatch.setattr(f"sim2real_aug.benchmark.cache.{changed}", "another")
    run_benchmark(config(transfers("reinhard")), images, photos, out)
    after = [set(modified(out / "cache" / kind)) for kind in ("images", "scores")]
    assert [len(names) for names in after] == [2 * len(names) for names in before]


def test_figures_cut_short_by_a_crash_are_measured_again(images: Path, photos: Path, tmp_path: Path):
    out = tmp_path / "run"
    run_benchmark(config(transfers("reinhard")), images, photos, out)
    expected = table(out)
    for file in (out / "cache" / "scores").iterdir():
        file.write_text(file.read_text()[:-20])
    for run in ("that measures them again", "that reads them"):
        assert run_benchmark(config(transfers("reinhard")), images, photos, out)["failures"] == {}, run
        assert table(out) == expected, run


def test_a_store_of_frames_as_a_user_types_it(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
):
    with ReplayBufferWriter.create(tmp_path / "sim.zarr") as writer:
        frames = np.random.default_rng(1).integers(0, 256, (6, 96, 96, 3), np.uint8)
        writer.append_episode(
            {"img": frames, "state": np.ones((6, 5), np.float32), "action": np.ones((6, 2), np.float32)}
        )
    words = ["benchmark", str(tmp_path / "sim.zarr"), "--photos", str(photos), "--out", str(tmp_path / "run")]
    assert command_line([*words, "images=2", "edits.realistic.region=null", "device=cpu"]) == 0
    shown = capsys.readouterr().out
    assert "| editor | Depth_out ↓ | Depth_all ↓ | L2_out ↓ | STY_in ↑ |" in shown
    assert {line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")} >= {
        "base",
        "reinhard",
        "histogram",
    }


def test_large_images_are_shrunk_at_their_own_ratio(images: Path):
    sources = open_sources(images, count=2, shorter=16)
    assert len(sources) == 2
    assert sources.load(0).shape == (16, 24, 3)


def test_images_of_the_same_bytes_in_another_shape_are_others():
    flat = np.zeros((2, 8, 3), np.uint8)
    assert content_hash(flat) != content_hash(flat.reshape(4, 4, 3))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bayer=gbgr"], "unknown bayer pattern 'gbgr'. Did you mean 'gbrg'"),
        (["images=0"], "images must be at least 1"),
        (["sweep.rows=[reinhart]"], "unknown row in sweep.rows 'reinhart'. Did you mean 'reinhard'"),
    ],
)
def test_mistakes_are_one_line(
    overrides: list[str], message: str, images: Path, photos: Path, tmp_path: Path
):
    with pytest.raises(BadInput, match=message):
        run_benchmark(config(transfers("reinhard"), *overrides), images, photos, tmp_path / "run")


def test_an_empty_folder_and_missing_photos_are_refused(images: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds neither a store nor images"):
        run_benchmark(config(transfers("reinhard")), tmp_path / "empty", None, tmp_path / "run")
    with pytest.raises(BadInput, match="'realistic' has no photos: give --photos"):
        run_benchmark(config(transfers("reinhard")), images, None, tmp_path / "run")
