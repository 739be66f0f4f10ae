"""The experiment at its smallest size, as a user types it: units one by one, records, table, refusals."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from sim2real_aug.config import compose
from sim2real_aug.data import ReplayBuffer, ReplayBufferWriter
from sim2real_aug.envs.push_t import PushTEnv
from sim2real_aug.errors import BadInput
from sim2real_aug.gain import run
from sim2real_aug.gain.arms import ARMS, Unit
from sim2real_aug.gain.experiment import Experiment
from sim2real_aug.gain.materials import CoTrained, Edits, Episodes, Photographs, Redrawn
from sim2real_aug.gain.plan import plan_differences, plan_of
from sim2real_aug.gain.run import Choice, run_gain
from sim2real_aug.gain.units import read_record

from ..conftest import REPOSITORY

D3PO = "rounds: 1, conditions_per_round: 1, trajectories_per_condition: 2, num_inference_steps: 2"
STAGES = {
    "simulate": {"episodes": 3, "max_steps": 12, "workers": 1},
    "redraw": {"workers": 1},
    "photos": {"count": 2},
    "train_editor": {"d3po": f"{{{D3PO}, train_timesteps: 1, held_out_frames: 1}}"},
    "train_cut": {"steps": 2, "batch_size": 1, "channels": 4},
    "train_policy": {
        "policy.model.down_dims": "[16,32]",
        "policy.training.steps": 2,
        "policy.training.batch_size": 4,
    },
    "evaluate": {"episodes": 2, "max_steps": 9},
    "proxy": {"steps": 2, "batch_size": 8},
}
TINY = [
    "scenes=[randomized/25]",
    "seeds=[0]",
    "cut_frames=8",
    "real_episodes=1",
    *(
        f"++stages.{stage}.settings.{key}={value}"
        for stage, keys in STAGES.items()
        for key, value in keys.items()
    ),
]


@pytest.mark.slow
def test_units_fill_one_table(cli, tmp_path):
    arms = f"arms=[{','.join(ARMS)}]"
    command = ("gain", "--out", "gain", "--records", "records")
    chosen = ("--arm", "sim_only", "--arm", "oracle", "--json", arms, *TINY)
    quick = cli(*command, *chosen, "proxy=false")
    assert quick.returncode == 0, quick.stderr
    assert json.loads(quick.stdout)["measured"] == 2
    assert f"2 of {len(ARMS)} units to measure" in quick.stderr
    oracle = tmp_path / "records/randomized-25-oracle-0.json"
    without = json.loads(oracle.read_text())
    first = cli(*command, *chosen)
    assert first.returncode == 0, first.stderr
    completed = json.loads(oracle.read_text())
    assert (without.pop("proxy"), "proxy" in without["plan"]["stages"]) == (None, False)
    assert completed.pop("proxy")["block_position"] > 0
    assert completed["evaluation"] == without["evaluation"], "only the proxy was measured"
    measured = {name: completed["plan"]["stages"][name] for name in without["plan"]["stages"]}
    assert measured == without["plan"]["stages"], "only the proxy's stages were added"
    assert "training policy" not in first.stderr
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "records").iterdir()}
    rest = cli(*command, "--json", arms, *TINY)
    assert rest.returncode == 0, rest.stderr
    summary = json.loads(rest.stdout)
    assert summary["measured"] == len(ARMS)
    for name, stamp in stamps.items():
        assert (tmp_path / "records" / name).stat().st_mtime_ns == stamp, "not measured again"
    record = json.loads((tmp_path / "records/randomized-25-specialist-0.json").read_text())
    assert len(record["evaluation"]["per_episode"]) == 2
    assert record["plan"]["stages"]["proxy"]["steps"] == 2
    assert record["proxy"]["block_position"] > 0
    for name in ("table.md", "gain.png", "randomized-25/episodes.webp"):
        assert (tmp_path / "gain" / name).stat().st_size > 100
    assert "specialist_gate" in (tmp_path / "gain/table.md").read_text()

    again = cli("gain", "--out", "elsewhere", "--records", "records", "--json", arms, *TINY)
    assert json.loads(again.stdout)["arms"] == summary["arms"], "records are enough for the table"
    other = cli(*command, arms, *TINY, "++stages.photos.settings.count=3")
    assert other.returncode == 2
    assert "randomized-25-reinhard-0.json was measured with another stages.photos.count" in other.stderr
    anew = cli(*command[:-1], "others", arms, *TINY, "++stages.photos.settings.count=3")
    assert anew.returncode == 2
    assert "gain holds a run made with another stages.photos.settings.count" in anew.stderr

    share = "++stages.train_policy.settings.policy.training.augmented_probability=0.25"
    shares = ("gain", "--out", "shares", "--arm", "reinhard", "materials=gain", "proxy=false", share, *TINY)
    shared = cli(*shares, arms)
    assert shared.returncode == 0, shared.stderr
    made = {path.name for path in (tmp_path / "shares/randomized-25").iterdir()}
    assert made == {"policy-reinhard-0", "episodes.webp"}, "all else is the other run's"
    others = cli(*shares, arms, "++stages.photos.settings.count=3")
    assert others.returncode == 2
    assert "the materials in gain were made with another stages.photos.settings.count" in others.stderr

    unplanned = cli(*command, "--arm", "orakel", arms, *TINY)
    assert unplanned.returncode == 2
    assert "Did you mean 'oracle'" in unplanned.stderr
    assert "Plan others with arms=[...]" in unplanned.stderr


def test_a_plan_holds_what_its_unit_uses(tmp_path):
    experiment = Experiment(tmp_path, compose("gain", TINY))
    scene = "randomized/25"
    plans = {arm: plan_of(experiment, Unit(arm, scene, 0)) for arm in ARMS}
    assert {arm for arm, plan in plans.items() if "editor" in plan} == {"base", "specialist", "specialist_gate"}
    assert {arm for arm, plan in plans.items() if "train_editor" in plan["stages"]} == {
        "specialist",
        "specialist_gate",
    }
    defaults = plans["specialist"]["stages"]["train_editor"]["d3po"]
    assert (defaults["rounds"], defaults["alpha"]) == (1, compose("train_editor").d3po.alpha)
    gates = {arm: plan["stages"]["train_policy"]["policy"]["training"]["use_gate"] for arm, plan in plans.items()}
    assert [arm for arm, asked in gates.items() if asked] == ["specialist_gate"]
    later = plan_of(experiment, Unit("specialist", scene, 1))["stages"]
    for stage in ("train_editor", "augment", "train_policy"):
        assert later[stage]["seed"] == 1, "of the unit"
    for stage in ("photos", "redraw", "evaluate"):
        assert later[stage]["domain"] == scene
    assert (later["photos"]["seed"], later["evaluate"]["seed"]) == (0, 100000), "of the experiment"
    assert plans["randomized"]["stages"]["redraw_randomized"]["domain"] == "randomized"


def test_another_look_of_the_scene_is_another_plan(tmp_path):
    pytest.importorskip("mitsuba")
    unit = Unit("sim_only", "pathtraced/linen", 0)
    plan = plan_of(Experiment(tmp_path, compose("gain", ["proxy=false"])), unit)
    brighter = copy.deepcopy(plan)
    brighter["scenes"]["linen"]["lamps"][0]["strength"] = 2
    assert any(key.startswith("scenes.linen.lamps") for key in plan_differences(unit, plan, brighter))
    elsewhere = copy.deepcopy(plan)
    elsewhere["scenes"]["linen"]["variant"] = "another"
    assert not plan_differences(unit, plan, elsewhere), "the same picture with other noise"


@pytest.mark.parametrize("proxy", ["false", "true"])
def test_the_records_that_are_published_are_of_the_plan_that_ships(tmp_path, proxy):
    pytest.importorskip("mitsuba")
    experiment = Experiment(tmp_path, compose("gain", [f"proxy={proxy}"]))
    folder = REPOSITORY / "benchmarks/results/gain"
    records = [json.loads(file.read_text()) for file in folder.iterdir()]
    assert records
    for record in records:
        unit = Unit(record["arm"], record["scene"], record["seed"])
        assert read_record(folder, unit, plan_of(experiment, unit))


def test_a_setting_of_later_counts_as_it_was(tmp_path):
    unit = Unit("sim_only", "randomized/25", 0)
    plan = plan_of(Experiment(tmp_path, compose("gain", [*TINY, "proxy=false"])), unit)
    old = copy.deepcopy(plan)
    del old["stages"]["train_policy"]["policy"]["model"]["prediction_type"]
    predicts = "stages.train_policy.policy.model.prediction_type"
    assert plan_differences(unit, old, plan) == [predicts], "it was epsilon"
    plan["stages"]["train_policy"]["policy"]["model"]["prediction_type"] = "epsilon"
    assert not plan_differences(unit, old, plan)
    plan["stages"]["augment"] = {"precision": "bf16", "seed": 0}
    old["stages"]["augment"] = {"seed": 0}
    assert not plan_differences(unit, old, plan), "a precision rounds"


def test_a_record_with_a_proxy_serves_a_plan_without(tmp_path):
    unit = Unit("sim_only", "randomized/25", 0)
    with_proxy, without = (
        plan_of(Experiment(tmp_path, compose("gain", [*TINY, f"proxy={asked}"])), unit) for asked in ("true", "false")
    )
    assert not plan_differences(unit, with_proxy, without)
    assert not plan_differences(unit, without, with_proxy)
    longer = copy.deepcopy(with_proxy)
    longer["stages"]["proxy"]["steps"] = 3
    assert plan_differences(unit, with_proxy, longer) == ["stages.proxy.steps"]
    assert not plan_differences(unit, longer, without)


def test_a_record_of_other_settings_is_refused(tmp_path):
    unit = Unit("sim_only", "randomized/25", 0)
    plan = plan_of(Experiment(tmp_path, compose("gain", TINY)), unit)
    file = tmp_path / unit.file_name
    file.write_text(json.dumps({"plan": plan}))
    assert read_record(tmp_path, unit, plan) == {"plan": plan}
    stages = plan["stages"]
    longer = {**stages["evaluate"], "max_steps": 10}
    with pytest.raises(BadInput, match=r"measured with another stages\.evaluate\.max_steps;"):
        read_record(tmp_path, unit, {**plan, "stages": {**stages, "evaluate": longer}})
    later = {**stages["evaluate"], "setting_of_tomorrow": 1}
    with pytest.raises(BadInput, match=r"measured with another stages\.evaluate\.setting_of_tomorrow;"):
        read_record(tmp_path, unit, {**plan, "stages": {**stages, "evaluate": later}})
    file.write_text("[]")
    with pytest.raises(BadInput, match="is not a record of gain"):
        read_record(tmp_path, unit, plan)


def test_a_record_of_another_plan_stops_the_run_before_anything_is_made(tmp_path):
    """Also that of an arm that is not chosen; --overwrite removes nothing before."""
    config = compose("gain", [*TINY, "proxy=false", "arms=[sim_only,oracle]"])
    plan = plan_of(Experiment(tmp_path, config), Unit("oracle", "randomized/25", 0))
    plan["stages"]["evaluate"]["max_steps"] = 10
    records, policy = tmp_path / "records", tmp_path / "policy-sim_only-0"
    records.mkdir()
    policy.mkdir()
    (records / "randomized-25-oracle-0.json").write_text(json.dumps({"plan": plan}))
    (records / "randomized-25-sim_only-0.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(BadInput, match=r"oracle-0.json was measured with another stages\.evaluate\.max_steps"):
        run_gain(config, tmp_path, records, choice=Choice(arms=["sim_only"]), overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "policy-sim_only-0", "records"]
    assert len(list(records.iterdir())) == 2


def test_a_run_goes_on_with_other_processes_devices_and_budgets(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure_unit", stopped)
    monkeypatch.setattr(run, "_refuse_known_starts", lambda experiment: None)
    tiny = [*TINY, "proxy=false", "arms=[sim_only]"]
    with pytest.raises(KeyboardInterrupt):
        run_gain(compose("gain", tiny), tmp_path / "gain")
    other = [
        "++stages.redraw.settings.workers=2",
        "++stages.train_policy.settings.device=cpu",
        "++stages.augment.settings.precision=fp32",
        "stages.train_policy.budget_seconds=7",
    ]
    shared = f"materials={tmp_path / 'gain'}"
    for more, out in ([], "gain"), ([shared], "shares"):
        with pytest.raises(KeyboardInterrupt):  # taken up, and stopped at the first unit
            run_gain(compose("gain", [*tiny, *other, *more]), tmp_path / out)
    fewer = "++stages.photos.settings.count=1"
    for more, message in ([], "holds a run made with another"), ([shared], "materials .* were made with another"):
        with pytest.raises(BadInput, match=rf"{message} stages\.photos\.settings\.count"):
            run_gain(compose("gain", [*tiny, *other, *more, fewer]), tmp_path / "gain")


@pytest.mark.parametrize(
    ("frames", "columns", "message"),
    [
        ((20, 64, 64, 3), 5, "data/img is 64x64 and the policy takes 96x96"),
        ((5, 96, 96, 3), 5, "has an episode of 5 frames"),
        ((20, 96, 96, 3), 2, r"data/state is \(40, 2\); gain needs Push-T's five columns"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_before_anything_is_made(tmp_path, frames, columns, message):
    with ReplayBufferWriter.create(tmp_path / "own.zarr") as writer:
        for _ in range(2):
            states = np.full((frames[0], columns), 100, np.float32)
            writer.append_episode({"img": np.zeros(frames, np.uint8), "state": states, "action": states[:, :2]})
    with pytest.raises(BadInput, match=message):
        run_gain(compose("gain", TINY), tmp_path / "gain", dataset=tmp_path / "own.zarr")
    assert not (tmp_path / "gain").exists()


def test_frames_have_the_size_that_the_policy_takes(tmp_path):
    model = "++stages.train_policy.settings.policy.model"
    config = compose("gain", [*TINY, f"{model}.image_size=64", f"{model}.crop_size=56"])
    experiment = Experiment(tmp_path, config)
    for store in (experiment.get(Episodes()), experiment.get(Redrawn("randomized/25"))):
        assert ReplayBuffer.open(store).array("img").shape[1:] == (64, 64, 3)


def test_a_start_of_the_dataset_is_no_start_of_the_evaluation(cli, tmp_path):
    env = PushTEnv(obs_type="state")
    env.reset(seed=7)
    state = np.tile(env.state, (20, 1)).astype(np.float32)
    with ReplayBufferWriter.create(tmp_path / "known.zarr") as writer:
        for offset in (1, 0):
            frames = np.zeros((20, 96, 96, 3), np.uint8)
            writer.append_episode({"img": frames, "state": state + offset, "action": state[:, :2]})
    seed = "++stages.evaluate.settings.seed=5"
    refused = cli(
        "gain", "known.zarr", "--arm", "sim_only", *TINY, seed, "stages.evaluate.settings.episodes=3"
    )
    assert refused.returncode == 2
    assert "evaluation seed 7 starts where episode 1 of known.zarr does" in refused.stderr


def test_cotraining_takes_its_last_episodes_from_the_scene(tmp_path):
    config = compose("gain", [*TINY, "real_episodes=1"])
    experiment = Experiment(tmp_path, config)
    flat, real, mixed = (
        ReplayBuffer.open(path)
        for path in (
            experiment.get(Episodes()),
            experiment.get(Redrawn("randomized/25")),
            experiment.get(CoTrained("randomized/25")),
        )
    )
    last = flat.episode(2)
    np.testing.assert_array_equal(mixed.images()[: last.start], flat.images()[: last.start])
    np.testing.assert_array_equal(mixed.images()[last], real.images()[last])
    assert "keypoint" in mixed.names, "what the other arms' encoders learn from"
    assert set(mixed.names) == set(flat.names)
    for name in set(flat.names) - {"img"}:
        np.testing.assert_array_equal(mixed.read(name), flat.read(name))
    place = tmp_path / "randomized-25/cotrained.zarr"
    place.rename(tmp_path / "randomized-25/cotrained.zarr.copying")  # as a kill leaves it
    again = Experiment(tmp_path, config).get(CoTrained("randomized/25"))
    np.testing.assert_array_equal(ReplayBuffer.open(again).images()[last], real.images()[last])
    assert [path.name for path in place.parent.glob("cotrained*")] == ["cotrained.zarr"]
    with pytest.raises(BadInput, match=r"cotrained.zarr was made with another real_episodes; remove it"):
        Experiment(tmp_path, compose("gain", [*TINY, "real_episodes=2"])).get(CoTrained("randomized/25"))
    too_many = Experiment(tmp_path / "other", compose("gain", [*TINY, "real_episodes=3"]))
    with pytest.raises(BadInput, match="real_episodes must be below the dataset's 3; got 3"):
        too_many.get(CoTrained("randomized/25"))


def test_edits_of_other_photos_are_not_taken_for_these(tmp_path):
    config, scene = compose("gain", TINY), "randomized/25"
    store = Experiment(tmp_path, config).get(Edits("reinhard", scene, 0))
    stamp = store.stat().st_mtime_ns
    assert Experiment(tmp_path, config).get(Edits("reinhard", scene, 0)) == store
    assert store.stat().st_mtime_ns == stamp, "not made again"
    photos = Experiment(tmp_path, config).get(Photographs(scene))
    (photos / "001.jpg").write_bytes((photos / "000.jpg").read_bytes())
    with pytest.raises(BadInput, match=r"reinhard-0.zarr was made with another .*photos; remove it"):
        Experiment(tmp_path, config).get(Edits("reinhard", scene, 0))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=0", "seeds must be a list; got 0"),
        ("seeds=[x]", r"seeds\[0\] must be a whole number; got 'x'"),
        ("seeds=[]", "seeds must name at least one"),
        ("scenes=randomized/24", "scenes must be a list"),
        ("cut_frames=0", "cut_frames must be at least 2; got 0"),
        ("real_episodes=1.5", "real_episodes must be a whole number; got 1.5"),
        ("stages.evaluate=null", r"stages\.evaluate\.settings must hold keys"),
        ("~stages.proxy", r"stages\.proxy\.settings must hold keys"),
        (
            "++stages.train_policy.settings.policy.training.color_jitter=true",
            r"settings\.policy\.training\.color_jitter is the experiment's to decide, here False",
        ),
        ("++stages.train_editor.settings.editor.path=/nowhere", "/nowhere is neither a folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_made(tmp_path, override, message):
    config = compose("gain", [*TINY, "arms=[sim_only,base]", override])
    with pytest.raises(BadInput, match=message):
        run_gain(config, tmp_path / "gain")
    assert not (tmp_path / "gain").exists()


def test_overwriting_all_spares_units_that_are_not_planned(tmp_path):
    config = compose("gain", [*TINY, "proxy=false", "arms=[sim_only]"])
    other = tmp_path / "gain/records/randomized-25-oracle-0.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    with pytest.raises(BadInput, match=r"holds other units, such as randomized-25-oracle-0\.json"):
        run_gain(config, tmp_path / "gain", overwrite=True)
    assert other.exists()


def test_stages_take_the_users_groups(tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/mine.yaml").write_text("defaults: [compact, _self_]\ntraining: {steps: 3}\n")
    chosen = ["stages.train_policy.settings={policy: mine}", f"config_dir={tmp_path}"]
    experiment = Experiment(tmp_path, compose("gain", chosen))
    assert experiment.stage("train_policy", "train_policy").policy.training.steps == 3
