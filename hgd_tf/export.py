"""Exports a defense, or an ensemble, as a SavedModel for TensorFlow Serving.

    python -m hgd_tf.export --defense=efficientnet_lite0_lgd
    python -m hgd_tf.export --defense=submission/models.json --name=lite --version=2

It is written to OUTPUT_DIR/NAME/VERSION and loads in plain TensorFlow 2.15, without this package. Signatures:

    serving_default  images (uint8, N x H x W x C, any size)   ->  logits, probabilities, classes (0-based)
    serving_bytes    image_bytes (content of image files)      ->  the same
    denoise          images                                    ->  denoised; not of an ensemble of several flows

serving_bytes takes pixels as they are stored. A photograph that is stored sideways (EXIF orientation) is turned first,
and its pixels are given to serving_default. Before anything is written, the model is compared with its source on a few
images; assets.extra/export.json says how far their logits are apart.

    tensorflow_model_server --model_name=NAME --model_base_path=$PWD/OUTPUT_DIR/NAME --rest_api_port=8501
"""

from __future__ import annotations

import re
from pathlib import Path

from absl import flags, logging

from hgd_tf import cli
from hgd_tf.config_flags import define_defense
from hgd_tf.defenses import load_defense
from hgd_tf.defenses.exporting import export_defense, export_path
from hgd_tf.defenses.loading import is_line_up

_DEFENSE = define_defense(required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/exports", "Folder of the exported models.")
_NAME = flags.DEFINE_string("name", None, "Of the model; default: that of the defense's folder or file.")
_VERSION = flags.DEFINE_integer("version", 1, "Of the model; the highest is served.", 1)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace that version where it exists.")

flags.register_validator(
    "name", lambda name: name is None or re.fullmatch(r"\w[\w.-]*", name), "expected letters, digits, _, - and dots"
)


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # TensorFlow says what a SavedModel's inputs are called
    source = str(_DEFENSE.value)
    name = _NAME.value or (Path(source).stem if is_line_up(source) else Path(source).resolve().name)
    path = export_path(_OUTPUT_DIR.value, name, _VERSION.value, _OVERWRITE.value)
    exported = export_defense(load_defense(source), path, source)
    print(f"{path}: {exported.size / 1e6:.1f} MB, signatures {', '.join(exported.signatures)}")


if __name__ == "__main__":
    cli.run(main)
