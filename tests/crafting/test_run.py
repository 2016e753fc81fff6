"""Sets on disk: the same bytes however often they were interrupted, and nothing wrong goes unnoticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_set import content_of, small_images, small_roles

from hgd_tf.attacks import TEST_SETS, TRAINING_RECIPES
from hgd_tf.attacks.recipes import TARGET, TRAIN_MIX, TRAIN_SET, RecipeAttack
from hgd_tf.crafting import SetPlan, craft_set, open_shards, read_manifest
from hgd_tf.crafting.shards import FORMATS
from hgd_tf.crafting.verify import format_summary, summarize, verify_set
from hgd_tf.data import LabeledImages
from hgd_tf.data.labeled_files import LabeledFile
from hgd_tf.data.sources import ArraySource, FileSource
from hgd_tf.errors import DataError

every_format = pytest.mark.parametrize("shard_format", list(FORMATS))
WHITE = TEST_SETS[0]


@pytest.fixture(scope="module")
def roles():
    return small_roles()


def plan_of(roles, recipe=TRAIN_MIX, source=None, shard_size=4, judged=True, **changes) -> SetPlan:
    judges = (*roles.members, roles.holdout) if judged else ()
    source = source or ArraySource(small_images(), "image")
    return SetPlan(
        recipe, roles, source, **{"seed": 0, "batch_size": 3, **changes}, shard_size=shard_size, judges=judges
    )


def read(folder) -> list:
    shards = open_shards(folder, read_manifest(folder))
    return [record for shard in range(shards.shard_count) for record in shards.read(shard)]


@pytest.fixture(scope="module")
def whole(roles, tmp_path_factory):
    """An unbroken run in each format."""
    folders = {}
    for name in FORMATS:
        folders[name] = tmp_path_factory.mktemp(name)
        craft_set(plan_of(roles), folders[name], name)
    return folders


def copy_of(folder: Path, other: Path) -> Path:
    return Path(shutil.copytree(folder, other, dirs_exist_ok=True))


@every_format
def test_a_set_holds_every_image_once_with_what_was_done_to_it(whole, roles, shard_format):
    records, images = read(whole[shard_format]), small_images()
    assert [record.number for record in records] == list(range(14))
    assert [record.name for record in records] == [f"image-{number:06d}" for number in range(14)]
    np.testing.assert_array_equal([record.label for record in records], images.labels)
    np.testing.assert_array_equal([record.clean for record in records], images.images)
    for record in records:
        assert record.attacked.shape == (8, 6, 6, 1)
        distance = np.abs(record.attacked.astype(int) - record.clean)
        np.testing.assert_array_equal(record.attacked[0], record.clean)  # no-op
        assert set(distance[1].ravel()) <= {*range(record.epsilon[1] + 1)}  # the noise, cut at the pixel range
        assert np.all(distance.max(axis=(1, 2, 3))[2:] == record.epsilon[2:])
        np.testing.assert_allclose(record.mean_perturbation, distance.mean(axis=(1, 2, 3)), rtol=1e-6)
        for place, judge in enumerate((*roles.members, roles.holdout)):
            seen = judge(np.stack([record.clean, *record.attacked]))["logits"].numpy().argmax(axis=1)
            np.testing.assert_array_equal(record.answers[place], seen)


def test_both_formats_hold_the_same(whole):
    for first, second in zip(*map(read, whole.values())):
        for one, other in zip(first, second):
            np.testing.assert_array_equal(one, other)


def test_png_files_are_what_pillow_reads(whole):
    record = read(whole["png"])[3]
    for kind, image in zip(("clean", "no_op", "sign_noise", "fgsm_target"), (record.clean, *record.attacked)):
        path = whole["png"] / kind / "image-000003.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image[..., 0])


def test_the_tfrecord_is_what_its_documentation_says(whole):
    (content, *_) = tf.data.TFRecordDataset(
        str(whole["tfrecord"] / "images-00001-of-00004.tfrecord")
    ).as_numpy_iterator()
    features = tf.io.parse_single_example(
        content,
        {
            "name": tf.io.FixedLenFeature((), tf.string),
            "label": tf.io.FixedLenFeature((), tf.int64),
            "clean": tf.io.FixedLenFeature((), tf.string),
            "attack": tf.io.VarLenFeature(tf.string),
            "attacked": tf.io.FixedLenFeature((8,), tf.string),
            "epsilon": tf.io.FixedLenFeature((8,), tf.int64),
        },
    )
    record = read(whole["tfrecord"])[4]
    assert features["name"] == b"image-000004" and features["label"] == record.label
    np.testing.assert_array_equal(tf.io.decode_png(features["clean"]), record.clean)
    np.testing.assert_array_equal(tf.io.decode_png(features["attacked"][5]), record.attacked[5])
    assert features["attack"].values.numpy().tolist()[:3] == [b"no_op", b"sign_noise", b"fgsm_target"]


@every_format
@pytest.mark.parametrize("lost", [[0], [1, 3], [0, 1, 2, 3]])
def test_missing_shards_are_made_again_alike(whole, roles, tmp_path, shard_format, lost):
    copy_of(whole[shard_format], tmp_path)
    shards = open_shards(tmp_path, read_manifest(tmp_path))
    for shard in lost:
        for path in shards.files(shard):
            path.unlink()
    (tmp_path / "manifest.json").unlink()
    crafted = []
    monitored = plan_of(roles)
    records, monitored.records = monitored.records, lambda shard, *rest: crafted.append(shard) or records(shard, *rest)
    craft_set(monitored, tmp_path, shard_format)
    assert crafted == lost
    assert content_of(tmp_path) == content_of(whole[shard_format])


@every_format
def test_what_a_killed_process_left_is_removed(whole, roles, tmp_path, shard_format):
    copy_of(whole[shard_format], tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / ".999999999.tmp.images-00000-of-00004.tfrecord").write_bytes(b"half")
    (tmp_path / "clean").mkdir(exist_ok=True)
    (tmp_path / "clean" / ".999999999.tmp.image-000000.png").write_bytes(b"half")
    craft_set(plan_of(roles), tmp_path, shard_format)
    if shard_format == "tfrecord":
        (tmp_path / "clean").rmdir()
    assert content_of(tmp_path) == content_of(whole[shard_format])


def test_the_shards_order_does_not_matter(whole, roles, tmp_path):
    def backwards(shards, missing):
        plan = plan_of(roles)
        for shard in reversed(missing):
            shards.write(shard, plan.records(shard))

    craft_set(plan_of(roles), tmp_path, craft_shards=backwards)
    assert content_of(tmp_path) == content_of(whole["tfrecord"])


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("seed", {"seed": 1}),
        ("batch_size", {"batch_size": 4}),
        ("shards", {"shard_size": 5}),
        ("networks", {"judged": False}),
        ("recipe", {"recipe": TRAIN_SET}),
    ],
)
def test_another_set_in_the_folder_is_an_error_that_says_how_it_differs(whole, roles, key, change):
    before = content_of(whole["tfrecord"])
    with pytest.raises(DataError, match=f"holds another set: its {key} is"):
        craft_set(plan_of(roles, **change), whole["tfrecord"])
    assert content_of(whole["tfrecord"]) == before


def test_another_number_of_threads_is_an_error_only_where_something_is_missing(roles, tmp_path, monkeypatch):
    craft_set(plan_of(roles, recipe=WHITE), tmp_path)
    monkeypatch.setattr("hgd_tf.crafting.plan.thread_count", lambda: 99)
    assert craft_set(plan_of(roles, recipe=WHITE), tmp_path)["images"] == 14
    (tmp_path / "images-00002-of-00004.tfrecord").unlink()
    with pytest.raises(DataError, match=r"its threads is .*, not 99"):
        craft_set(plan_of(roles, recipe=WHITE), tmp_path)


def test_the_manifest_says_all_that_determines_the_set(whole):
    manifest = read_manifest(whole["tfrecord"])
    assert {
        "recipe": "train_mix", "epsilon": [1, 16], "seed": 0, "batch_size": 3, "shard_size": 4, "shards": 4,
        "images": 14, "left_out": [], "shard_images": [4, 4, 4, 2], "format": "tfrecord", "image_shape": [6, 6, 1],
    }.items() <= manifest.items()  # fmt: skip
    assert manifest["versions"]["tensorflow"] == tf.__version__
    assert [attack["name"] for attack in manifest["attacks"]][2:4] == ["fgsm_target", "fgsm_member"]
    assert set(manifest["networks"]) == {"target", "member", "holdout"}
    assert len(set(manifest["sha256"])) == 4


def test_only_what_a_schedule_does_is_described_so_that_older_sets_keep_their_digests(roles):
    plain, transfer = (plan_of(roles, TRAINING_RECIPES[name]) for name in ("members_mix", "transfer_mix"))
    [schedule], [other] = (plan.description()["attacks"][3]["schedules"] for plan in (plain, transfer))
    assert schedule == {"steps": [0.25] * 4, "start": "image", "momentum": 0.0}
    assert list(schedule) == ["steps", "start", "momentum"]
    assert other == {**schedule, "momentum": 1.0, "diversity": 0.5, "translation": 15}
    assert len({plan.digest() for plan in (plain, transfer)}) == 2
    variant = plan_of(roles, TRAIN_SET._replace(attacks=(RecipeAttack("variance_nesterov_ifgsm10", TARGET),)))
    added = {"momentum": 1.0, "nesterov": True, "neighbours": 20}
    assert variant.description()["attacks"][0]["schedules"] == [{"steps": [0.1] * 10, "start": "image", **added}]


# --- images that are none ---


@pytest.fixture
def files(tmp_path) -> list[LabeledFile]:
    folder = tmp_path / "files"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(7):
        Image.fromarray(rng.integers(256, size=(9, 11), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes((folder / "1.png").read_bytes()[:40])
    (folder / "5.png").write_bytes(b"no image")
    return [LabeledFile(folder / f"{number}.png", number % 5) for number in range(7)]


@every_format
def test_a_file_that_is_no_image_is_named_and_left_out(roles, files, tmp_path, shard_format):
    done = []
    plan = plan_of(roles, source=FileSource(files, 6, 1), shard_size=3)
    manifest = craft_set(plan, tmp_path / "set", shard_format)
    assert manifest["left_out"] == ["2", "5"] and manifest["shard_images"] == [2, 2, 1]
    assert [record.name for record in read(tmp_path / "set")] == ["0", "1", "3", "4", "6"]
    assert verify_set(tmp_path / "set") == 5
    plan.records(0, done.append)
    assert sum(done) == 3 * len(plan.attacks)


def test_the_others_are_as_if_it_had_been_an_image(roles, files, tmp_path):
    """Draws depend on an image's number; a batch that is shorter changes no more than rounding."""
    broken, mended = FileSource(files, 6, 1), [file for file in files]
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "files" / "2b.png")
    mended[2] = LabeledFile(tmp_path / "files" / "2b.png", 2)
    for name, source in (("broken", broken), ("mended", FileSource(mended, 6, 1))):
        craft_set(plan_of(roles, source=source), tmp_path / name)
    others = {record.number: record for record in read(tmp_path / "mended")}
    for record in read(tmp_path / "broken"):
        np.testing.assert_array_equal(record.epsilon, others[record.number].epsilon)
        assert np.mean(record.attacked == others[record.number].attacked) > 0.99


