"""The run directory: what may be opened, what is refused and left untouched, and the configuration in it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys

import pytest
from absl import flags

from hgd_tf import config_flags
from hgd_tf.errors import HgdError, RunError
from hgd_tf.evaluation.columns import COLUMNS
from hgd_tf.evaluation.evaluate import DefenseResult
from hgd_tf.evaluation.report import Results
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.foundation.description import settings
from hgd_tf.study import evaluate_runs, table_of_runs
from hgd_tf.training import TrainConfig
from hgd_tf.training.run_directory import CONFIG_FILE, RESULTS_JSON, is_finished, open_run, read_config
from hgd_tf.versions import package_versions

compare = sys.modules["hgd_tf.evaluation.compare"]  # the package's attribute of that name is a function
CONFIG = TrainConfig(ExperimentConfig(test_images=20), width=0.125, train_images=300)
UNUSUAL = TrainConfig(
    ExperimentConfig(
        target="my.keras",
        checkpoint="weights.h5",
        image_size=32,
        feature_layer="top",
        input_range=(-1.0, 1.0),
        outputs="logits",
        custom_objects="my_layers",
        members=("target",),
        holdout="mini_resnet",
        networks={"IncV3": "mini_vgg"},
        ens_target=None,
        images="/photographs",
        labels="labels.csv",
        test_dir="/tests",
        class_split=True,
        test_sizes=(299, 40),
        test_transports=("jpeg:75", "none"),
        test_images=7,
        adaptive_images=3,
        seed=4,
    ),
    guidance="label",
    denoiser="dae",
    width=0.25,
    output_scale=2.0,
    zero_head=True,
    precision="bfloat16",
    init_from="runs/before",
    frozen_statistics=True,
    recipe="light_mix",
    craft="online",
    adaptive_share=0.6,
    clean_weight=0.7,
    adaptive_steps=8,
    adaptive_epsilon=(2.0, 9.0),
    adaptive_ramp=18,
    sigma=0.1,
    attack_sizes=(31, 33),
    transports=("jpeg", "resize:0.5+shift"),
    transported_share=0.25,
    crops="varied",
    reuse=5,
    train_images=10,
    validation_images=11,
    batch_size=12,
    optimizer="muon",
    learning_rate=0.5,
    schedule="cosine",
    warmup_steps=17,
    ema=0.75,
    epochs=13,
    steps_per_epoch=14,
    patience=15,
    stop_patience=16,
    strategy="one_device",
)


def contents(folder):
    """Every file under a folder with its bytes, and every folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def finish(run):
    (run / RESULTS_JSON).write_text("{}")


def test_a_fresh_folder_gets_the_configuration_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    run = open_run(tmp_path / "deep" / "run", CONFIG)
    assert run == tmp_path / "deep" / "run"
    assert list(contents(run)) == [CONFIG_FILE]
    found = json.loads((run / CONFIG_FILE).read_text())
    assert (found["versions"], found["threads"]) == (package_versions(), 3)
    assert read_config(run) == CONFIG


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    open_run(str(tmp_path), CONFIG)
    assert read_config(tmp_path) == CONFIG


def test_the_same_configuration_opens_an_interrupted_run_as_it_is(tmp_path):
    run = open_run(tmp_path / "run", CONFIG)
    (run / "log.csv").write_text("epoch\n0\n")
    before = contents(run)
    assert open_run(run, dataclasses.replace(CONFIG)) == run
    assert contents(run) == before


def test_an_interrupted_run_that_goes_on_with_other_threads_says_so(tmp_path, monkeypatch, recwarn):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    run = open_run(tmp_path / "run", CONFIG)
    open_run(run, CONFIG)
    assert not recwarn.list
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    with pytest.warns(UserWarning, match=r"run was begun on 3 threads and goes on with 2"):
        open_run(run, CONFIG)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"width": 0.5}, "width was 0.125, now 0.5"),
        ({"guidance": "pixel"}, "guidance was 'logits', now 'pixel'"),
        ({"train_images": None}, "train_images was 300, now None"),
        ({"experiment": ExperimentConfig(test_images=20, seed=9)}, "seed was 0, now 9"),
        (
            {"experiment": ExperimentConfig(test_images=20, members=("target",))},
            r"members was \[.*\], now \['target'\]",
        ),
    ],
)
def test_another_configuration_is_refused_by_flag_and_values(tmp_path, change, message):
    run = open_run(tmp_path / "run", CONFIG)
    before = contents(run)
    with pytest.raises(RunError, match=message):
        open_run(run, dataclasses.replace(CONFIG, **change))
    assert contents(run) == before


def test_a_finished_run_is_refused(tmp_path):
    run = open_run(tmp_path / "run", CONFIG)
    assert not is_finished(run)
    finish(run)
    assert is_finished(run)
    before = contents(run)
    with pytest.raises(
        RunError, match=r"run holds a finished run: see .*results\.csv, or run it again with `overwrite=True`"
    ):
        open_run(run, CONFIG)
    assert contents(run) == before


