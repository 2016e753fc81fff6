"""A local tournament: every attack on the images, then every defence on what every attack made of them."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, Union

import numpy as np

from hgd_tf.competition.checksums import Watch, checksum, files_below
from hgd_tf.competition.entries import ATTACK, DEFENSE, TARGETED_ATTACK, Entry, load_entries
from hgd_tf.competition.files import DATASET_COLUMNS, LABELS, to_class
from hgd_tf.competition.outputs import without_ending
from hgd_tf.competition.runner import TIME_LIMIT
from hgd_tf.data.images import decode_image
from hgd_tf.data.listing import visible_files
from hgd_tf.data.tables import Table
from hgd_tf.errors import DataError, RunError
from hgd_tf.tournaments.jobs import IMAGES_FOLDER, LOG_FILE, Input, Job, JobResult, JobRunner
from hgd_tf.tournaments.scoring import NO_LABEL, Classifications

RESULTS_FOLDER, WORK_FOLDER, LOCK_FILE = "results", "work", ".lock"
EPSILON_SEED = 0
IMAGE_ENDING = ".png"


class TournamentConfig(NamedTuple):
    """What is played.

    Attributes:
      attacks_dir, defenses_dir: folders with a directory an entry; the same ones are admitted.
      images: folder of PNG files, named by their ImageId.
      table: CSV with the columns ImageId, TrueLabel and TargetClass, labels in 1..1000.
      output_dir: of results; what is finished there is not done again.
      epsilon: L-infinity radii in pixel units. Of several, each batch has one, the same for all attacks: they come in
        random orders, all of them before one comes again.
      batch_size: images an entry gets at a time.
      time_limit: seconds that it has for them.
      jobs: entries that run at a time.
      attacks, defenses: names of those that take part; none: all.
      rerun: as in `JobRunner`.
    """

    attacks_dir: Sequence[str]
    defenses_dir: Sequence[str]
    images: str
    table: str
    output_dir: str
    epsilon: Sequence[int] = (16,)
    batch_size: int = 100
    time_limit: float = TIME_LIMIT
    jobs: int = 1
    attacks: Sequence[str] = ()
    defenses: Sequence[str] = ()
    rerun: str = "nothing"


class Problem(NamedTuple):
    """Something to be known about a run: which one, what, and its log relative to the output's folder, if any."""

    title: str
    text: str
    log: Optional[str]


class Standing(NamedTuple):
    """What came of a tournament.

    Attributes:
      runs: by (type, name) of every entry, seconds and number of images of each of its runs.
      problems: in the order of the runs.
    """

    classifications: Classifications
    runs: dict[tuple[str, str], list[tuple[float, int]]]
    problems: list[Problem]


def play(config: TournamentConfig) -> Standing:
    """Plays what is not yet played.

    Raises:
      DataError: images, their table or an entry are missing or malformed.
      RunError: another tournament is running in the same folder.
    """
    attacks = load_entries(config.attacks_dir, (ATTACK, TARGETED_ATTACK), config.attacks)
    defenses = load_entries(config.defenses_dir, (DEFENSE,), config.defenses)
    dataset = load_dataset(config.images, config.table)
    # Entries run elsewhere than here: their paths are absolute.
    output_dir = Path(config.output_dir).resolve()
    for entry in (*attacks, *defenses):
        if output_dir.is_relative_to(entry.directory):
            raise DataError(f"expected an output folder outside of the entries, received {output_dir}")
    with _locked(output_dir):
        runner = JobRunner(
            output_dir / RESULTS_FOLDER,
            output_dir / WORK_FOLDER,
            _watch(config, [*attacks, *defenses], output_dir / RESULTS_FOLDER),
            config.time_limit,
            config.jobs,
            config.rerun,
        )
        attack_jobs = _attack_jobs(attacks, dataset.images, config)
        attack_results = runner.run(attack_jobs, "attacks")
        defense_jobs = _defense_jobs(defenses, attack_jobs, attack_results)
        defense_results = runner.run(defense_jobs, "defenses")
        shutil.rmtree(output_dir / WORK_FOLDER, ignore_errors=True)
    jobs, results = [*attack_jobs, *defense_jobs], [*attack_results, *defense_results]
    return Standing(
        _classifications(attacks, defenses, dataset.images, jobs, results),
        _runs([*attacks, *defenses], jobs, results),
        [*_unlabeled(dataset, config), *_problems(jobs, results, output_dir)],
    )


