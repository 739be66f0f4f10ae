"""Fetching and loading checkpoints: folders, the hub (one of our own on this machine), the cache, and what fails."""

import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from transformers import CLIPModel, Dinov2Config, Dinov2Model

from sim2real_aug import hub
from sim2real_aug.errors import BadInput
from sim2real_aug.judges.checkpoints import fetch, in_batches, load_model, load_tokenizer
from sim2real_aug.judges.depth_anything import load_depth_anything
from sim2real_aug.judges.dinov2 import load_dinov2

NAME, COMMIT = "someone/dino", "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def refusal(pattern: str) -> Iterator[None]:
    """BadInput of one line that matches."""
    with pytest.raises(BadInput, match=pattern) as error:
        yield
    assert "\n" not in str(error.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a port at which nobody listens."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


class _Hub(http.server.BaseHTTPRequestHandler):
    """Answers every question about a repository as the hub does for one that is gated, or unknown."""

    def do_GET(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def refusing_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()


@pytest.mark.usefixtures("refusing_hub")
def test_a_name_that_the_hub_does_not_know() -> None:
    with refusal("someone/nothing is neither a folder nor, as ORG/MODEL, a model on the Hugging Face hub"):
        load_dinov2("someone/nothing")


@pytest.mark.usefixtures("refusing_hub")
def test_a_gated_model() -> None:
    with refusal(r"someone/gated is gated: accept its terms at https://huggingface.co/someone/gated, then"):
        load_dinov2("someone/gated")


@pytest.mark.usefixtures("no_network")
def test_no_network_and_nothing_in_the_cache() -> None:
    with refusal(
        "someone/dino is not in the cache and the Hugging Face hub cannot be reached; give the folder"
    ):
        load_dinov2(NAME)


class ProxyError(Exception):
    """As the HTTP library's own: neither an OSError nor a ValueError."""


@pytest.fixture
def broken_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network fails with an error of the HTTP library, before the cache is looked into."""
    download = hub.snapshot_download

    def broken(*names: str, local_files_only: bool = False, **options: Any) -> str:
        if not local_files_only:
            raise ProxyError("407 Proxy\nAuthentication Required")
        return download(*names, local_files_only=True, **options)

    monkeypatch.setattr(hub, "snapshot_download", broken)


@pytest.mark.usefixtures("broken_network")
def test_a_broken_network_and_nothing_in_the_cache() -> None:
    reason = r"cannot be reached \(ProxyError: 407 Proxy Authentication Required\); give the folder"
    with refusal(f"someone/dino is not in the cache and the Hugging Face hub {reason}"):
        fetch(NAME)


def fill(cache: Path, checkpoints: Path) -> Path:
    """The repository NAME as huggingface_hub keeps it."""
    repository = cache / "models--someone--dino"
    shutil.copytree(checkpoints / "dinov2", repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return repository


@pytest.mark.parametrize("network", ["no_network", "broken_network"])
def test_a_download_that_was_interrupted(
    network: str, cache: Path, checkpoints: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    request.getfixturevalue(network)
    repository = fill(cache, checkpoints)
    (repository / "snapshots" / COMMIT / "model.safetensors").unlink()
    (repository / "blobs").mkdir()
    (repository / "blobs" / "0123.incomplete").write_bytes(b"half")
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        load_dinov2(NAME)
    message = f"the download of {NAME} was interrupted; run once with a network"
    assert message in capsys.readouterr().err
    (repository / "snapshots" / COMMIT / "later.json").write_text("{}")
    fetch(NAME)
    assert message not in capsys.readouterr().err, "something was fetched since"


@pytest.mark.parametrize("network", ["no_network", "broken_network"])
def test_no_network_and_what_the_cache_holds(
    network: str, cache: Path, checkpoints: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(network)
    repository = fill(cache, checkpoints)
    assert fetch(NAME) == repository / "snapshots" / COMMIT
    images, masks = torch.rand(1, 3, 56, 56), torch.ones(1, 56, 56, dtype=torch.bool)
    embedded = load_dinov2(NAME).embed(images, masks)
    torch.testing.assert_close(embedded, load_dinov2(checkpoints / "dinov2").embed(images, masks))


@pytest.mark.parametrize("name", ["nowhere", "/no/folder", "./dino", "~/dino", "a/b/c", "a b/c"])
def test_what_can_be_neither_a_folder_nor_a_name(name: str, no_network: None) -> None:
    with refusal("is neither a folder nor, as ORG/MODEL"):
        fetch(name)


def test_a_checkpoint_of_another_class(checkpoints: Path) -> None:
    with refusal("clip is a checkpoint of 'clip'; Dinov2Model takes dinov2"):
        load_dinov2(checkpoints / "clip")
    with refusal("dinov2 is a checkpoint of 'dinov2'; DepthAnythingForDepthEstimation takes depth_anything"):
        load_depth_anything(checkpoints / "dinov2")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    with refusal(r"is not a checkpoint: it has no config\.json"):
        load_dinov2(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with refusal(r"config\.json is not JSON"):
        load_dinov2(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with refusal(r"config\.json holds no settings"):
        load_dinov2(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with refusal("does not load: .*model.safetensors"):
        load_dinov2(tmp_path)


def test_weights_that_are_cut_off_or_of_another_size(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dino"
    shutil.copytree(checkpoints / "dinov2", folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with refusal("does not load: "):
        load_dinov2(folder)
    (folder / "model.safetensors").write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 12}))
    with refusal("does not load: "):
        load_dinov2(folder)


def test_weights_that_are_not_there_are_not_made_up(checkpoints: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    CLIPModel.from_pretrained(checkpoints / "clip").save_pretrained(folder)
    config = Dinov2Config(
        image_size=56, patch_size=14, hidden_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    config.save_pretrained(folder)
    with refusal(r"clip lacks \d+ weights of Dinov2Model, such as "):
        load_model(Dinov2Model, folder, ("dinov2",))


def test_a_network_is_frozen_and_in_float32(checkpoints: Path, tmp_path: Path) -> None:
    Dinov2Model.from_pretrained(checkpoints / "dinov2").half().save_pretrained(tmp_path)
    model = load_model(Dinov2Model, tmp_path, ("dinov2",))
    assert {(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()} == {
        (torch.float32, False)
    }
    assert not model.training


def test_a_folder_without_a_tokenizer(checkpoints: Path) -> None:
    assert load_tokenizer(checkpoints / "grounding_dino")("the block.")["input_ids"] == [
        101,
        200,
        201,
        1012,
        102,
    ]
    with refusal("dinov2 does not load: "):
        load_tokenizer(checkpoints / "dinov2")


def test_batches_are_put_together_in_order() -> None:
    sizes = []

    def double(part: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        return 2 * part + more

    numbers = torch.arange(5)
    assert in_batches(double, 2, numbers, numbers).tolist() == [0, 3, 6, 9, 12]
    assert sizes == [2, 2, 1]