def test_evaluating_an_interrupted_run_does_not_finish_it(tmp_path, monkeypatch):
    """Refused or not, the run goes on afterwards."""
    run = open_run(tmp_path / "run", CONFIG)
    monkeypatch.setattr(table_of_runs, "load_experiment", lambda *arguments: None)
    monkeypatch.setattr(table_of_runs, "baselines", lambda *arguments: {})
    monkeypatch.setattr(table_of_runs, "trained", lambda *arguments: {})
    figures = {column.key: 0.5 for column in COLUMNS}
    results = Results(0, "images", "net", 20, 5, {"none": DefenseResult(figures, {}, figures, 0.5)}, 28)
    monkeypatch.setattr(compare, "compare", lambda *arguments: results)
    with contextlib.suppress(RunError):
        evaluate_runs([run], run, tmp_path / "sets")
    assert open_run(run, CONFIG) == run


@pytest.mark.parametrize("config", [CONFIG, UNUSUAL], ids=["same", "other"])
def test_overwrite_removes_a_run_whole(tmp_path, config):
    run = open_run(tmp_path / "run", CONFIG)
    finish(run)
    (run / "state").mkdir()
    (run / "state" / "epoch-3.index").write_bytes(b"old")
    open_run(run, config, overwrite=True)
    assert list(contents(run)) == [CONFIG_FILE]
    assert read_config(run) == config


def test_overwrite_makes_a_folder_that_is_not_there(tmp_path):
    assert read_config(open_run(tmp_path / "run", CONFIG, overwrite=True)) == CONFIG


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["thesis.tex", ".hidden", "results.json"])
def test_a_folder_of_other_files_is_refused_and_untouched(tmp_path, overwrite, name):
    (tmp_path / name).write_text("years of work")
    (tmp_path / "figures").mkdir()
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"is no run directory: config\.json is missing"):
        open_run(tmp_path, CONFIG, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("text", ["", "[1, 2]", '"text"', '{"compilerOptions": {}}', '{"versions": {}, "x": 1}'])
def test_another_programs_config_file_is_refused_and_untouched(tmp_path, overwrite, text):
    (tmp_path / CONFIG_FILE).write_text(text)
    (tmp_path / "thesis.tex").write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"config\.json"):
        open_run(tmp_path, CONFIG, overwrite=overwrite)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_folders_place_is_refused_and_untouched(tmp_path, overwrite):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match=r"run is a file; expected a folder"):
        open_run(tmp_path / "run", CONFIG, overwrite=overwrite)
    assert contents(tmp_path) == {"run": b"a file"}


def test_reading_says_that_there_is_no_folder(tmp_path):
    with pytest.raises(RunError, match=r"no such directory: .*absent \(expected the folder of a training run\)"):
        read_config(tmp_path / "absent")


def test_reading_says_that_there_is_no_configuration(tmp_path):
    with pytest.raises(RunError, match=r"is no run directory: config\.json is missing"):
        read_config(tmp_path)


