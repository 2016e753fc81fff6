"""Lists the targets that are known by name.

python -m hgd_tf.targets
"""

from __future__ import annotations

from hgd_tf import cli
from hgd_tf.targets import TARGETS, build_target, shipped_weights


def main(_) -> None:
    print(f"{'name':<24}{'input':<13}{'classes':>7}{'parameters':>12}{'accuracy':>10}  weights    role")
    for name, spec in TARGETS.items():
        size = f"{spec.image_size}x{spec.image_size}x{spec.channels}"
        present = "shipped" if shipped_weights(name).is_file() else "missing"
        parameters = build_target(name).count_params()
        figures = f"{spec.classes:>7}{parameters:>12,}{100 * spec.accuracy:>8.1f} %"
        print(f"{name:<24}{size:<13}{figures}  {present:<9}  {spec.role}")


if __name__ == "__main__":
    cli.run(main)
