"""What all commands share: help, one-line errors, exit codes, --json, --dry-run, overrides."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from sim2real_aug import devices
from sim2real_aug.cli import inspect as inspect_command
from sim2real_aug.cli.app import COMMAND_MODULES, run
from sim2real_aug.cli.augment import default_output
from sim2real_aug.cli.common import app, as_json, location
from sim2real_aug.config import as_override
from sim2real_aug.errors import Fault

COMMANDS = [command.name for command in app.registered_commands]


def only_line(text: str) -> str:
    """The one line that an error may take."""
    assert text.count("\n") == 1, text
    return text.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: sim2real-aug {command}" in shown
    assert "--json" in shown


def test_every_command_module_registers_one_command():
    named = [module.__name__.rsplit(".", 1)[1].replace("_", "-") for module in COMMAND_MODULES]
    assert sorted(named) == sorted(COMMANDS)  # another test may have imported one of them first


def test_help_lists_the_commands_and_nothing_typed_shows_it_too(cli):
    with_help, bare = cli("--help"), cli()
    assert with_help.returncode == bare.returncode == 0
    assert with_help.stdout == bare.stdout
    assert all(f"\n  {command} " in with_help.stdout for command in COMMANDS)


def test_version(cli):
    assert cli("--version").stdout.startswith("sim2real-aug 0.")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["augmnt"], "No such command 'augmnt'. Did you mean 'augment'?"),
        (["augment"], "Missing argument 'DATASET.zarr'. See sim2real-aug augment --help."),
        (["simulate", "o.zarr", "--episodes", "many"], "Invalid value for '--episodes'"),
        (["simulate", "o.zarr", "--speed", "3"], "No such option: --speed"),
        (["inspect", "nowhere.zarr"], "nowhere.zarr does not exist"),
        (["report", "nowhere"], "nowhere is no run"),
        (["evaluate", "run", "domain"], "unexpected argument 'domain'"),
        (["evaluate", "run", "episods=3"], "unknown configuration key 'episods'. Did you mean 'episodes'?"),
        (["evaluate", "run", "seed=[1"], "override 'seed=[1'"),
        (["evaluate", "run", "--config-dir", "nowhere"], "--config-dir nowhere is not a folder"),
        (["train-editor", "photos=my-photos"], "'photos=my-photos' is no setting"),
        (["train-policy", "d.zarr", "policy=compct"], "unknown policy 'compct'. Did you mean 'compact'?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tmp_path, typed, message):
    done = cli(*typed)
    assert done.returncode == 2
    line = only_line(done.stderr)
    assert line.startswith("sim2real-aug: error: ")
    assert message.lower() in line.lower()
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_dry_run_prints_the_resolved_configuration_and_writes_nothing(cli, tmp_path):
    done = cli("evaluate", "run", "--domain", "randomized/7", "--dry-run", "episodes=5")
    assert done.returncode == 0
    config = yaml.safe_load(done.stdout)
    assert (config["domain"], config["episodes"], config["seed"]) == ("randomized/7", 5, 100000)
    assert "# policy: run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_dry_run_with_json(cli):
    document = json.loads(cli("evaluate", "run", "--dry-run", "--json").stdout)
    assert (document["policy"], document["config"]["domain"]) == ("run", "flat")


def test_text_of_an_option_reaches_the_configuration_unchanged(capsys):
    domain = r"it's, a {b}=\'$c" + "\\"
    assert run(["evaluate", "run", "--domain", domain, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["domain"] == domain


def test_values_as_hydra_overrides():
    assert as_override("a.b", [1, "x y", True]) == "a.b=[1,'x y',true]"
    assert as_override("a", 1e-5) == "a=1e-05"
    assert as_override("a", False) == "a=false"


def test_an_override_in_the_place_of_an_optional_argument_is_an_override(capsys):
    assert run(["train-editor", "seed=7", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["dataset"], document["config"]["seed"]) == (None, 7)


def test_a_users_own_configuration_comes_before_ours(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/evaluate.yaml").write_text("domain: flat\nepisodes: 3\n")
    done = cli("evaluate", "run", "--config-dir", "mine", "--dry-run")
    assert yaml.safe_load(done.stdout) == {"domain": "flat", "episodes": 3}


def test_inspect_a_store(cli, store):
    done = cli("inspect", store)
    assert done.returncode == 0
    assert "n episodes        2" in done.stdout
    document = json.loads(cli("inspect", store, "--json").stdout)
    assert (document["n_frames"], document["shortest_episode"], document["longest_episode"]) == (5, 2, 3)
    assert document["arrays"]["img"]["shape"] == [5, 96, 96, 3]


def test_a_mistyped_editor_is_told_the_near_one(cli, store):
    done = cli("augment", store, "--editor", "compsed")
    assert done.returncode == 2
    assert "unknown editor 'compsed'. Did you mean 'composed'?" in only_line(done.stderr)


def test_inspect_what_is_unfinished(cli, tmp_path):
    (tmp_path / "sim-edited.zarr.partial").mkdir()
    done = cli("inspect", tmp_path / "sim-edited.zarr.partial")
    assert done.returncode == 2
    assert "is unfinished: the command that began it, run again, goes on" in only_line(done.stderr)


def test_an_output_below_a_file_is_refused(cli, store, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for words in (["convert", store, "notes.txt/out.zarr"], ["simulate", "notes.txt/out.zarr"]):
        done = cli(*words)
        assert done.returncode == 2
        assert "notes.txt/out.zarr cannot be written" in only_line(done.stderr)


def test_inspect_photos(cli, shared_data):
    document = json.loads(cli("inspect", shared_data / "real-photos/kuka-policy-camera", "--json").stdout)
    shown = {"kind": "photos", "photos": 8, "with_a_mask": 0, "corners": "none"}
    assert document | shown == document


def test_a_reader_that_leaves_early_is_no_fault(start, store):
    process = start("inspect", store)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)


def test_nothing_is_written_to_a_url(cli, store):
    for words in (["convert", store, "s3://bucket/out.zarr"], ["augment", store, "--out", "s3://bucket/out.zarr"]):
        refused = cli(*words)
        assert refused.returncode == 2
        assert "is a URL; what a command writes goes to this machine's disk" in refused.stderr


def test_convert_refuses_an_existing_target_and_overwrites_when_told(cli, store):
    assert cli("convert", store, "copy.zarr", "--zarr-format", "3").returncode == 0
    again = cli("convert", store, "copy.zarr")
    assert again.returncode == 2
    assert "copy.zarr" in only_line(again.stderr.splitlines(keepends=True)[-1])
    assert cli("convert", store, "copy.zarr", "--overwrite").returncode == 0
    assert json.loads(cli("inspect", "copy.zarr", "--json").stdout)["n_frames"] == 5


def test_a_damaged_store_is_bad_input(cli, store, tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    for path in (tmp_path / "empty.zarr", tmp_path):
        done = cli("inspect", path)
        assert done.returncode == 2
        only_line(done.stderr)


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [
        (Fault("the loss became nan"), 1, "sim2real-aug: fault: the loss became nan"),
        (OSError(28, "No space left on device"), 1, "fault: OSError: [Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "/x"), 2, "sim2real-aug: error: no permission: /x"),
        (ZeroDivisionError("division by zero"), 1, "fault: ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "sim2real-aug: interrupted; run the same command again to go on"),
    ],
)
def test_exit_codes(monkeypatch, capsys, store, error, code, last_line):
    def broken(place: Path) -> None:
        raise error

    monkeypatch.setattr(inspect_command, "_store", broken)
    assert run(["inspect", str(store)]) == code
    lines = capsys.readouterr().err.splitlines()
    assert last_line in lines[-1]
    assert (len(lines) > 1) == isinstance(error, ZeroDivisionError)  # the unforeseen shows where


def test_json_holds_only_what_json_knows():
    value = {"a": np.float32(0.5), "b": math.nan, "c": Path("x"), "d": (1, True, None), "e": np.arange(2)}
    expected = {"a": 0.5, "b": None, "c": "x", "d": [1, True, None], "e": [0, 1]}
    assert json.loads(as_json(value)) == expected


def test_default_output_of_augment():
    assert default_output(Path("data/sim.zarr")) == Path("data/sim-edited.zarr")
    assert default_output(Path("sim.zarr.zip")) == Path("sim-edited.zarr")
    assert default_output(location("s3://bucket/sim.zarr/")) == Path("sim-edited.zarr")


def test_doctor_says_what_is_missing(cli, tmp_path):
    done = cli("doctor", "--json")
    report = json.loads(done.stdout)
    failed = [check for check in report["checks"] if check["ok"] is False]
    assert done.returncode == (1 if failed else 0)
    assert report["ok"] is not bool(failed)
    assert all(check["remedy"] for check in failed)
    assert {"python", "torch", "GPU", "threads", "shipped weights"} <= {c["name"] for c in report["checks"]}


def checks_of(capsys, *typed):
    """Exit code and checks by name of `doctor --json`."""
    code = run(["doctor", *typed, "--json"])
    return code, {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


def test_doctor_says_what_a_training_needs_and_the_batch_that_fits(capsys, monkeypatch):
    monkeypatch.setattr(devices, "matrix_rate", lambda device, dtype: 4e12)
    _, checks = checks_of(capsys, "device=cpu", "d3po.batch_size=24")
    time = checks["time, estimated"]["found"]
    assert re.match(r"[\d.e-]+ h for 12 rounds of 528 passes of the UNet, each 0\.0017 TFLOP, at 2 TFLOP/s", time)
    assert float(time.split()[0]) == pytest.approx(12 * 528 * 0.0017e12 / 2e12 / 3600, rel=0.1)
    assert "extra [judges]" in checks
    assert checks["editor"]["found"].startswith("unet 10.5 M, vae 0.8 M,")
    assert checks["memory, estimated"]["ok"] is True
    assert checks["disk, estimated"]["ok"] is True
    assert checks["time, estimated"]["ok"] is None
    code, checks = checks_of(capsys, "device=cpu", "d3po.rounds=10000000")
    assert (code, checks["time, estimated"]["ok"]) == (1, False)
    for free, remedy in ((0.3e9, "d3po.batch_size=6 would fit"), (0.1e9, "a smaller editor.image_size")):
        monkeypatch.setattr(devices, "free_memory", lambda device, free=free: free)
        code, checks = checks_of(capsys, "device=cpu", "d3po.batch_size=24")
        assert code == 1
        assert checks["memory, estimated"]["ok"] is False
        assert checks["memory, estimated"]["remedy"].startswith(remedy)


def test_doctor_plans_nothing_unless_asked_and_refuses_what_train_editor_would(cli, capsys):
    assert "memory, estimated" not in checks_of(capsys)[1]
    done = cli("doctor", "editor.path=nowhere")
    assert done.returncode == 2
    assert "nowhere is neither a folder nor" in only_line(done.stderr)