DAMAGES = {
    "truncated": (lambda value: json.dumps(value).encode()[:-20], r" is no JSON: "),
    "binary": (lambda value: bytes(range(256)), r" is no JSON: "),
    "a list": (lambda value: b"[]", r": expected an object of experiment, guidance, .*, received \[\]$"),
    "unknown": (lambda value: {**value, "momentum": 0.9}, r": expected experiment, .*, received 'momentum'$"),
    "missing": (lambda value: {"width": 0.5}, r": expected 'experiment', received none$"),
    "other": (lambda value: {"experiment": {"network": "x"}}, r": experiment: expected target, .*'network'$"),
    "a text": (lambda value: {**value, "width": "1"}, r": width: expected a number, received '1'$"),
    "targets": (
        lambda value: {"experiment": {"target": [1]}},
        r": experiment: target: expected a text, received \[1\]$",
    ),
    "a choice": (
        lambda value: {**value, "craft": "now"},
        r": craft: expected one of stored, online, adaptive, noise, received 'now'$",
    ),
    "together": (lambda value: {**value, "frozen_statistics": True}, r": `frozen_statistics` keeps those of `init_"),
    "a transport": (
        lambda value: {"experiment": {"test_transports": ["jpg"]}},
        r": experiment: test_transports: transport 'jpg': expected none, or of jpeg",
    ),
    "folding": (
        lambda value: {**value, "block_size": 2},
        r": block_size: denoisers that fold pixels into channels are no longer supported, received 2$",
    ),
    "twice": (lambda value: b'{"width": 1, "width": 2}', r": expected each name once in an object, received 'width'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_reading_a_damaged_configuration_is_an_error_that_says_what_is_expected(tmp_path, damage):
    run = open_run(tmp_path / "run", CONFIG)
    file = run / CONFIG_FILE
    change, message = DAMAGES[damage]
    damaged = change(json.loads(file.read_text()))
    file.write_bytes(damaged if isinstance(damaged, bytes) else json.dumps(damaged).encode())
    with pytest.raises(RunError, match=rf"run/config\.json{message}") as raised:
        read_config(run)
    assert "\n" not in str(raised.value)


WRONG = {"epochs": 0, "ema": 1.0, "recipe": "white_eps4", "attack_sizes": (7,), "width": math.nan, "guidance": "lgd"}


@pytest.mark.parametrize("name", WRONG)
def test_python_files_and_flags_meet_the_same_error(tmp_path, name):
    value = WRONG[name]
    with pytest.raises(HgdError) as in_python:
        dataclasses.replace(CONFIG, **{name: value})
    with pytest.raises(HgdError) as in_a_file:
        TrainConfig.from_json({**CONFIG.to_json(), name: value})
    command = flags.FlagValues()
    config_flags.define_flag(settings(TrainConfig)[name], command)
    with pytest.raises(flags.IllegalFlagValueError) as on_the_command_line:
        command(["train", f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"])
    assert str(in_python.value) == str(in_a_file.value)
    assert str(on_the_command_line.value).endswith(f": {in_python.value}")
    assert str(in_python.value).startswith(f"{name}: expected ")


@pytest.mark.parametrize("config", [CONFIG, UNUSUAL], ids=["usual", "unusual"])
def test_a_configuration_survives_json(config):
    back = TrainConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert back == config
    assert isinstance(back.experiment.members, tuple)


def test_a_configuration_from_before_networks_were_named_is_read(tmp_path, recwarn):
    run = open_run(tmp_path / "run", CONFIG)
    value = json.loads((run / CONFIG_FILE).read_text())
    for name in ("networks", "class_split", "images"):
        del value["experiment"][name]
    value["experiment"].update(data_dir=None, photographs=None)  # old names, under which nothing is said
    (run / CONFIG_FILE).write_text(json.dumps(value))
    assert read_config(run) == CONFIG
    assert open_run(run, CONFIG) == run
    assert not recwarn.list


@pytest.mark.parametrize("old", ["data_dir", "photographs"])
def test_a_run_whose_images_have_an_old_name_goes_on(tmp_path, old):
    """Wherever they are now."""
    config = dataclasses.replace(CONFIG, experiment=dataclasses.replace(CONFIG.experiment, images="/gone"))
    run = open_run(tmp_path / "run", config)
    value = json.loads((run / CONFIG_FILE).read_text())
    del value["experiment"]["images"]
    value["experiment"].update({"data_dir": None, "photographs": None, old: "/gone"})
    (run / CONFIG_FILE).write_text(json.dumps(value))
    with pytest.warns(UserWarning, match=f"{old} is images now"):
        assert open_run(run, config) == run
    value["experiment"]["images"] = "/elsewhere"
    (run / CONFIG_FILE).write_text(json.dumps(value))
    with pytest.raises(RunError, match=r"expected one value of images, received .*/gone"):
        read_config(run)


def test_the_embedded_images_are_said_in_two_ways():
    assert ExperimentConfig(images="embedded") == ExperimentConfig()


def test_the_unusual_configuration_leaves_no_default():
    """So that the round trip covers every field."""
    usual = TrainConfig(ExperimentConfig())
    for field in dataclasses.fields(TrainConfig):
        assert getattr(UNUSUAL, field.name) != getattr(usual, field.name), field.name
    for field in dataclasses.fields(ExperimentConfig):
        assert getattr(UNUSUAL.experiment, field.name) != getattr(usual.experiment, field.name), field.name


def test_a_configuration_from_when_pixels_could_be_folded_is_read(recwarn):
    assert TrainConfig.from_json({**CONFIG.to_json(), "block_size": 1}) == CONFIG
    assert not recwarn


def test_a_guidances_old_name_becomes_todays_which_is_said():
    old = {**CONFIG.to_json(), "guidance": "feature_logits"}
    with pytest.warns(UserWarning, match=r"guidance feature_logits is feature\+logits now"):
        assert TrainConfig.from_json(old) == dataclasses.replace(CONFIG, guidance="feature+logits")


@pytest.mark.parametrize(
    "changes, name",
    [
        ({}, "logits"),
        ({"guidance": "pixel"}, "pixel"),
        ({"guidance": "pixel", "output_scale": 2.0}, "pixel_x2"),
        ({"guidance": "pixel", "denoiser": "dae"}, "dae"),
        ({"guidance": "feature", "denoiser": "dae"}, "dae_feature"),
        ({"guidance": "feature+logits"}, "feature_logits"),
        ({"guidance": "logits_distillation"}, "logits_distillation"),
    ],
)
def test_a_defense_is_named_after_its_guidance(changes, name):
    assert dataclasses.replace(CONFIG, **changes).defense_name == name
