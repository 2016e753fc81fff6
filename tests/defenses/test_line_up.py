"""Ensembles described in files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from small_set import FEW_CONVOLUTIONS

from hgd_tf.competition.entries import load_entries
from hgd_tf.defenses import Classifier, Defense, load_defense, save_defense
from hgd_tf.defenses import line_up as line_up_module
from hgd_tf.defenses.ensemble import Ensemble, Flow
from hgd_tf.defenses.line_up import described_parts, load_parts, read_line_up, title
from hgd_tf.denoisers import dunet, median
from hgd_tf.errors import RunError
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import TARGETS, load_target

SUBMISSION = Path(__file__).parents[2] / "submission"
DESCRIPTIONS = [*sorted(SUBMISSION.glob("*.json")), *sorted(SUBMISSION.parent.glob("defenses/*/models.json"))]
DESCRIPTIONS.remove(SUBMISSION / "metadata.json")
DESCRIPTION = {
    "denoisers": {"A": {"defense": "saved"}, "B": {"defense": "other"}},
    "targets": {"X": {"name": "mini_vgg"}, "Y": {"name": "mini_resnet"}},
    "flows": ["A->X", " A & B -> X & Y ", "Y"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds two defenses and a description of an ensemble."""
    path = tmp_path_factory.mktemp("line_up")
    target = load_target("mini_vgg")
    save_defense(Defense(median(1), target), path / "saved")
    images = keras.Input((None, None, 1))
    blur = keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="ones", name="blur")
    save_defense(Defense(keras.Model(images, blur(images) / 9), target), path / "other")
    describe(path)
    return path


