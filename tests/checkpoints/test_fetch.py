"""Downloads against a local server that misbehaves: complete or absent, and resumable."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from heed_sigint import HEED_SIGINT

from hgd_tf.checkpoints import fetch as fetch_module
from hgd_tf.checkpoints.fetch import fetch
from hgd_tf.errors import CheckpointError

MODIFIED = "Mon, 28 Aug 2017 00:00:00 GMT"


def archive(seed: int = 0, size: int = 300_000) -> bytes:
    content = np.random.default_rng(seed).bytes(size)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("network.ckpt")
        entry.size = size
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` and does once, request by request, what `script` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.ranges, self.content_type = archive(), '"1"', True, "application/gzip"
        self.script: list[str] = []
        self.requests: list[dict] = []
        self.sent: list[int] = []
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/network.tar.gz"

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        action = server.script.pop(0) if server.script else ""
        if action.isdigit():
            return self.send_error(int(action))
        start, status = 0, 200
        if "Range" in self.headers and server.ranges and self.headers.get("If-Range") == server.tag:
            start, status = int(self.headers["Range"][6:-1]), 206
        body = server.content[start:]
        self.send_response(status)
        for name, value in (("Content-Type", server.content_type), ("ETag", server.tag), ("Last-Modified", MODIFIED)):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if action in ("truncate", "stall"):
            body = body[: len(body) // 2]
        server.sent.append(len(body))  # before the last byte, after which the client may look here
        self.wfile.write(body)
        self.wfile.flush()
        if action == "stall":
            server.release.wait(10)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch_module, "PAUSE", 0.01)
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "files" / "network.tar.gz"


def _present(path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir()) if path.parent.exists() else []


def test_a_file_arrives_whole_and_alone(server, path):
    assert fetch(server.url, path) == path
    assert path.read_bytes() == server.content
    assert _present(path) == ["network.tar.gz"]
    assert server.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_after_a_broken_or_stalled_connection_only_the_rest_is_asked_for(server, path, fault):
    server.script = [fault]
    fetch(server.url, path, timeout=0.3)
    half = len(server.content) // 2
    assert path.read_bytes() == server.content
    assert server.requests[1]["Range"] == f"bytes={half}-"
    assert server.sent == [half, len(server.content) - half]
    assert _present(path) == ["network.tar.gz"]


def test_given_up_it_keeps_what_came_and_the_next_call_goes_on(server, path):
    server.script = ["stall"] + ["503"] * 3
    with pytest.raises(CheckpointError, match=r"the server answers 503"):
        fetch(server.url, path, timeout=0.3, attempts=3)
    half = len(server.content) // 2
    assert not path.exists() and path.with_name("network.tar.gz.part").stat().st_size == half
    fetch(server.url, path)
    assert path.read_bytes() == server.content
    assert server.requests[-1]["Range"] == f"bytes={half}-"


def test_a_server_that_stalls_for_ever_is_given_up_with_the_count(server, path):
    server.script = ["stall"] * 2
    with pytest.raises(CheckpointError, match=r"\d+,\d+ of \d+,\d+ bytes received, then .*; the same command goes on"):
        fetch(server.url, path, timeout=0.2, attempts=1)
    assert not path.exists()


def test_a_server_without_ranges_sends_it_all_again(server, path):
    server.ranges, server.script = False, ["truncate"]
    fetch(server.url, path)
    assert path.read_bytes() == server.content
    assert server.sent == [len(server.content) // 2, len(server.content)]


def test_a_file_that_changed_in_between_is_not_mixed(server, path):
    server.script = ["truncate", "404"]
    with pytest.raises(CheckpointError, match="404"):
        fetch(server.url, path)
    server.content, server.tag = archive(seed=1), '"2"'
    fetch(server.url, path)
    assert path.read_bytes() == server.content


def test_a_part_of_another_address_is_not_continued(server, path):
    server.script = ["truncate", "404"]
    with pytest.raises(CheckpointError):
        fetch(server.url, path)
    fetch(server.url + "?mirror", path)
    assert path.read_bytes() == server.content
    assert "Range" not in server.requests[-1]


def test_a_range_that_the_server_refuses_starts_anew(server, path):
    server.script = ["truncate", "416"]
    fetch(server.url, path)
    assert path.read_bytes() == server.content
    assert "Range" not in server.requests[-1]


def test_a_web_page_is_no_file(server, path):
    server.content, server.content_type = b"<html>log in first</html>", "text/html"
    with pytest.raises(CheckpointError, match=r"gives a web page.*log in first"):
        fetch(server.url, path)
    assert _present(path) == []


def test_an_error_page_of_another_type_is_no_file(server, path):
    server.content = b'{"error": "quota exceeded"}'
    with pytest.raises(CheckpointError, match=r"quota exceeded.*removed"):
        fetch(server.url, path)
    assert _present(path) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(server, path, status):
    server.script = [str(status)]
    with pytest.raises(CheckpointError, match=rf"{server.url}: the server answers {status}"):
        fetch(server.url, path)
    assert len(server.requests) == 1 and _present(path) == []


def test_a_server_error_is_tried_again(server, path):
    server.script = ["500", "503"]
    fetch(server.url, path)
    assert len(server.requests) == 3 and path.read_bytes() == server.content


@pytest.mark.parametrize("fault", ["flipped", "cut", "no tar"])
def test_a_damaged_archive_is_removed(server, path, fault):
    content = bytearray(server.content)
    content[len(content) // 2] ^= 0xFF
    damaged = {"flipped": bytes(content), "cut": server.content[:-1000], "no tar": gzip.compress(b"text" * 1000)}
    server.content = damaged[fault]
    with pytest.raises(CheckpointError, match=r"truncated or no archive.*removed"):
        fetch(server.url, path)
    assert _present(path) == []


def test_a_hash_in_the_name_is_checked(server, tmp_path):
    server.content = np.random.default_rng(0).bytes(1000)
    digest = hashlib.sha256(server.content).hexdigest()
    good = tmp_path / f"resnet152-{digest[:8]}.pth"
    assert fetch(server.url, good).read_bytes() == server.content
    with pytest.raises(CheckpointError, match=rf"begins with 00000000, received {digest[:8]}"):
        fetch(server.url, tmp_path / "resnet152-00000000.pth")
    assert [file.name for file in tmp_path.iterdir()] == [good.name]


def test_a_file_that_is_there_is_not_asked_for(server, path):
    path.parent.mkdir()
    path.write_bytes(server.content)
    fetch(server.url, path)
    assert server.requests == []


def test_a_damaged_file_that_is_there_is_named(server, path):
    path.parent.mkdir()
    path.write_bytes(server.content[:5000])
    with pytest.raises(CheckpointError, match=r"network\.tar\.gz is truncated"):
        fetch(server.url, path)


def test_nobody_listening_is_said(path, monkeypatch):
    monkeypatch.setattr(fetch_module, "PAUSE", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(CheckpointError, match=r"nothing received \(.*refused"):
        fetch(f"http://127.0.0.1:{port}/a.tar.gz", path)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.tar.gz", "a.tar.gz"])
def test_other_addresses_are_refused(path, url):
    with pytest.raises(CheckpointError, match="expected an http or https address"):
        fetch(url, path)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_it_goes_on(server, path, stop):
    server.script = ["stall"]
    program = f"from hgd_tf.checkpoints.fetch import fetch; fetch({server.url!r}, {str(path)!r})"
    command = [sys.executable, "-c", HEED_SIGINT, sys.executable, "-c", program]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    part, half = path.with_name("network.tar.gz.part"), len(server.content) // 2
    deadline = time.time() + 20
    while not (part.exists() and part.stat().st_size == half) and time.time() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, stop)
    assert process.wait(20) != 0
    assert not path.exists() and part.stat().st_size == half
    fetch(server.url, path)
    assert path.read_bytes() == server.content
    assert server.requests[-1]["Range"] == f"bytes={half}-"
