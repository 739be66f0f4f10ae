"""Run folders: what is taken up, what is refused, what is removed."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sim2real_aug.errors import BadInput
from sim2real_aug.runs import RunFolder

CONFIG = OmegaConf.create({"seed": 0, "policy": {"steps": 3}})


def test_the_same_configuration_takes_a_run_up(tmp_path: Path):
    run = RunFolder.open(tmp_path / "run", CONFIG)
    run.log(1, {"loss": 0.5})
    assert RunFolder.open(tmp_path / "run", CONFIG).metrics() == [{"step": 1, "loss": 0.5}]


def test_another_configuration_is_refused_by_the_names_of_its_keys(tmp_path: Path):
    RunFolder.open(tmp_path / "run", CONFIG)
    with pytest.raises(BadInput, match=r"another policy\.steps;"):
        RunFolder.open(tmp_path / "run", OmegaConf.create({"seed": 0, "policy": {"steps": 4}}))


def test_what_is_free_may_differ(tmp_path: Path):
    RunFolder.open(tmp_path / "run", CONFIG)
    other = OmegaConf.create({"seed": 0, "policy": {"steps": 4}})
    RunFolder.open(tmp_path / "run", other, free=("policy.steps",))
    with pytest.raises(BadInput, match=r"another seed;"):
        RunFolder.open(tmp_path / "run", OmegaConf.merge(other, {"seed": 1}), free=("policy.steps",))


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path, overwrite: bool):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="is not a run folder"):
        RunFolder.open(tmp_path, CONFIG, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_overwrite_starts_a_run_again(tmp_path: Path):
    RunFolder.open(tmp_path / "run", CONFIG).log(1, {"loss": 0.5})
    assert RunFolder.open(tmp_path / "run", CONFIG, overwrite=True).metrics() == []


def test_overwrite_removes_runs_of_its_own_kind_only(tmp_path: Path):
    for text in ("seed: 1\n", "seed: 1\npolicy: {}\nmine: 2\n", "- a list\n", "{ no yaml"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(BadInput, match=r"other keys .* choose another folder"):
            RunFolder.open(tmp_path, CONFIG, overwrite=True)
        assert (tmp_path / "config.yaml").read_text() == text


def test_overwrite_replaces_a_run_from_before_a_key_was_added(tmp_path: Path):
    RunFolder.open(tmp_path / "run", CONFIG).log(1, {"loss": 0.5})
    newer = OmegaConf.merge(CONFIG, {"target": None, "guard": "compact"})
    with pytest.raises(BadInput, match=r"another guard; choose another folder$"):
        RunFolder.open(tmp_path / "run", newer)  # half of the keys are new: it may be anything
    newer.pop("target")
    with pytest.raises(BadInput, match=r"another guard; choose another folder, remove it, or --overwrite"):
        RunFolder.open(tmp_path / "run", newer)
    assert RunFolder.open(tmp_path / "run", newer, overwrite=True).metrics() == []
    assert OmegaConf.load(tmp_path / "run" / "config.yaml") == newer


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("keep me")
    for overwrite in (False, True):
        with pytest.raises(BadInput, match=r"notes\.txt is a file; choose a folder"):
            RunFolder.open(tmp_path / "notes.txt", CONFIG, overwrite)


def test_rewind_drops_what_a_crash_left_behind(tmp_path: Path):
    run = RunFolder.open(tmp_path / "run", CONFIG)
    for step in (1, 2, 3):
        run.log(step, {"loss": float(step)})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed in the middle of a line
    run.rewind(2)
    assert [line["step"] for line in run.metrics()] == [1, 2]


@pytest.mark.parametrize(("name", "content"), [("summary.json", '{"a": 1'), ("metrics.jsonl", '{"step": 1\n{}\n')])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=rf"{name} is damaged"):
        _ = RunFolder(tmp_path).summary(), RunFolder(tmp_path).metrics()