def test_no_image_at_all_is_an_error(roles, tmp_path):
    empty = ArraySource(small_images().head(0), "image")
    with pytest.raises(DataError, match="no images to attack"):
        craft_set(plan_of(roles, source=empty), tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    craft_set(plan_of(roles, source=FileSource([LabeledFile(broken, 0)], 6, 1)), tmp_path / "set")
    with pytest.raises(DataError, match="none of its 1 files is an image"):
        summarize(tmp_path / "set")


# --- verifying ---


@every_format
def test_a_set_as_it_was_written_is_verified(whole, shard_format):
    assert verify_set(whole[shard_format]) == 14


@pytest.fixture
def tampered(whole, tmp_path):
    """A PNG set, whose files are easily changed, and how to make its checksums right again."""
    copy_of(whole["png"], tmp_path)

    def forge():
        manifest = read_manifest(tmp_path)
        shards = open_shards(tmp_path, manifest)
        manifest["sha256"] = [shards.checksum(shard) for shard in range(manifest["shards"])]
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))

    return tmp_path, forge


def change_pixel(path: Path, by: int) -> None:
    pixels = np.asarray(Image.open(path)).astype(int)
    place = np.unravel_index(np.abs(pixels - 128).argmin(), pixels.shape)
    pixels[place] += by
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_verifying_finds_a_changed_file(tampered):
    folder, _ = tampered
    change_pixel(folder / "fgsm_target" / "image-000005.png", 1)
    with pytest.raises(DataError, match=r"images-00001-of-00004\.json is not the file that was written"):
        verify_set(folder)


