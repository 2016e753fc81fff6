"""Packs a defense or an ensemble as a submission of the NIPS 2017 competition, and checks submissions of any kind.

    python -m hgd_tf.package_submission --defense=submission/models.json --output_file=runs/submission.zip --validate
    python -m hgd_tf.package_submission --validate_file=runs/submission.zip

The archive needs TensorFlow and NumPy only: one exported model for each flow of the ensemble, and the program that runs
them. --validate_file checks attacks, targeted attacks and defences, as .zip, .tar, .tar.gz or directory, and runs them
on images of noise; the exit status is 1 if a check fails.
"""

from __future__ import annotations

from absl import flags, logging

from hgd_tf import cli
from hgd_tf.config_flags import define_defense
from hgd_tf.defenses import load_defense
from hgd_tf.errors import DataError
from hgd_tf.submissions.packaging import Package, package
from hgd_tf.submissions.validation import BATCH_IMAGES, TIME_LIMIT, Check, validate

_DEFENSE = define_defense()
_OUTPUT_FILE = flags.DEFINE_string("output_file", "runs/submission.zip", "The archive.")
_VALIDATE = flags.DEFINE_bool("validate", False, "Check the archive when it is packed.")
_VALIDATE_FILE = flags.DEFINE_string("validate_file", None, "Archive or directory to check, instead of packing one.")
_COUNT = flags.DEFINE_integer("count", BATCH_IMAGES, "Images of noise that a check runs the submission on.", 1)
_TIME_LIMIT = flags.DEFINE_float("time_limit", TIME_LIMIT, "Seconds that a checked submission may run.", 1.0)

flags.mark_flags_as_mutual_exclusive(["defense", "validate_file"], required=True)
flags.register_validator("output_file", lambda path: path.endswith(".zip"), "expected a name that ends in .zip")


def _describe(packed: Package) -> None:
    for name, (size, seconds) in packed.members.items():
        print(f"{name}: {size / 1e6:.1f} MB, {seconds:.2f} s an image")
    print(f"{packed.path}: {packed.size / 1e6:.1f} MB, unpacked {packed.unpacked_size / 1e6:.1f} MB")
    print(f"{BATCH_IMAGES} images take about {packed.batch_seconds:.0f} s here, start-up not included")


def _print_check(check: Check) -> None:
    print(f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.found}", flush=True)


def _validate(path: str) -> None:
    checks = validate(path, images=_COUNT.value, time_limit=_TIME_LIMIT.value, on_check=_print_check)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise DataError(f"{path} is no valid submission: {', '.join(failed)}")
    print(f"{path} is valid")


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # TensorFlow says what a SavedModel's inputs are called
    if _DEFENSE.value:
        _describe(package(load_defense(_DEFENSE.value), _OUTPUT_FILE.value, _DEFENSE.value))
    if _VALIDATE.value or _VALIDATE_FILE.value:
        _validate(_VALIDATE_FILE.value or _OUTPUT_FILE.value)


if __name__ == "__main__":
    cli.run(main)
