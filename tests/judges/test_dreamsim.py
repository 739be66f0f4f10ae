"""The DreamSim adapter. The package needs torchvision and is not installed where these tests run: what is tested is
the error without it, and what the adapter does around a stand-in that keeps the package's signatures. With the package
itself it was run by hand, see docs/full-size.md."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sim2real_aug.errors import BadInput, MissingExtra
from sim2real_aug.judges.dreamsim import load_dreamsim


class _StandIn(nn.Module):
    """Embeds (B, 3, 224, 224) as mean colours; refuses what DreamSim would."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def embed(self, img: Tensor) -> Tensor:
        assert img.shape[1:] == (3, 224, 224)
        assert 0 <= img.min() <= img.max() <= 1
        return self.scale * img.mean((2, 3))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `dreamsim.dreamsim` was called with."""
    called: dict[str, Any] = {}

    def dreamsim(pretrained: bool, device: str, cache_dir: str, dreamsim_type: str) -> tuple[nn.Module, None]:
        print("Downloading checkpoint")
        torch.hub.set_dir(cache_dir)  # as the package does where it takes code from there
        called.update(pretrained=pretrained, device=device, cache_dir=cache_dir, dreamsim_type=dreamsim_type)
        if "unreachable" in cache_dir:
            raise OSError("<urlopen error\nno route>")
        return _StandIn(), None

    module = ModuleType("dreamsim")
    module.dreamsim = dreamsim  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dreamsim", module)
    return called


@pytest.mark.parametrize("lacking", ["dreamsim", "torchvision"])
def test_without_the_extra(lacking: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dreamsim.py").write_text("import torchvision")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "dreamsim", raising=False)
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(MissingExtra) as error:
        load_dreamsim()
    assert str(error.value) == "the DreamSim judge needs an extra: pip install 'sim2real-aug[judges]'"


def test_an_unknown_kind() -> None:
    with pytest.raises(BadInput, match=r"unknown DreamSim 'dino_vitb6'\. Did you mean 'dino_vitb16'"):
        load_dreamsim("dino_vitb6")


def test_loads_what_is_asked_for_and_prints_nothing(
    package: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = load_dreamsim("dinov2_vitb14", cache=tmp_path / "weights", device="cpu")
    assert package == {
        "pretrained": True, "device": "cpu", "cache_dir": str(tmp_path / "weights"),
        "dreamsim_type": "dinov2_vitb14",
    }  # fmt: skip
    assert not capsys.readouterr().out
    assert not judge.model.scale.requires_grad


def test_weights_that_cannot_be_fetched(package: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"'ensemble' does not load from .*: <urlopen error no route>$"):
        load_dreamsim(cache=tmp_path / "unreachable", device="cpu")


def test_embeds_the_masked_image_at_224_pixels(package: dict[str, Any], tmp_path: Path) -> None:
    judge = load_dreamsim(cache=tmp_path / "weights", batch_size=2, device="cpu")
    images = torch.zeros(3, 3, 32, 32)
    images[:, 0, :, :16], images[:, 1, :, 16:] = 1, 1  # red on the left, green on the right
    masks = torch.zeros(3, 32, 32, dtype=torch.bool)
    masks[0, :, :16], masks[1, :, 16:] = True, True
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(judge.embed(images, masks), expected, atol=0.02, rtol=0)
