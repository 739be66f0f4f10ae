"""Composition of configurations: what ships composes, and mistakes are explained in one line."""

import re
from dataclasses import dataclass
from pathlib import Path

import hydra
import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from sim2real_aug.config import compose, make, settings
from sim2real_aug.errors import BadInput

CONFIGS = Path(__file__).parents[1] / "configs"
COMMANDS = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
OPTIONS = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("*/**/*.yaml"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_configuration_composes_without_a_missing_value(name: str):
    config = compose(name)
    assert not OmegaConf.missing_keys(config)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_group_option_composes_in_a_command_that_uses_its_group(option: str):
    group, name = str(Path(option).parent), Path(option).stem
    if group == "scene":  # a domain names it, no command's defaults
        assert not OmegaConf.missing_keys(compose(f"scene/{name}"))
        return
    users = [command for command in COMMANDS if _uses(command, group)]
    assert users, f"no command's defaults use the group {group}"
    for command in users:
        assert not OmegaConf.missing_keys(compose(command, [f"{group}={name}"]))


def _uses(command: str, group: str) -> bool:
    defaults = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text()).get("defaults", [])
    groups = [str(key).split("@")[0] for entry in defaults if isinstance(entry, dict) for key in entry]
    return group in groups


@pytest.mark.parametrize("path", [*(f"{name}.yaml" for name in COMMANDS), *OPTIONS])
def test_every_configuration_starts_with_what_it_is_and_its_command(path: str):
    head = re.match(r"(#.*\n)+", (CONFIGS / path).read_text())
    assert head is not None, f"{path} has no comment at its top"
    assert "sim2real-aug " in head.group(), f"{path} does not give the command"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own configuration: `bake`, with the group `oven` of `gas` and `wood`."""
    (tmp_path / "oven").mkdir()
    lines = "defaults: [{oven: gas}, _self_]", "minutes: 20", "name: null", "twice: ${minutes}"
    (tmp_path / "bake.yaml").write_text("\n".join(lines))
    (tmp_path / "oven/gas.yaml").write_text("fan: true\ndegrees: 180\n")
    (tmp_path / "oven/wood.yaml").write_text("degrees: 300\n")
    return tmp_path


def test_overrides_and_groups(folder: Path):
    config = compose("bake", ["oven=wood", "minutes=30", "name='a, b=c'"], folder)
    assert config == {"oven": {"degrees": 300}, "minutes": 30, "name": "a, b=c", "twice": 30}


def test_a_later_override_wins(folder: Path):
    assert compose("bake", ["minutes=1", "minutes=2"], folder).minutes == 2


@pytest.mark.parametrize(
    ("override", "nearest"), [("minuts=3", "minutes"), ("oven.degres=3", "oven.degrees")]
)
def test_an_unknown_key_names_the_nearest(folder: Path, override: str, nearest: str):
    with pytest.raises(BadInput, match=f"unknown configuration key.*Did you mean '{nearest}'") as error:
        compose("bake", [override], folder)
    assert "\n" not in str(error.value)


def test_a_mapping_with_a_new_key_says_how_to_add_it(folder: Path):
    with pytest.raises(BadInput, match=r"to add one: \+oven.NAME=VALUE"):
        compose("bake", ["oven={steam: 1}"], folder)
    assert compose("bake", ["+oven.steam=1"], folder).oven.steam == 1


def test_an_unknown_group_option_names_the_nearest(folder: Path):
    with pytest.raises(BadInput, match=r"unknown oven 'wod'. Did you mean 'wood'\? Known: gas, wood"):
        compose("bake", ["oven=wod"], folder)


def test_an_override_that_is_not_one(folder: Path):
    with pytest.raises(BadInput) as error:
        compose("bake", ["minutes=[1"], folder)
    assert "\n" not in str(error.value)


def test_a_missing_config_dir(tmp_path: Path):
    with pytest.raises(BadInput, match=r"--config-dir .*nowhere is not a folder"):
        compose("bake", [], tmp_path / "nowhere")


def test_a_folder_given_once_is_not_searched_the_next_time(folder: Path):
    compose("bake", [], folder)
    with pytest.raises(BadInput):
        compose("bake")


@dataclass(frozen=True)
class Oven:
    degrees: int = 0
    shelves: tuple[int, ...] = ()


def test_within_anothers_hydra(tmp_path: Path) -> None:
    """As in a training script under `@hydra.main`, or where the package `sam2` has been imported."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path / "theirs"), version_base="1.2"):
        assert compose("augment", ["seed=3"]).seed == 3
        with pytest.raises(BadInput, match="unknown configuration key"):
            compose("augment", ["sed=3"])
        assert hydra.compose("own").a == 1
        assert not hydra.version.base_at_least("1.3")


def test_settings_fill_a_dataclass_and_make_lists_tuples():
    assert settings(Oven, OmegaConf.create({"degrees": 180, "shelves": [1, 2]})) == Oven(180, (1, 2))


def test_settings_refuse_an_unknown_key():
    with pytest.raises(BadInput, match=r"unknown key 'degree'. Did you mean 'degrees'"):
        settings(Oven, {"degree": 1})


def test_what_a_target_refuses_comes_through_as_it_is() -> None:
    assert make({"_target_": "builtins.dict", "a": 1}) == {"a": 1}
    with pytest.raises(BadInput, match=r"^/nowhere does not exist; give the folder of a compact judge"):
        make(compose("train_editor", ["judge.path=/nowhere"]).judge)
    with pytest.raises(BadInput, match=r"Error locating target 'sim2real_aug\.judges\.lod_judge'"):
        make({"_target_": "sim2real_aug.judges.lod_judge"})
    with pytest.raises(Exception, match="invalid literal"):
        make({"_target_": "builtins.int", "_args_": ["x"]})
