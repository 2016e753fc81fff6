"""Jobs of a tournament: an entry that runs once, on one batch. What is finished is kept and not done again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, Optional

from tqdm import tqdm

from hgd_tf.competition.checksums import Watch, checksum, content_checksum, digest, files_below, signature
from hgd_tf.competition.entries import TARGETED_ATTACK, Entry
from hgd_tf.competition.files import TARGET_CLASSES_FILE
from hgd_tf.competition.isolation import CANNOT_START, Ended, run_isolated
from hgd_tf.competition.outputs import collect_images, collect_labels
from hgd_tf.files import write_json

RESULT_FILE, LOG_FILE, IMAGES_FOLDER, LABELS_FILE = "result.json", "log.txt", "images", "labels.csv"
FAILED, ALL, NOTHING = "failed", "all", "nothing"
RERUNS = (NOTHING, FAILED, ALL)
KEY_DIGITS = 16


class Input(NamedTuple):
    """A file that an entry gets a copy of, and what is to be in it."""

    path: Path
    checksum: str


class Job(NamedTuple):
    """An entry on a batch.

    Attributes:
      attack: the name of the attack whose images it makes, or classifies.
      inputs: image files by their names.
      target_classes: by image name, in 1..1000; empty for all but targeted attacks.
      epsilon: the radius in pixel units; None for defences.
      place: under which the result is kept, relative to the folder of results.
    """

    title: str
    entry: Entry
    attack: str
    inputs: Mapping[str, Input]
    target_classes: Mapping[str, int]
    epsilon: Optional[int]
    place: str

    def key(self, time_limit: float) -> str:
        """A digest of all that the result depends on."""
        inputs = {name: file.checksum for name, file in self.inputs.items()}
        return digest([self.entry.digest, inputs, dict(self.target_classes), self.epsilon, time_limit])[:KEY_DIGITS]


class JobResult(NamedTuple):
    """What came of a job.

    Attributes:
      folder: in which log and outputs lie; None: the job could not be run.
      seconds: that the entry took.
      status: as in `Ended`.
      images: checksums of the attacked images by name; empty for a defence.
      labels: in 1..1000, by image name without ending; empty for an attack.
    """

    folder: Optional[Path]
    seconds: float
    status: Optional[int]
    problems: list[str]
    images: dict[str, str]
    labels: dict[str, int]


class JobRunner:
    """Runs jobs, several at a time, and keeps their results.

    Args:
      work_dir: of what is running; emptied first.
      watch: of all that no entry is to touch; what is finished is added to it.
      rerun: a name of `RERUNS`: which of the finished jobs are run again. Failed ones are those that ended with a
        non-zero status or at the time limit.
    """

    def __init__(self, results_dir: Path, work_dir: Path, watch: Watch, time_limit: float, parallel: int, rerun: str):
        # An entry may have left folders that cannot be removed: they disturb nobody.
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir(exist_ok=True)
        self._results_dir, self._work_dir, self._watch = results_dir, work_dir, watch
        self._time_limit, self._parallel, self._rerun = time_limit, parallel, rerun
        self._running: list[str] = []
        self._lock, self._stop = threading.Lock(), threading.Event()

    def run(self, jobs: Sequence[Job], title: str) -> list[JobResult]:
        """Runs those jobs that are not finished; says on stderr what is wrong with them.

        Returns:
          The results in the jobs' order.
        """
        results = {number: self._load(job) for number, job in enumerate(jobs)}
        missing = [number for number, result in results.items() if result is None]
        bar = tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc=title, unit="run")
        with bar, self._pool() as pool:
            futures = {pool.submit(self._perform, jobs[number]): number for number in missing}
            for future in as_completed(futures):
                number = futures[future]
                results[number] = result = future.result()
                for problem in result.problems:
                    tqdm.write(f"warning: {jobs[number].title}: {problem}", file=sys.stderr)
                bar.update()
        return [result for result in results.values() if result is not None]

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        pool = ThreadPoolExecutor(self._parallel)
        try:
            yield pool
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _folder(self, job: Job) -> Path:
        return self._results_dir / f"{job.place}-{job.key(self._time_limit)}"

    def _load(self, job: Job) -> Optional[JobResult]:
        """A finished job's result; None: it is to be run."""
        folder = self._folder(job)
        if self._rerun == ALL or not folder.is_dir():
            return None
        try:
            stored = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
            seal = stored.pop("seal")
            result = JobResult(folder, **stored)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        is_whole = seal == digest(stored) and all(
            checksum(folder / IMAGES_FOLDER / name) == found for name, found in result.images.items()
        )
        return result if is_whole and not (self._rerun == FAILED and result.status != 0) else None

    def _perform(self, job: Job) -> JobResult:
        try:
            contents = _read_inputs(job)
        except _StaleError as error:
            return JobResult(None, 0.0, None, [f"not run: {error}"], {}, {})
        with self._scratch() as work, self._scratch() as kept:
            return self._perform_in(work, kept, job, contents)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self._work_dir))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _perform_in(self, work: Path, kept: Path, job: Job, contents: Mapping[str, bytes]) -> JobResult:
        """Runs an entry in one folder, and keeps what it leaves in another, of which it does not know."""
        given, output = work / "input", work / "output"
        _give(job, contents, given)
        output.mkdir()
        before = _signatures(given)
        ended = self._execute(job, given, output, kept / LOG_FILE)
        problems = _how_it_ended(ended, self._time_limit)
        if _signatures(given) != before:
            problems.append("it changed its input, which is read-only in the competition")
        images: dict[str, str] = {}
        labels: dict[str, int] = {}
        if job.epsilon is None:
            labels, found = collect_labels(job.inputs, output / LABELS_FILE)
        else:
            found = collect_images(contents, output, job.epsilon, kept / IMAGES_FOLDER)
            images = {path.name: content_checksum(path.read_bytes()) for path in files_below(kept / IMAGES_FOLDER)}
        with self._lock:
            problems += found + self._touched(job)
            result = JobResult(self._folder(job), ended.seconds, ended.status, problems, images, labels)
            self._keep(kept, result)
        return result

    def _execute(self, job: Job, given: Path, output: Path, log: Path) -> Ended:
        arguments = [output / LABELS_FILE] if job.epsilon is None else [output, str(job.epsilon)]
        with self._lock:
            self._running.append(job.title)
        command = [job.entry.entry_point, given, *arguments]
        return run_isolated(command, job.entry.directory, log, self._time_limit, self._stop)

    def _touched(self, job: Job) -> list[str]:
        """What happened to watched files while the job ran."""
        self._running.remove(job.title)
        others = f"; {' and '.join(self._running)} ran too" if self._running else ""
        return [f"while it ran, {change}{others}" for change in self._watch.changes()]

    def _keep(self, kept: Path, result: JobResult) -> None:
        fields = result._asdict()
        folder = fields.pop("folder")
        write_json(kept / RESULT_FILE, {**fields, "seal": digest(fields)})
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            shutil.rmtree(folder)
        # mkdtemp makes folders that nobody else can read.
        kept.chmod(0o755)
        os.replace(kept, folder)
        self._watch.accept(folder)


