"""The frozen classifier that a denoiser stands before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from hgd_tf.errors import TargetError
from hgd_tf.foundation.pixel_range import OVERSHOOT, checks_pixels
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.freezing import bfloat16_copy
from hgd_tf.targets.graph import layer_tensors, scope_name
from hgd_tf.targets.keras3 import Graph, keras_3_layer

MOST_IMAGES, MOST_PIXELS = 250, 1 << 20  # of a batch


def resize_to(images: tf.Tensor, image_size: int) -> tf.Tensor:
    """Images as float32 (N, image_size, image_size, C): bilinear, antialiased when shrinking, differentiable."""
    images = tf.cast(images, tf.float32)
    if images.shape[1:3] == (image_size, image_size):
        return images
    return tf.image.resize(images, (image_size, image_size), antialias=True)


def batch_size_for(image_size: int) -> int:
    """How many images to compute at a time: 250, or fewer larger ones, whose gradients fit into a few GiB."""
    return max(1, min(MOST_IMAGES, MOST_PIXELS // image_size**2))


class TargetSource(NamedTuple):
    """What `load_target` needs to load a registered target again."""

    name: str
    checkpoint: Optional[str]
    image_size: Optional[int]


class Target(keras.Model):
    """A frozen classifier: images of any size to its responses.

    Calling it gives a dict of float32 tensors: `features` (the topmost convolution's output after its activation,
    before pooling; (N, h, w, C)) and `logits` ((N, classes)). It always runs in inference mode, and nothing in it can
    be trained, so that its weights and moving statistics never change.

    Outside graphs, a `PixelRangeWarning` tells of images whose pixels are not in [0, 255]; a denoiser's may leave it a
    little.

    Args:
      network: from images (N, image_size, image_size, channels), float32 pixels in [0, 255], to that dict.
      name: as in `python -m hgd_tf.targets`, or the user's own, any text.
      source: of a registered target: how to load it again. None: only the network itself can be saved.
      module: of a user's target: the Python module that its layers need to be loaded again.
      reading: of a user's target: how it takes pixels and what its answers count as, which its weights do not say.

    Raises:
      TargetError: the network's input is not square or of no fixed size.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        name: str,
        source: Optional[TargetSource] = None,
        module: Optional[str] = None,
        reading: str = "",
    ):
        super().__init__(name=name)
        self.source = source
        self.module = module
        self.reading = reading
        _, height, width, self.channels = network.input_shape
        if height is None or height != width:
            raise TargetError(
                f"{name}: expected a square input of fixed size, received input shape {network.input_shape}"
            )
        self.image_size = height
        self.classes = network.output_shape["logits"][-1]
        self.network = network
        self.trainable = False

    @checks_pixels(overshoot=OVERSHOOT)
    def __call__(self, images, *args, **kwargs):
        return super().__call__(images, *args, **kwargs)

    def _name_scope(self) -> str:
        return scope_name(super()._name_scope())

    def call(self, images: tf.Tensor, training: Optional[bool] = None) -> dict[str, tf.Tensor]:
        """Responses to images (N, H, W, channels) in pixels [0, 255], uint8 or float32; `training` is ignored."""
        del training
        return self.network(resize_to(images, self.image_size), training=False)

    def in_bfloat16(self) -> Target:
        """This target computed in bfloat16, with float32 responses: quicker where the hardware has it, and inexact."""
        return Target(bfloat16_copy(self.network), name=self.name)

    @checks_pixels(overshoot=OVERSHOOT)
    def layer_outputs(self, images: tf.Tensor, names: Optional[Sequence[str]] = None) -> dict[str, tf.Tensor]:
        """Named intermediate maps, for analysis layer by layer (section 5.1).

        Args:
          images: as in `call`.
          names: layers of `network`, or responses; None: all of them, in the order of the forward pass.

        Raises:
          TargetError: a name is unknown.
        """
        network, images = self.network, resize_to(images, self.image_size)
        own = next((layer for layer in network.layers if isinstance(layer, keras.Model)), None)
        if own is not None:  # the user's model, behind the scaling of its pixels
            network, images = own, keras.Model(network.input, own.get_input_at(0))(images)
        graph = _graph(network)
        known = graph.outputs
        unknown = [name for name in names or () if name not in known]
        if unknown:
            raise TargetError(f"{self.name}: unknown layer {unknown[0]!r}; expected some of {', '.join(known)}")
        outputs = {name: known[name] for name in names or known}
        return graph.model_class(graph.images, outputs)(images, training=False)

    def convolutions(self) -> list[str]:
        """The names of its convolutions but depthwise ones, in the order of the forward pass."""
        return _graph(self.network).convolutions


def _graph(network: keras.Model) -> Graph:
    foreign = keras_3_layer(network)
    if foreign is not None:
        return foreign.graph()
    outputs = {**layer_tensors(network), **network.output}
    convolutions = [layer.name for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    return Graph(keras.Model, network.input, outputs, convolutions)
