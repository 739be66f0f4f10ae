"""Pushing to the hub: refused at the door, done after training; the hub is a stand-in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalTokenNotFoundError

from sim2real_aug import hub
from sim2real_aug.cli.app import run
from sim2real_aug.d3po import trainer
from sim2real_aug.editor import load_editor
from sim2real_aug.errors import BadInput, Fault

from .tiny_editor import build_editor

USER = {"name": "ada", "orgs": [{"name": "lab"}]}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Logged in as ada of lab; what is created and uploaded."""
    seen: list[tuple[Any, ...]] = []

    class Api:
        def whoami(self) -> dict[str, Any]:
            return USER

        def create_repo(self, name: str, **options: Any) -> str:
            seen.append(("create", name, options))
            return f"https://hub/{name}"

        def upload_folder(self, repo_id: str, folder_path: Any) -> None:
            seen.append(("upload", repo_id, str(folder_path)))

    monkeypatch.setattr(hub, "HfApi", Api)
    return seen


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A training that takes no time."""
    runs: list[Path] = []

    def train(*_: Any, out: Path, **__: Any) -> dict[str, Any]:
        runs.append(out)
        return {"editor": str(out / "editor")}

    monkeypatch.setattr(trainer, "train_editor", train)
    return runs


def test_pushed_after_training_and_private(
    calls: list[tuple[Any, ...]], trained: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train-editor", "--out", "r", "--push-to-hub", "lab/bench"]) == 0
    assert calls == [
        ("create", "lab/bench", {"private": True, "exist_ok": True}),
        ("upload", "lab/bench", "r/editor"),
    ]
    assert "https://hub/lab/bench" in capsys.readouterr().out


def test_not_pushed_unless_asked(calls: list[tuple[Any, ...]], trained: list[Path]) -> None:
    assert run(["train-editor", "--out", "r"]) == 0
    assert (calls, trained) == ([], [Path("r")])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("bench", None, "as ORG/NAME; got 'bench'"),
        ("lab/be nch", None, "cannot be a name on the Hugging Face hub"),
        ("else/bench", None, "is not yours to push to: the login is of ada, lab"),
        ("lab/bench", LocalTokenNotFoundError("no token"), "log in .* first: 'hf auth login'"),
        ("lab/bench", ConnectionError("no route"), "the hub is not reached: no route"),
    ],
)
def test_what_cannot_be_pushed_is_said_in_one_line_before_training(
    calls: list[tuple[Any, ...]],
    trained: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    error: Exception | None,
    message: str,
) -> None:
    def whoami(self: Any) -> dict[str, Any]:
        if error is not None:
            raise error
        return USER

    monkeypatch.setattr(hub.HfApi, "whoami", whoami)
    assert run(["train-editor", "--push-to-hub", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert trained == []
    with pytest.raises(BadInput, match=message):
        hub.require_own(name)


def test_a_failed_upload_is_a_fault_that_says_what_to_do(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, **_: Any) -> None:
        raise OSError("the line\nbroke")

    monkeypatch.setattr(hub.HfApi, "upload_folder", refuse)
    with pytest.raises(Fault, match=r"^r/editor is whole but was not pushed to lab/bench: the line broke; the same"):
        hub.push("r/editor", "lab/bench")


def test_an_editor_comes_from_the_hub_with_its_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the cache: what diffusers' own call leaves on the hub is there too."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    commit, repository = "0123456789abcdef0123456789abcdef01234567", tmp_path / "models--lab--bench"
    editor = build_editor()
    editor.photos = np.full((2, 16, 16, 3), 7, np.uint8)
    editor.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    np.testing.assert_array_equal(load_editor("lab/bench").photos, editor.photos)


def test_a_login_that_may_only_read_is_refused_before_training(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(USER, "auth", {"accessToken": {"role": "read"}})
    with pytest.raises(BadInput, match="lab/bench cannot be pushed to, the login may only read"):
        hub.require_own("lab/bench")
