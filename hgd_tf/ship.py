"""Makes of a training run a defense that comes with the package: `load_defense(NAME)`.

    python -m hgd_tf.ship runs/imagenet_lgd hgd_tf/defenses/shipped/efficientnet_lite0_lgd

Kernels are rounded and compressed (hgd_tf/study/shipping.py); the run's configuration and learning curve go beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hgd_tf import cli
from hgd_tf.defenses.saving import DENOISER_FILE
from hgd_tf.errors import RunError
from hgd_tf.study.shipping import ship


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 2:
        raise RunError(f"expected the folders of a run and of the shipped defense, received {len(arguments)} arguments")
    run_dir, directory = map(Path, arguments)
    ship(run_dir, directory)
    print(f"{directory / DENOISER_FILE}: {(directory / DENOISER_FILE).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
