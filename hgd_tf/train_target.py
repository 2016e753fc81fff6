"""Trains one of the small targets on Fashion-MNIST.

    python -m hgd_tf.train_target mini_inception --images=/usr/share/datasets/fashion-mnist

The weights of the five that ship with the package were made so, from all 60,000 training images, with the default
seed. The folder holds the four published files; the default is the embedded subset, which is too small to reach the
shipped accuracy. ens_mini_inception is trained by ensemble adversarial training (Tramer et al. 2018): half of its
images are attacked, each by FGSM on one of the three attacked networks, with epsilon uniform in 1..16. The
hold-out mini_vgg has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from hgd_tf import cli
from hgd_tf.errors import TargetError
from hgd_tf.targets import shipped_weights, target_spec
from hgd_tf.training.targets import train_target

_IMAGES = flags.DEFINE_string("images", None, "Folder of the published Fashion-MNIST files; default: the subset.")
_OUTPUT = flags.DEFINE_string("output", None, "Weights file to write; default: NAME.weights.h5 in this folder.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Passes over the images.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images a step.", lower_bound=1)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", 3e-3, "Adam's, at the start; a cosine leads it to 0.", lower_bound=0
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the initial weights, the order and the flips.", lower_bound=0)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        raise TargetError(f"expected the name of one target, received {list(arguments)}")
    name = arguments[0]
    target_spec(name)
    output = _OUTPUT.value or shipped_weights(name).name
    accuracy = train_target(
        name,
        output=output,
        data_dir=_IMAGES.value,
        epochs=_EPOCHS.value,
        batch_size=_BATCH_SIZE.value,
        learning_rate=_LEARNING_RATE.value,
        seed=_SEED.value,
    )
    print(f"{name}: {100 * accuracy:.2f} % of the test images right; weights in {output}")


if __name__ == "__main__":
    cli.run(main, allow_arguments=True)