def describe(folder: Path, **changes) -> Path:
    path = folder / ("line_up.json" if not changes else "changed.json")
    path.write_text(json.dumps({**DESCRIPTION, **changes}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)


def test_a_description_gives_the_ensemble_of_its_flows(folder, images, monkeypatch):
    ensemble = read_line_up(folder / "line_up.json").load()
    assert [flow.title for flow in ensemble.flows] == ["A->X", "A&B->X&Y", "Y"]
    assert [len(flow.targets) for flow in ensemble.flows] == [1, 2, 1]
    monkeypatch.chdir(folder)
    one, other = (keras.models.load_model(f"{name}/denoiser.keras", compile=False) for name in ("saved", "other"))
    x, y = load_target("mini_vgg"), load_target("mini_resnet")
    expected = Ensemble([Flow([one], [x], "1"), Flow([one, other], [x, y], "2"), Flow([], [y], "3")])
    np.testing.assert_allclose(ensemble(images)["logits"], expected(images)["logits"], rtol=1e-5, atol=1e-5)


def test_load_defense_loads_a_file_as_well_as_a_folder_and_a_shipped_name(folder, images):
    kinds = {folder / "line_up.json": Ensemble, str(folder / "saved"): Defense, "mini_inception_lgd": Defense}
    for source, kind in kinds.items():
        classifier = load_defense(source)
        assert type(classifier) is kind and isinstance(classifier, Classifier)
        assert (classifier.channels, classifier.classes, classifier.sizes) == (1, 10, (28,))
        assert {"logits", "probabilities", "classes"} <= set(classifier(images))
    with pytest.raises(ValueError, match=r"line_up\.json is a line-up.*: expected no other argument"):
        load_defense(folder / "line_up.json", target=load_target("mini_vgg"))
    with pytest.raises(RunError, match=r"no such description of an ensemble: absent\.json"):
        load_defense("absent.json")


def test_a_flow_weighs_in_the_mean_of_logits_what_it_says_or_its_number_of_targets(folder, images):
    flows = [{"flow": "A->X", "weight": 0.5}, "A&B->X&Y", {"flow": "Y", "weight": 3}]
    ensemble = read_line_up(describe(folder, flows=flows)).load()
    assert [flow.weight for flow in ensemble.flows] == [0.5, 2, 3]
    answers = [flow(images)["logits"].numpy().astype(np.float64) for flow in ensemble.flows]
    expected = np.average(answers, axis=0, weights=[0.5, 2, 3])
    np.testing.assert_allclose(ensemble(images)["logits"], expected, rtol=1e-5, atol=1e-5)


def test_parts_are_shared_by_the_flows(folder):
    first, second, third = read_line_up(folder / "line_up.json").load().flows
    assert first.targets[0] is second.targets[0]
    assert second.targets[1] is third.targets[0]
    assert first.channels == 1


def test_a_filter_is_a_denoiser(folder, images):
    filters = {"A": {"filter": "median", "channels": 1}, "B": {"filter": "gaussian"}}
    ensemble = read_line_up(describe(folder, denoisers=filters, flows=["A->X"])).load()
    expected = Defense(median(1), load_target("mini_vgg"))(images)
    np.testing.assert_allclose(ensemble(images)["logits"], expected["logits"], rtol=1e-5, atol=1e-5)


def test_a_scale_multiplies_the_predicted_noise(folder, images):
    denoiser = dunet(1 / 32, 1, **FEW_CONVOLUTIONS)
    save_defense(Defense(denoiser, load_target("mini_vgg")), folder / "dunet")
    scaled = {"A": {"defense": "dunet", "output_scale": 2}, "B": {"defense": "dunet", "output_scale": 0.5}}
    twice, half = read_line_up(describe(folder, denoisers=scaled, flows=["A->X", "B->X"])).load().flows
    pixels = images.astype(np.float32)
    noise = denoiser(pixels, training=False) - pixels
    assert np.abs(noise).max() > 1
    np.testing.assert_allclose(twice.denoise(images) - pixels, 2 * noise, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(half.denoise(images) - pixels, noise / 2, rtol=1e-3, atol=1e-2)


def test_a_denoiser_that_predicts_no_noise_has_no_scale(folder):
    scaled = {"A": {"defense": "saved", "output_scale": 2}}
    line_up = read_line_up(describe(folder, denoisers=scaled, flows=["A->X"]))
    with pytest.raises(RunError, match=r"A: output_scale: expected a denoiser that predicts noise.*received median"):
        line_up.load()


def test_line_ups_of_the_same_parts_load_each_once(folder, images, monkeypatch):
    loaded = []

    def noting(load):
        def noted(name, *arguments):
            loaded.append(Path(name).name)
            return load(name, *arguments)

        return noted

    for function in ("load_denoiser", "load_target"):
        monkeypatch.setattr(line_up_module, function, noting(getattr(line_up_module, function)))
    parts = described_parts(folder / "line_up.json", DESCRIPTION)
    line_ups = [parts.with_flows(flows) for flows in (["A->X"], ["A&B->X"], ["X", "A->X"])]
    loaded_parts = load_parts(line_ups)
    assert sorted(loaded) == ["mini_vgg", "other", "saved"]
    one, two, three = (line_up.through(loaded_parts) for line_up in line_ups)
    assert one.flows[0].targets[0] is two.flows[0].targets[0] is three.flows[1].targets[0]
    alone = line_ups[1].load()
    np.testing.assert_allclose(two(images)["logits"], alone(images)["logits"], rtol=1e-5, atol=1e-5)


def test_only_what_flows_use_is_loaded(folder):
    unused = {**DESCRIPTION["targets"], "absent": {"name": "resnet152", "checkpoint": "absent.pth"}}
    ensemble = read_line_up(describe(folder, targets=unused, flows=["X"])).load()
    assert [flow.title for flow in ensemble.flows] == ["X"]


def test_a_target_may_have_another_size(folder, images):
    sizes = {"X": {"name": "mini_vgg"}, "Y": {"name": "mini_vgg", "image_size": 56}}
    ensemble = read_line_up(describe(folder, targets=sizes, flows=["X&Y"])).load()
    assert [target.image_size for target in ensemble.flows[0].targets] == [28, 56]
    assert ensemble(images)["logits"].shape == (3, 10)


def test_published_files_are_looked_for_beside_the_description_and_in_the_folder_of_weights(folder, monkeypatch):
    monkeypatch.setenv("HGD_CHECKPOINTS", str(folder / "weights"))
    official = {"A": {"official": "a.ckpt", "preprocessing": "torch"}}
    line_up = read_line_up(describe(folder, denoisers=official, flows=["A->X"]))
    with pytest.raises(RunError, match=rf"A: no such file: {folder}/weights/a\.ckpt"):
        line_up.load()
    (folder / "a.ckpt").write_text("words")
    with pytest.raises(RunError, match=rf"A: {folder}/a\.ckpt is truncated, damaged or no PyTorch file"):
        line_up.load()
    (folder / "a.ckpt").unlink()


@pytest.mark.slow
def test_loading_all_at_a_time_gives_the_same_every_time(folder, images):
    """With threads that take turns as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        line_up = read_line_up(folder / "line_up.json")
        answers = [line_up.load()(images)["logits"].numpy() for _ in range(20)]
    finally:
        sys.setswitchinterval(interval)
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-5, atol=1e-5)


def test_everything_that_is_missing_is_named_at_once(folder):
    targets = {"X": {"name": "mini_vgg"}, "Y": {"name": "mini_vgg", "checkpoint": "absent.h5"}}
    denoisers = {"A": {"defense": "nowhere"}, "B": {"official": "absent.ckpt", "preprocessing": "caffe"}}
    line_up = read_line_up(describe(folder, denoisers=denoisers, targets=targets, flows=["A&B->X&Y"]))
    with pytest.raises(RunError) as error:
        line_up.load()
    for part in (
        "changed.json: 3 of 4 parts cannot be loaded: A: ",
        "nowhere holds no defense",
        "B: preprocessing must be one of inception, torch, received 'caffe'",
        "absent.h5",
    ):
        assert part in str(error.value)


MISTAKES = {
    "no section": ({"flows": None}, r"expected 'flows', a JSON array"),
    "section of another kind": ({"targets": ["mini_vgg"]}, r"expected 'targets', a JSON object"),
    "unknown section": ({"weights": {}}, r"expected denoisers, targets, flows, received 'weights'"),
    "no flow": ({"flows": []}, r"expected at least one flow, such as 'A->X', received none"),
    "flow of another kind": ({"flows": [["A", "X"]]}, r"expected a flow such as 'A->X', .*received \['A', 'X'\]"),
    "flow without weight": ({"flows": [{"flow": "A->X"}]}, r"expected a flow such as .*received \{'flow': 'A->X'\}"),
    "flow of nothing": ({"flows": [{"weight": 1}]}, r"expected a flow such as .*received \{'weight': 1\}"),
    "no weight": ({"flows": [{"flow": "A->X", "weight": 0}]}, r"weight: expected a positive number, received 0"),
    "endless weight": ({"flows": [{"flow": "A->X", "weight": float("inf")}]}, r"weight: expected a positive .* inf"),
    "weight in words": ({"flows": [{"flow": "A->X", "weight": "1"}]}, r"weight: expected a positive .* '1'"),
    "true weight": ({"flows": [{"flow": "A->X", "weight": True}]}, r"weight: expected a positive .* True"),
    "two arrows": ({"flows": ["A->B->X"]}, r"expected one -> in a flow, received 'A->B->X'"),
    "unknown denoiser": ({"flows": ["C->X"]}, r"flow 'C->X' names denoiser 'C'; described are A, B"),
    "unknown target": ({"flows": ["A->X&Z"]}, r"flow 'A->X&Z' names target 'Z'; described are X, Y"),
    "target as denoiser": ({"flows": ["X->X"]}, r"names denoiser 'X'"),
    "nothing described": ({"denoisers": {}}, r"names denoiser 'A'; described are none"),
    "nobody's name": ({"flows": ["A->"]}, r"flow 'A->' names target ''"),
    "one name for two": (
        {"targets": {"A": {"name": "mini_inception"}}},
        r"A is the name of a denoiser and of a target",
    ),
    "denoiser of nothing": ({"denoisers": {"A": {}}}, r"A: expected 'defense', perhaps 'output_scale', received \{\}"),
    "denoiser in words": ({"denoisers": {"A": "saved"}}, r"A: expected 'defense', perhaps .*, received 'saved'"),
    "unknown filter": (
        {"denoisers": {"A": {"filter": "mean"}}},
        r"A: expected a filter of gaussian, median, received 'mean'",
    ),
    "channels in words": (
        {"denoisers": {"A": {"filter": "median", "channels": "3"}}},
        r"A: channels: expected a number",
    ),
    "both kinds": (
        {"denoisers": {"A": {"official": "a.ckpt", "defense": "saved"}}},
        r"A: expected 'official', perhaps 'preprocessing', perhaps 'output_scale', received",
    ),
    "scaled filter": (
        {"denoisers": {"A": {"filter": "median", "output_scale": 2}}},
        r"A: expected 'filter', perhaps 'channels', received",
    ),
    "scale in words": (
        {"denoisers": {"A": {"defense": "saved", "output_scale": "2"}}},
        r"A: output_scale: expected a number, received '2'",
    ),
    "no scale": (
        {"denoisers": {"A": {"defense": "saved", "output_scale": 0}}},
        r"A: output_scale: expected a positive number, received 0",
    ),
    "nameless target": ({"targets": {"X": {"image_size": 28}}}, r"X: expected 'name', perhaps 'checkpoint', perhaps"),
    "size in words": (
        {"targets": {"X": {"name": "mini_vgg", "image_size": "56"}}},
        r"X: image_size: expected a number, received '56'",
    ),
    "name in numbers": ({"targets": {"X": {"name": 5}}}, r"X: name: expected a text, received 5"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_malformed_description_is_an_error_that_says_what_is_expected(tmp_path, name):
    changes, message = MISTAKES[name]
    with pytest.raises(RunError, match=rf"changed\.json: .*{message}"):
        read_line_up(describe(tmp_path, **changes))


def test_a_missing_description_and_one_that_is_no_json_are_errors(tmp_path):
    with pytest.raises(RunError, match=r"no such description of an ensemble: .*absent\.json"):
        read_line_up(tmp_path / "absent.json")
    for content in ("{", "\N{BYTE ORDER MARK}", ""):
        (tmp_path / "words.json").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"words\.json is no JSON"):
            read_line_up(tmp_path / "words.json")
    (tmp_path / "words.json").write_text("[]")
    with pytest.raises(RunError, match=r"words\.json: expected 'denoisers', a JSON object"):
        read_line_up(tmp_path / "words.json")
    (tmp_path / "words.json").write_text('{"denoisers": {"A": {"defense": "saved"}, "A": {"defense": "other"}}}')
    with pytest.raises(RunError, match=r"words\.json: expected each name once in an object, received 'A' twice"):
        read_line_up(tmp_path / "words.json")


def test_a_flow_is_written_in_the_papers_signs():
    assert title(("A", "B"), ("X", "Y")) == "A&B->X&Y"
    assert title((), ("X",)) == "X"


@pytest.mark.parametrize("path", DESCRIPTIONS, ids=[f"{path.parent.name}/{path.stem}" for path in DESCRIPTIONS])
def test_the_projects_descriptions_name_registered_targets(path):
    line_up = read_line_up(path)
    described = json.loads(path.read_text(encoding="utf-8"))
    assert {entry["name"] for entry in described["targets"].values()} <= set(TARGETS)
    used = {part for flow in line_up.flows for part in (*flow.denoisers, *flow.targets)}
    assert used == {*line_up.denoisers, *line_up.targets}


def test_the_projects_defenses_are_entries_of_the_competition():
    entries = load_entries([SUBMISSION.parent / "defenses", SUBMISSION.parent], ["defense"])
    assert [entry.name for entry in entries] == ["ensemble", "lgd", "median", "none", "submission"]