class _StaleError(Exception):
    """Somebody changed what a job is about."""


def _read_inputs(job: Job) -> dict[str, bytes]:
    """The contents of a job's inputs, by name.

    Raises:
      _StaleError: they, or the entry, are not as they were when the job was planned.
    """
    contents = {}
    for name, file in job.inputs.items():
        try:
            contents[name] = file.path.read_bytes()
        except OSError as error:
            raise _StaleError(f"{file.path} cannot be read any more: {error.strerror}") from error
        if content_checksum(contents[name]) != file.checksum:
            raise _StaleError(f"{file.path} is not as it was when the tournament read it")
    if not job.entry.is_unchanged():
        raise _StaleError(f"{job.entry.directory} is not as it was when the tournament read it")
    return contents


def _give(job: Job, contents: Mapping[str, bytes], folder: Path) -> None:
    """An entry's own copy of its input."""
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    if job.entry.type == TARGETED_ATTACK:
        rows = "".join(f"{name},{label}\n" for name, label in job.target_classes.items())
        (folder / TARGET_CLASSES_FILE).write_text(rows, encoding="utf-8")


def _signatures(folder: Path) -> dict[Path, tuple[int, ...]]:
    return {path: signature(path) for path in files_below(folder)}


def _how_it_ended(ended: Ended, time_limit: float) -> list[str]:
    if ended.status is None:
        return [f"killed at the time limit of {time_limit:g} s"]
    if ended.status == CANNOT_START:
        return ["cannot be started, see its log"]
    if ended.status:
        return [f"killed by signal {-ended.status}" if ended.status < 0 else f"exited with status {ended.status}"]
    return []