def test_verifying_finds_a_pixel_outside_the_ball(tampered):
    folder, forge = tampered
    change_pixel(folder / "fgsm_target" / "image-000005.png", 60)
    forge()
    with pytest.raises(DataError, match=r"image image-000005: fgsm_target moved a pixel by \d+, epsilon is"):
        verify_set(folder)


def test_verifying_finds_an_image_of_another_size(tampered):
    folder, forge = tampered
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "clean" / "image-000001.png")
    for kind in read_manifest(folder)["attacks"]:
        Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / kind["name"] / "image-000001.png")
    forge()
    with pytest.raises(DataError, match=r"expected shape \[6, 6, 1\], received \[5, 5, 1\]"):
        verify_set(folder)


def test_verifying_finds_a_wrong_epsilon(tampered):
    folder, forge = tampered
    path = folder / "images-00000-of-00004.json"
    rows = json.loads(path.read_text())
    rows[1]["epsilon"][3] = 17
    path.write_text(json.dumps(rows))
    forge()
    with pytest.raises(DataError, match=r"image-000001: expected epsilon in \[1, 16\], received"):
        verify_set(folder)


def test_verifying_finds_an_image_that_is_gone(tampered):
    folder, forge = tampered
    (folder / "clean" / "image-000009.png").unlink()
    with pytest.raises(DataError, match=r"image-000009\.png"):
        verify_set(folder)
    path = folder / "images-00002-of-00004.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    forge()
    with pytest.raises(DataError, match="expected 4 images, received 1"):
        verify_set(folder)


