"""The page of a run: it shows what the folder holds, needs no other file, and escapes what it quotes."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from sim2real_aug.errors import BadInput
from sim2real_aug.report.page import curves_of, flattened, write_report
from sim2real_aug.report.pictures import grid
from sim2real_aug.runs import RunFolder


class Page(HTMLParser):
    """Texts of the cells, and the pictures' bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.pictures: list[bytes] = []
        self.tag = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        source = dict(attrs).get("src")
        if tag == "img" and source:
            self.pictures.append(base64.b64decode(source.split("base64,")[1]))

    def handle_data(self, data: str) -> None:
        if self.tag in ("td", "th"):
            self.cells.append(data)
            self.tag = ""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.open(tmp_path / "run", OmegaConf.create({"instruction": "make it <real> & nice", "seed": 1}))
    for step, loss in ((0, 3.0), (10, 1.0), (20, 2.0)):
        run.log(step, {"loss": loss})
    return run


def test_results_metrics_curves_and_samples(run: RunFolder, tmp_path: Path) -> None:
    run.write_summary({"kept_round": 8, "mean": {"value": 0.123456}})
    grid([[np.zeros((8, 8, 3), np.uint8)]], run.path / "samples" / "round-0000.png", cell=8)
    assert write_report(run.path, tmp_path / "page.html") == {"runs": 1, "pictures": 2}
    page = Page(tmp_path / "page.html")
    assert page.cells[2:6] == ["kept_round", "8", "mean.value", "0.1235"]
    assert page.cells[-7:] == ["loss", "3", "1", "10", "3", "0", "2"]
    assert page.pictures[1] == (run.path / "samples" / "round-0000.png").read_bytes()
    text = (tmp_path / "page.html").read_text()
    assert "make it &lt;real&gt; &amp; nice" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text), "it needs no other file"


def test_an_unfinished_run_says_so_and_those_inside_follow(run: RunFolder, tmp_path: Path) -> None:
    inner = RunFolder.open(run.path / "evaluations" / "flat-1", OmegaConf.create({"domain": "flat"}))
    inner.write_summary({"success": 0.5})
    assert write_report(run.path, tmp_path / "page.html")["runs"] == 2
    assert "Not finished" in (tmp_path / "page.html").read_text()
    assert "success" in Page(tmp_path / "page.html").cells


def test_parts_of_a_run_have_curves_of_their_own_and_what_is_not_finite_none() -> None:
    lines = [{"step": 1, "part": "judge", "loss": 2.0}, {"step": 1, "part": "editor", "loss": float("nan")}]
    assert curves_of(lines) == {"judge: loss": [(1, 2.0)]}


def test_long_lists_are_counted() -> None:
    assert flattened({"a": [1, 2], "b": list(range(9))}) == {"a": "1, 2", "b": "9 values"}


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no run"):
        write_report(tmp_path, tmp_path / "page.html")
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(BadInput, match="there is no folder"):
        write_report(tmp_path, tmp_path / "nowhere" / "page.html")