@contextlib.contextmanager
def _locked(output_dir: Path) -> Iterator[None]:
    output_dir.mkdir(parents=True, exist_ok=True)
    with open(output_dir / LOCK_FILE, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another tournament is running in {output_dir}") from None
        yield


def _watch(config: TournamentConfig, entries: Sequence[Entry], results_dir: Path) -> Watch:
    folders = [entry.directory for entry in entries] + [results_dir]
    places: list[Callable[[], Iterable[Path]]] = [functools.partial(files_below, folder) for folder in folders]
    table, images_dir = Path(config.table).resolve(), Path(config.images).resolve()
    return Watch([*places, lambda: {table, *(path for path in images_dir.glob("*") if path.is_file())}])


# --- images ---


class DatasetImage(NamedTuple):
    """An image: its identifier, its file and that file's checksum, its labels in 1..1000."""

    image_id: str
    path: Path
    checksum: str
    true_label: int
    target_class: int


class Dataset(NamedTuple):
    """The images that are in the folder and in the table, by name; names of files that the table does not have."""

    images: list[DatasetImage]
    unlabeled: list[str]


def load_dataset(images_dir: Union[str, Path], table: Union[str, Path]) -> Dataset:
    """Lists images and their labels; rows of the table without a file are passed over.

    Raises:
      DataError: folder or table is missing or malformed, they have nothing in common, or a file is no image.
    """
    if not Path(images_dir).is_dir():
        raise DataError(f"no such folder of images: {images_dir}")
    paths = [
        path for path in visible_files(Path(images_dir).resolve()) if path.suffix == IMAGE_ENDING and path.is_file()
    ]
    if not paths:
        raise DataError(f"no {IMAGE_ENDING} files in {images_dir}")
    labels = dict(_labels(Path(table)))
    images = [
        DatasetImage(path.stem, path, checksum(path), *labels[path.stem]) for path in paths if path.stem in labels
    ]
    if not images:
        raise DataError(
            f"{table}: expected ImageIds of the images in {images_dir}, such as {paths[0].stem}, found none"
        )
    for image in images:
        decode_image(image.path)
    return Dataset(images, [path.name for path in paths if path.stem not in labels])


def _labels(table: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    if not table.is_file():
        raise DataError(f"no such table of labels: {table}")
    for where, (image_id, *labels) in Table(table).rows(*DATASET_COLUMNS):
        true_label, target_class = (to_class(label, where) + LABELS.start for label in labels)
        yield image_id, (true_label, target_class)


# --- jobs ---


def _attack_jobs(attacks: Sequence[Entry], images: Sequence[DatasetImage], config: TournamentConfig) -> list[Job]:
    batches = [images[start : start + config.batch_size] for start in range(0, len(images), config.batch_size)]
    epsilons = _epsilons(config.epsilon, len(batches))
    return [
        Job(
            f"attack {attack.name}, batch {number + 1}",
            attack,
            attack.name,
            {image.path.name: Input(image.path, image.checksum) for image in batch},
            {image.path.name: image.target_class for image in batch} if attack.type == TARGETED_ATTACK else {},
            epsilon,
            f"attacks/{attack.name}/{number + 1}",
        )
        for attack in attacks
        for number, (batch, epsilon) in enumerate(zip(batches, epsilons))
    ]


def _epsilons(choices: Sequence[int], count: int) -> list[int]:
    """A radius for each of so many batches."""
    rng = np.random.default_rng(EPSILON_SEED)
    rounds = -(-count // len(choices))
    return np.concatenate([rng.permutation(choices) for _ in range(rounds)])[:count].tolist()


def _defense_jobs(defenses: Sequence[Entry], attack_jobs: Sequence[Job], results: Sequence[JobResult]) -> list[Job]:
    """One a defence and batch of attacked images; nobody is asked about batches of which the attack wrote nothing."""
    return [
        Job(
            f"defense {defense.name} on {attack_job.title}",
            defense,
            attack_job.attack,
            {name: Input(result.folder / IMAGES_FOLDER / name, checksum) for name, checksum in result.images.items()},
            {},
            None,
            f"defenses/{defense.name}/{Path(*Path(attack_job.place).parts[1:])}",
        )
        for defense in defenses
        for attack_job, result in zip(attack_jobs, results)
        if result.folder is not None and result.images
    ]


# --- results ---


def _classifications(
    attacks: Sequence[Entry],
    defenses: Sequence[Entry],
    images: Sequence[DatasetImage],
    jobs: Sequence[Job],
    results: Sequence[JobResult],
) -> Classifications:
    attack_numbers = {attack.name: number for number, attack in enumerate(attacks)}
    defense_numbers = {defense.name: number for number, defense in enumerate(defenses)}
    image_numbers = {image.image_id: number for number, image in enumerate(images)}
    written = np.zeros((len(attacks), len(images)), bool)
    predicted = np.full((len(attacks), len(defenses), len(images)), NO_LABEL)
    for job, result in zip(jobs, results):
        attack = attack_numbers[job.attack]
        for name in result.images:
            written[attack, image_numbers[without_ending(name)]] = True
        for image_id, label in result.labels.items():
            predicted[attack, defense_numbers[job.entry.name], image_numbers[image_id]] = label
    return Classifications(
        list(attack_numbers),
        np.array([attack.type == TARGETED_ATTACK for attack in attacks]),
        list(defense_numbers),
        list(image_numbers),
        np.array([image.true_label for image in images]),
        np.array([image.target_class for image in images]),
        written,
        predicted,
    )


def _runs(
    entries: Sequence[Entry], jobs: Sequence[Job], results: Sequence[JobResult]
) -> dict[tuple[str, str], list[tuple[float, int]]]:
    runs: dict[tuple[str, str], list[tuple[float, int]]] = {(entry.type, entry.name): [] for entry in entries}
    for job, result in zip(jobs, results):
        if result.folder is not None:
            runs[job.entry.type, job.entry.name].append((result.seconds, len(job.inputs)))
    return runs


def _problems(jobs: Sequence[Job], results: Sequence[JobResult], output_dir: Path) -> list[Problem]:
    problems = []
    for job, result in zip(jobs, results):
        log = None if result.folder is None else (result.folder / LOG_FILE).relative_to(output_dir).as_posix()
        problems += [Problem(job.title, text, log) for text in result.problems]
    return problems


def _unlabeled(dataset: Dataset, config: TournamentConfig) -> list[Problem]:
    count = len(dataset.unlabeled)
    if not count:
        return []
    text = f"{count} images are not in {config.table} and take no part, such as {dataset.unlabeled[0]}"
    return [Problem("images", text, None)]
