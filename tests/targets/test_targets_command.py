"""`python -m hgd_tf.targets`: the list, conversion, verification and download."""

from __future__ import annotations

import http.server
import re
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from warm_commands import Outcome, run_warm

from hgd_tf.targets import TARGETS, Target, build_target, load_target
from hgd_tf.targets.published import find_published


def _run(*arguments: str) -> Outcome:
    done = run_warm(Path.cwd(), "hgd_tf.targets", arguments)
    assert done.status == 0, done.stderr
    return done


def test_the_list_shows_every_target_with_its_figures_and_whether_it_is_there(tmp_path):
    (tmp_path / "inception_v4_2016_09_09.tar.gz").touch()
    (tmp_path / "resnet_v2_50.ckpt.index").touch()
    (tmp_path / "resnet152-0123abcd.pth").touch()
    listing = _run(f"--checkpoint_dir={tmp_path}")
    assert listing.stderr == ""
    rows = dict(zip(TARGETS, listing.stdout.splitlines()[-len(TARGETS) :]))
    for name, spec in TARGETS.items():
        assert rows[name].split()[0] == name
        assert f"{spec.image_size}x{spec.image_size}x{spec.channels}" in rows[name]
        assert f"{spec.parameters:,}" in rows[name] and f"{100 * spec.accuracy:.1f} %" in rows[name]
        assert (spec.published.url if spec.published else "this package") in rows[name]
    present = {name for name, row in rows.items() if " present " in row}
    lites = {name for name in TARGETS if name.startswith("efficientnet_lite")}
    assert present - lites == {"inception_v4", "resnet_v2_50", "resnet152"}
    assert {name for name, row in rows.items() if " shipped " in row} == {name for name in TARGETS if "mini" in name}


@pytest.fixture(scope="module")
def lite0(randomize):
    """EfficientNet-Lite0 with random weights."""
    return randomize(build_target("efficientnet_lite0"))


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory, lite0):
    folder = tmp_path_factory.mktemp("checkpoints")
    lite0.save(folder / "efficientnet_lite0.keras")
    return folder


def test_verify_counts_what_is_right_and_names_what_is_no_image(tmp_path, lite0, checkpoint_dir):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (8, 30, 40, 3)).astype(np.uint8)
    logits = Target(lite0, name="lite0")(images)["logits"].numpy()
    ranking = np.argsort(-logits, axis=1)
    ranks = [0, 0, 0, 1, 4, 5, 9, 0]  # of the label that each image is given
    lines = ["file,label"]
    for number, rank in enumerate(ranks):
        Image.fromarray(images[number]).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{ranking[number, rank]}")
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:100])
    (tmp_path / "labels.csv").write_text("\n".join([*lines, "broken.png,1"]))
    flags = [f"--images={tmp_path}", f"--labels={tmp_path}/labels.csv", "--batch_size=3"]
    done = _run("verify", "efficientnet_lite0", f"--checkpoint_dir={checkpoint_dir}", *flags)
    broken, result = done.stdout.splitlines()
    assert broken == f"left out, no image: {tmp_path}/broken.png"
    assert "8 images: top-1 50.00 % (95 % interval ±34.6), top-5 75.00 %" in result
    assert float(re.search(r"([\d.]+) images/s", result)[1]) > 0
    samples = _run("verify", "efficientnet_lite0", f"--checkpoint_dir={checkpoint_dir}", "--images=samples")
    assert "12 images: top-1 " in samples.stdout


@pytest.mark.slow
def test_a_converted_target_loads_with_the_same_answers_at_any_size(lite0, checkpoint_dir, tmp_path, relative_error):
    _run("convert", "efficientnet_lite0", f"--checkpoint_dir={checkpoint_dir}", f"--output={tmp_path}/again.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    target = load_target("efficientnet_lite0", str(tmp_path / "again.keras"))
    assert relative_error(target(images)["logits"], lite0(images, training=False)["logits"]) < 1e-4
    other = build_target("efficientnet_lite0", 160)
    other.set_weights(lite0.get_weights())
    smaller = load_target("efficientnet_lite0", image_size=160, checkpoint_dir=str(checkpoint_dir))
    resized = tf.image.resize(images, (160, 160), antialias=True)
    assert relative_error(smaller(images)["logits"], other(resized, training=False)["logits"]) < 1e-4


class Server(http.server.ThreadingHTTPServer):
    """Serves one content at every address."""

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


def test_fetch_downloads_what_is_then_found(tmp_path):
    (tmp_path / "inception_v3.ckpt").write_bytes(b"weights" * 1000)
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "inception_v3.ckpt", "inception_v3.ckpt")
    content, folder = (tmp_path / "archive.tar.gz").read_bytes(), tmp_path / "checkpoints"
    with Server(content) as server:
        done = _run("fetch", "inception_v3", f"--url={server.url}", f"--checkpoint_dir={folder}")
        server.shutdown()
    assert done.stdout == f"inception_v3: {folder}/inception_v3_2016_08_28.tar.gz\n"
    found = find_published("inception_v3", TARGETS["inception_v3"].published, folder)
    assert found == folder / "inception_v3_2016_08_28.tar.gz" and found.read_bytes() == content


def test_fetch_refuses_another_file_than_the_published_one(tmp_path):
    with Server(b"\x80\x02weights" * 1000) as server:
        fetch = ["fetch", "resnet152", f"--url={server.url}", f"--checkpoint_dir={tmp_path}"]
        done = run_warm(Path.cwd(), "hgd_tf.targets", fetch)
    assert done.status == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {server.url}: ")
    assert "expected a SHA-256 that begins with b121ed2d" in done.stderr
    assert list(tmp_path.iterdir()) == []
