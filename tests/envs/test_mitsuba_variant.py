"""Which LLVM library is taken: the newest that works, or none."""

from pathlib import Path

import pytest

from sim2real_aug.envs import mitsuba_variant
from sim2real_aug.envs.mitsuba_variant import PATH_VARIABLE, Llvm, find_llvm
from sim2real_aug.envs.rendering import scene_records


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the given files the only LLVM libraries of this machine; returns their folder."""

    def place(*names: str) -> Path:
        for name in names:
            (tmp_path / name).touch()
        monkeypatch.delenv(PATH_VARIABLE, raising=False)
        monkeypatch.setattr(mitsuba_variant, "_candidates", lambda: iter(sorted(tmp_path.iterdir())))
        return tmp_path

    return place


def test_the_newest_is_taken(libraries):
    folder = libraries("libLLVM-14.so.1", "libLLVM-17.so.1", "libLLVM.so.19.1")
    assert find_llvm() == Llvm(str(folder / "libLLVM.so.19.1"), 19)


def test_one_that_would_end_the_process_is_none(libraries):
    libraries("libLLVM-14.so.1", "libLLVM-16.so.1")
    assert find_llvm() is None


def test_the_environment_goes_before_what_is_found(libraries, monkeypatch: pytest.MonkeyPatch):
    folder = libraries("libLLVM.so.19.1", "libLLVM.so.18.1")
    monkeypatch.setenv(PATH_VARIABLE, str(folder / "libLLVM.so.18.1"))
    assert find_llvm() == Llvm(str(folder / "libLLVM.so.18.1"), 18)
    monkeypatch.setenv(PATH_VARIABLE, str(folder / "nowhere.so"))
    assert find_llvm() is None


def test_what_is_drawn_records_the_variant(libraries):
    folder = libraries("libLLVM.so.19.1")
    fast = scene_records(["flat", "pathtraced/oak"])["oak"]
    (folder / "libLLVM.so.19.1").unlink()
    slow = scene_records(["pathtraced/oak"])["oak"]
    assert {key for key in fast if fast[key] != slow[key]} == {"variant"}
    assert (fast["variant"], slow["variant"]) == ("llvm_ad_rgb", "scalar_rgb")
