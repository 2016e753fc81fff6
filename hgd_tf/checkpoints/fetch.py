"""Downloads published files of weights: with progress, resumable, complete or absent."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Optional, Union

from tqdm import tqdm

from hgd_tf.errors import CheckpointError
from hgd_tf.files import sha256, write_json

BLOCK = 1 << 16  # bytes
PAUSE = 1.0  # seconds before the second attempt; it grows with every one
ARCHIVES = (".tar.gz", ".tgz")
# torch.hub's convention: a file's name ends in the first digits of its SHA-256.
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")
NETWORK_ERRORS = (OSError, http.client.HTTPException)


def fetch(url: str, path: Union[str, Path], *, timeout: float = 30.0, attempts: int = 5) -> Path:
    """Downloads `url` to `path`, which exists afterwards only if it is complete and valid.

    What has arrived of an interrupted download stays beside `path` with the ending `.part`; the next call goes on from
    there. A valid file at `path` is left as it is.

    Args:
      timeout: seconds without a byte after which a connection is given up.
      attempts: in a row without a byte gained before the download is given up.

    Returns:
      `path`.

    Raises:
      CheckpointError: the server does not give the file, or what it gives is none.
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise CheckpointError(f"expected an http or https address, received {url}")
    if path.exists():
        check_file(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    download = _Download(url, path, timeout)
    failures = 0
    while not download.complete:
        before = download.received
        try:
            download.go_on()
        except NETWORK_ERRORS as error:
            failures = failures + 1 if download.received == before else 1
            is_refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if failures >= attempts or is_refused:
                raise CheckpointError(download.failure(error)) from error
            time.sleep(PAUSE * failures)
    return download.finish()


def check_file(path: Path, name: Optional[str] = None) -> None:
    """Raises CheckpointError unless the file is a readable archive, or what its name says.

    Args:
      name: its name where `path` has another, temporary one.
    """
    name = name or path.name
    with open(path, "rb") as file:
        start = file.read(80)
    if start.lstrip()[:1] in (b"<", b"{", b""):
        raise CheckpointError(f"{path} is no file of weights: it begins with {start.decode('latin-1').strip()!r}")
    if name.endswith(ARCHIVES):
        try:
            with gzip.open(path) as stream:
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    members = archive.getmembers()
                while stream.read(BLOCK):  # to the end, where gzip has its checksum
                    pass
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise CheckpointError(f"{path} is truncated or no archive: {error}") from error
        if not members:
            raise CheckpointError(f"{path} is an empty archive")
    digest = HASH_IN_NAME.search(name)
    if digest and not sha256(path).startswith(digest[1]):
        raise CheckpointError(
            f"{path} is damaged: expected a SHA-256 that begins with {digest[1]}, received {sha256(path)[:8]}"
        )


class _Download:
    """A file on its way, and what is known of the server's version of it."""

    def __init__(self, url: str, path: Path, timeout: float):
        self.url, self.path, self.timeout = url, path, timeout
        self.part = path.with_name(path.name + ".part")
        self._notes = path.with_name(path.name + ".part.json")
        self.total: Optional[int] = None
        self.complete = False

    @property
    def received(self) -> int:
        """Bytes that are on disk."""
        return self.part.stat().st_size if self.part.exists() else 0

    def go_on(self) -> None:
        """Appends what the server has beyond what has arrived; starts anew if its file is another one now."""
        validator = self._validator()
        offset = self.received if validator else 0
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers.update({"Range": f"bytes={offset}-", "If-Range": validator})
        request = urllib.request.Request(self.url, headers=headers)
        try:
            response = urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            self._discard()
            raise ConnectionError("the part on disk does not fit the server's file; starting anew") from error
        with response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                offset = 0
            self._check_kind(response)
            self._note(response)
            self._append(response, offset)

    def _append(self, response, offset: int) -> None:
        length = response.headers.get("Content-Length")
        self.total = offset + int(length) if length else None
        with (
            open(self.part, "r+b" if offset else "wb") as file,
            tqdm(desc=self.path.name, total=self.total, initial=offset, unit="B", unit_scale=True) as bar,
        ):
            file.seek(offset)
            while block := response.read1(BLOCK):
                file.write(block)
                file.flush()  # what has arrived counts, even after a kill
                bar.update(len(block))
        if self.total is not None and self.received < self.total:
            raise ConnectionError("the connection ended early")
        self.complete = True

    def _check_kind(self, response) -> None:
        if response.headers.get_content_type() == "text/html":
            start = response.read(80).decode("latin-1")
            self._discard()
            raise CheckpointError(f"{self.url} gives a web page instead of a file; it begins with {start.strip()!r}")

    def _validator(self) -> str:
        """The server's mark of the version that has begun to arrive; empty where none is known."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return notes["validator"] if notes["url"] == self.url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _note(self, response) -> None:
        tag, modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
        validator = modified if tag.startswith("W/") or not tag else tag  # If-Range takes no weak tag
        write_json(self._notes, {"url": self.url, "validator": validator})

    def finish(self) -> Path:
        """Checks the file and gives it its name."""
        try:
            check_file(self.part, self.path.name)
        except CheckpointError as error:
            self._discard()
            raise CheckpointError(f"{self.url}: {error}; it was removed") from error
        os.replace(self.part, self.path)
        self._discard()
        return self.path

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def failure(self, error: Exception) -> str:
        """What to say when the download is given up."""
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        if isinstance(error, urllib.error.HTTPError):
            return f"{self.url}: the server answers {error.code} ({reason})"
        if not self.received:
            return f"{self.url}: nothing received ({reason})"
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.url}: {self.received:,}{of} bytes received, then {reason}; the same command goes on from there"
