"""`benchmark=roads` as it ships, but for tiny checkpoints in place of the published ones; without DreamSim."""

import json
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from sim2real_aug.benchmark.run import run_benchmark
from sim2real_aug.config import compose

from ..judges import tiny
from ..judges.test_hps import in_open_clip
from ..judges.test_image_reward import MED, random_weights
from ..judges.tiny_words import save_bert_words, save_clip_with_words

COLUMNS = {"Depth_out", "Depth_all", "L2_out", "STY_in", "CLIP_txt", "HPSv2", "ImageReward", "PickScore"}


def save_judges(folder: Path) -> None:
    for name in ("depth_anything", "grounding_dino", "sam2", "dinov2", "clip"):
        getattr(tiny, f"save_{name}")(folder / name)
    clip = save_clip_with_words(folder / "clip_text")
    torch.save({"state_dict": in_open_clip(clip)}, folder / "HPS_v2_compressed.pt")
    torch.save(random_weights(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(MED))
    save_bert_words(folder / "bert")


def replace_judges(config: DictConfig, folder: Path) -> None:
    words = str(folder / "clip_text")
    config.segmentation.update(detector=str(folder / "grounding_dino"), segmenter=str(folder / "sam2"), threshold=0.0)
    config.measures.preservation.depth.name = str(folder / "depth_anything")
    config.measures.style.encoders.clip.name = str(folder / "clip")
    config.measures.style.encoders.dino.name = str(folder / "dinov2")
    config.measures.clip_txt.scorer.name = words
    config.measures.hps.scorer.update(name=str(folder), architecture=words)
    config.measures.image_reward.scorer.update(name=str(folder), tokenizer=str(folder / "bert"))
    config.measures.pick_score.scorer.update(name=words, processor=words)


def replace_editors(config: DictConfig, folder: Path) -> None:
    plain = str(folder / "instruct-pix2pix")
    config.rows.nti_p2p.update(path=str(folder / "stable-diffusion"), num_inference_steps=2, inner_steps=1)
    for row, path in (("instruct_pix2pix", plain), ("magicbrush", str(folder / "magicbrush")), ("hive", plain)):
        config.rows[row].update(path=path, num_inference_steps=1)
    config.rows.ours.path = {name: str(folder / "ours") for name in config.edits}


def test_every_row_and_measure_of_roads(checkpoints: Path, images: Path, photos: Path, tmp_path: Path) -> None:
    config = compose(
        "benchmark", ["benchmark=roads", "images=2", "image_size=32", "device=cpu", "~measures.style.encoders.dreamsim"]
    )
    OmegaConf.set_struct(config, False)  # what a user adds with +key=value
    save_judges(tmp_path)
    replace_judges(config, tmp_path)
    config.edits = {name: config.edits[name] for name in ("snow", "mud")}
    replace_editors(config, checkpoints)
    config.sweep.image_guidance_scales = [1.4]
    assert run_benchmark(config, images, photos, tmp_path / "run")["failures"] == {}
    found = {
        line["name"]: line["figures"]
        for line in json.loads((tmp_path / "run" / "table.json").read_text())
        if line["edit"] == "all"
    }
    assert set(found) == {*config.rows, *(f"{row}, s_I 1.4" for row in config.sweep.rows)}
    assert {frozenset(figures) for figures in found.values()} == {frozenset(COLUMNS)}
    for figures in found.values():
        assert all(figures[column] is not None for column in COLUMNS - {"Depth_out", "L2_out"})
