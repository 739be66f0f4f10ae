"""The judges that other packages bring, with these packages themselves and random weights of the published sizes.

Skipped where they, or the torchvision that they need, are not installed: pip install 'sim2real-aug[judges]'.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sim2real_aug.config import compose
from sim2real_aug.envs import make_renderer
from sim2real_aug.judges.dreamsim import load_dreamsim
from sim2real_aug.judges.sam2_package import load_grounded_sam_of_package
from sim2real_aug.pixels import to_frames, to_images

HIERA = "configs/sam2.1/sam2.1_hiera_t.yaml"


def package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"needs the extra [judges]: {error}")


def images() -> torch.Tensor:
    """(2, 3, 96, 96), of values that 8 bits hold. Of noise PIL makes another picture: it cuts overshoot off twice."""
    renderer = make_renderer("randomized/8")
    return to_images(np.stack([renderer.image([90, 400, 256, 220, angle], 96) for angle in (0.5, 2.0)]))


@pytest.mark.slow
def test_sam2_outlines_what_its_own_predictor_outlines(checkpoints: Path, tmp_path: Path) -> None:
    build, predictor = package("sam2.build_sam"), package("sam2.sam2_image_predictor")
    torch.manual_seed(0)
    torch.save({"model": build.build_sam2(HIERA, None, device="cpu").state_dict()}, tmp_path / "sam2.pt")
    judge = load_grounded_sam_of_package(checkpoints / "grounding_dino", tmp_path / "sam2.pt", config=HIERA)
    boxes = [torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.5, 0.1, 0.9, 0.4]]), torch.tensor([[0.3, 0.3, 0.7, 0.8]])]
    outlined = judge.outlines(images(), boxes).numpy()
    own = predictor.SAM2ImagePredictor(judge.predictor.model)
    for frame, found, masks in zip(to_frames(images()), boxes, outlined, strict=True):
        own.set_image(frame)
        corners = (found * 96).numpy()
        each = [own.predict(box=box, multimask_output=False)[0][0] > 0 for box in corners]
        assert np.array_equal(masks, np.logical_or.reduce(each))
    assert compose("augment").batch_size  # the package has begun hydra for itself


@pytest.mark.slow
def test_dreamsim_embeds_as_with_its_own_preprocessing(tmp_path: Path) -> None:
    dreamsim, model = package("dreamsim"), package("dreamsim.model")
    vision = package("dreamsim.feature_extraction.vision_transformer").vit_base(patch_size=16)
    weights = {f"module.visual.{name}": value for name, value in vision.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "synclr_vit_b_16.pth")
    kind = {"model_type": "synclr_vitb16", "feat_type": "cls", "stride": "16"}
    base = model.PerceptualModel(**kind, lora=True, load_dir=str(tmp_path), normalize_embeds=True, device="cpu")
    adapter = model.LoraConfig(r=4, lora_alpha=0.5, bias="none", target_modules=["qkv"], init_lora_weights=False)
    model.get_peft_model(base, adapter).save_pretrained(tmp_path / "synclr_vitb16_single_lora")
    judge = load_dreamsim("synclr_vitb16", cache=tmp_path, device="cpu")
    options = {"device": "cpu", "cache_dir": str(tmp_path), "dreamsim_type": "synclr_vitb16"}
    theirs, preprocess = dreamsim.dreamsim(pretrained=True, **options)
    seen = torch.cat([preprocess(Image.fromarray(frame)) for frame in to_frames(images())])
    expected = torch.nn.functional.normalize(theirs.embed(seen), dim=1)
    whole = torch.ones(2, 96, 96, dtype=torch.bool)
    torch.testing.assert_close(judge.embed(images(), whole), expected, atol=1e-4, rtol=0)
