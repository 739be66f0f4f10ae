"""The ablations: units that differ from the default in what their names say, and two of them, tiny."""

from pathlib import Path

import pytest
import torch
from ablations import (
    TABLE,
    TABLE_END,
    UNITS,
    Unit,
    around_table,
    as_widened,
    chosen_units,
    markdown,
    measure,
    prompt_from_zero,
    style_scale,
    without_fusion,
    without_prompt,
)
from specialist_runs import Plan, run_config

from sim2real_aug.config import settings
from sim2real_aug.d3po.settings import D3POSettings
from sim2real_aug.editor.editor import Editor
from sim2real_aug.errors import BadInput

from ..tiny_editor import build_editor
from .conftest import TINY


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_changes_one_thing(unit: Unit) -> None:
    chosen = settings(D3POSettings, run_config(Plan(), 0, unit.overrides).d3po)
    default = settings(D3POSettings, run_config(Plan(), 0).d3po)
    assert (chosen != default) == bool(unit.overrides)
    assert (bool(unit.overrides) or unit.change is not None) == (unit.name != "default")
    samples = [each.conditions_per_round * each.trajectories_per_condition for each in (chosen, default)]
    assert samples[0] == samples[1], "no unit is trained on more"


def edit(editor: Editor, photo: float) -> torch.Tensor:
    source = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    latents = torch.ones(1, 4, 8, 8)
    return editor.edit(source, torch.full_like(source, photo), latents)


def spoil_fusion(editor: Editor) -> Editor:
    """As if it had been trained."""
    torch.nn.init.normal_(editor.fusion.to_out.weight)
    torch.nn.init.normal_(editor.fusion.to_out.bias)
    return editor


def test_without_its_weights_a_visual_prompt_is_not_seen() -> None:
    editor = spoil_fusion(build_editor())
    assert not torch.equal(edit(editor, 0.1), edit(editor, 0.9))
    as_widened(editor)
    assert torch.equal(edit(editor, 0.1), edit(editor, 0.9))
    kept = build_editor()
    prompt_from_zero(kept)
    assert torch.equal(kept.unet.conv_in.weight[:, :8], build_editor().unet.conv_in.weight[:, :8])


def test_without_a_visual_prompt_the_fusion_does_not_see_it_either() -> None:
    editor = spoil_fusion(build_editor())
    prompt_from_zero(editor)
    assert not torch.equal(edit(editor, 0.1), edit(editor, 0.9)), "by the fusion's query"
    without_prompt(editor)
    assert torch.equal(edit(editor, 0.1), edit(editor, 0.9))
    assert not torch.equal(editor.fusion.to_q.weight, torch.zeros_like(editor.fusion.to_q.weight))


def test_a_table_leaves_the_rest_of_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# What it says\n{TABLE}\nold\n{TABLE_END}\nFusion matters.\n")
    before, after = around_table(page)
    assert before + "new\n" + after == f"# What it says\n{TABLE}\nnew\n{TABLE_END}\nFusion matters.\n"
    page.write_text("# What it says\n")
    with pytest.raises(BadInput, match=r"page\.md has no lines"):
        around_table(page)
    assert around_table(tmp_path / "new.md") == around_table(None)
    assert around_table(Path(__file__).parents[2] / "docs" / "ablations.md")[1].count("**Fusion**") == 1


def test_without_fusion_the_instruction_does_not_reach_the_latents() -> None:
    latents, text = torch.rand(1, 8, 8, 8), torch.rand(1, 8, 16)
    editor = spoil_fusion(build_editor())
    with torch.no_grad():
        assert not torch.equal(editor.fusion(latents, text), latents)
        without_fusion(editor)
        assert torch.equal(editor.fusion(latents, text), latents)


def test_the_style_scale_is_the_editors_own() -> None:
    editor = build_editor()
    style_scale(2.0, editor)
    assert editor.edit_settings.style_guidance_scale == 2
    assert editor.edit_settings.scales.style == 2


def test_units_are_chosen_and_added_by_name() -> None:
    assert chosen_units(None, None) == list(UNITS)
    added = chosen_units(["default"], [["DINO", "judge.path=somewhere"]])
    assert added == chosen_units(["default", "DINO"], [["DINO", "judge.path=somewhere"]])
    assert added == [Unit("default"), Unit("DINO", ("judge.path=somewhere",))]
    with pytest.raises(BadInput, match=r"Did you mean 'alpha 0\.5'"):
        chosen_units(["alpha 0.6"], None)
    with pytest.raises(BadInput, match="already"):
        chosen_units(None, [["default"]])


@pytest.mark.slow
def test_two_units_tiny_and_taken_up_again(tmp_path: Path) -> None:
    plan = Plan(photos=1, states=2, episodes=2, overrides=TINY)
    units = [Unit("default"), Unit("no prompt", ("d3po.train_conditioning=false",), prompt_from_zero)]
    rows = dict(measure(tmp_path, plan, ["randomized/3"], units, seeds=1))
    assert list(rows) == ["default", "no prompt"]
    assert rows["default"]["semantic"] != rows["no prompt"]["semantic"]
    assert dict(measure(tmp_path, plan, ["randomized/3"], units, seeds=1)) == rows
    table = markdown(rows, "python benchmarks/ablations.py").splitlines()
    assert sum(line.startswith("| no prompt | ") for line in table) == 1
