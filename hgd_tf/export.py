"""Exports a defense, or an ensemble of several, as a SavedModel for TensorFlow Serving.

    python -m hgd_tf.export --defense=efficientnet_lite0_lgd
    python -m hgd_tf.export --models=submission/models.json --name=lite --version=2

It is written to OUTPUT_DIR/NAME/VERSION and loads in plain TensorFlow 2.15, without this package. Signatures:

    serving_default  images (uint8, N x H x W x C, any size)   ->  logits, probabilities, classes (0-based)
    serving_bytes    image_bytes (content of image files)      ->  the same
    denoise          images                                    ->  denoised; not of an ensemble of several flows

    tensorflow_model_server --model_name=NAME --model_base_path=$PWD/OUTPUT_DIR/NAME --rest_api_port=8501
"""

from __future__ import annotations

import re
from pathlib import Path

from absl import flags, logging

from hgd_tf import cli
from hgd_tf.defenses import load_defense
from hgd_tf.defenses.ensemble import as_ensemble
from hgd_tf.defenses.exporting import export, export_path
from hgd_tf.defenses.line_up import read_line_up

for _shared in ("checkpoint_dir", "custom_objects", "safe_mode"):
    flags.declare_key_flag(_shared)
_DEFENSE = flags.DEFINE_string("defense", None, "A defense that comes with the package, or a run's folder.")
_MODELS = flags.DEFINE_string("models", None, "Description of an ensemble, such as submission/models.json.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/exports", "Folder of the exported models.")
_NAME = flags.DEFINE_string("name", None, "Of the model; default: that of the defense's folder or of the description.")
_VERSION = flags.DEFINE_integer("version", 1, "Of the model; the highest is served.", 1)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace that version where it exists.")

flags.mark_flags_as_mutual_exclusive(["defense", "models"], required=True)
flags.register_validator(
    "name", lambda name: name is None or re.fullmatch(r"\w[\w.-]*", name), "expected letters, digits, _, - and dots"
)


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # TensorFlow says what a SavedModel's inputs are called
    source = str(_DEFENSE.value or _MODELS.value)
    name = _NAME.value or (Path(source).resolve().name if _DEFENSE.value else Path(source).stem)
    path = export_path(_OUTPUT_DIR.value, name, _VERSION.value, _OVERWRITE.value)
    ensemble = as_ensemble(load_defense(source), name) if _DEFENSE.value else read_line_up(source).load()
    exported = export(ensemble, path, source)
    print(f"{path}: {exported.size / 1e6:.1f} MB, signatures {', '.join(exported.signatures)}")


if __name__ == "__main__":
    cli.run(main)