def test_verifying_finds_an_image_that_is_there_twice(tampered):
    folder, forge = tampered
    path = folder / "images-00000-of-00004.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0], rows[0], *rows[2:]]))
    forge()
    with pytest.raises(DataError, match="expected 14 different images, received 13"):
        verify_set(folder)


def test_a_folder_without_a_complete_set_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no complete set of attacked images"):
        verify_set(tmp_path)


# --- what the attacks do ---


def test_the_summary_is_by_hand(roles, tmp_path, monkeypatch):
    """Two judges, one attack, four images: labels 0, 1, 2 and unknown."""
    images = LabeledImages(small_images().images[:4], np.array([0, 1, 2, -1]))
    recipe = WHITE._replace(attacks=WHITE.attacks[:1])
    plan = SetPlan(recipe, roles, ArraySource(images, "image"), 0, 4, 4, judges=roles.members)
    clean_and_attacked = iter([[0, 1, 4, 3], [0, 4, 4, 1], [0, 1, 2, 2], [0, 1, 2, 2]])
    monkeypatch.setattr(plan, "_answers", lambda *_: np.array(next(clean_and_attacked)))
    craft_set(plan, tmp_path)
    summary = summarize(tmp_path)
    np.testing.assert_allclose(summary.accuracy, [[2 / 3, 1 / 3], [1.0, 1.0]])
    np.testing.assert_allclose(summary.success, [[2 / 3], [0.0]])  # right clean: 0, 1 and the unknown one
    record = read(tmp_path)[0]
    assert record.mean_perturbation[0] == np.abs(record.attacked[0].astype(int) - record.clean).mean().astype(
        np.float32
    )
    assert "66.7 %" in format_summary(summary) and "33.3 % (66.7 %)" in format_summary(summary)
