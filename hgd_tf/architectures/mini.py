"""Five small classifiers of 28x28 grey images, for experiments that take minutes on a CPU.

Each takes a design of one of the paper's ImageNet networks down to some 70,000 parameters, so that attacks transfer
between them as they do between the originals: imperfectly. They play the roles of Table 1 on Fashion-MNIST.
"""

from __future__ import annotations

from hgd_tf.foundation.stack import keras

layers = keras.layers

INPUT_SIZE = 28
CHANNELS = 1
CLASSES = 10


def _conv(x, filters: int, kernel: int = 3, strides: int = 1, relu: bool = True):
    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def _images(image_size: int):
    return keras.Input((image_size, image_size, CHANNELS), name="images")


def _classifier(images, features, name: str) -> keras.Model:
    features = layers.Activation("linear", name="features")(features)
    pooled = layers.GlobalAveragePooling2D()(features)
    logits = layers.Dense(CLASSES, name="logits")(pooled)
    return keras.Model(images, {"features": features, "logits": logits}, name=name)


def _normalized(images):
    """Pixels in [0, 255] to [-1, 1], the range of the Inception family."""
    return layers.Rescaling(1 / 127.5, offset=-1.0)(images)


def _inception_block(x, filters: int, strides: int = 1):
    """1x1, 3x3 and double 3x3 towers side by side (after Szegedy et al. 2016, Figure 5)."""
    point = _conv(x, filters, 1, strides)
    wide = _conv(x, filters, 3, strides)
    deep = _conv(_conv(x, filters // 2, 3), filters, 3, strides)
    return layers.Concatenate()([point, wide, deep])


def mini_inception(image_size: int = INPUT_SIZE) -> keras.Model:
    """The target of the small experiments; plays the paper's Inception v3."""
    images = _images(image_size)
    x = _conv(_normalized(images), 24, strides=2)
    x = _inception_block(x, 16)
    x = _inception_block(x, 28, strides=2)
    x = _inception_block(x, 24)
    return _classifier(images, x, "mini_inception")


def mini_inception_resnet(image_size: int = INPUT_SIZE) -> keras.Model:
    """A member of the attacked ensemble; plays Inception-ResNet v2 (inception towers on a residual path)."""

    def block(x):
        channels = x.shape[-1]
        towers = [_conv(x, channels // 2, 1), _conv(_conv(x, channels // 4, 1), channels // 2, 3)]
        residual = _conv(layers.Concatenate()(towers), channels, 1, relu=False)
        return layers.ReLU()(layers.Add()([x, residual]))

    images = _images(image_size)
    x = block(_conv(_normalized(images), 32, strides=2))
    x = block(_conv(x, 64, strides=2))
    x = block(block(x))
    return _classifier(images, x, "mini_inception_resnet")


def mini_resnet(image_size: int = INPUT_SIZE) -> keras.Model:
    """A member of the attacked ensemble; plays ResNet-50 v2 (pre-activation; He et al. 2016)."""

    def activated(x):
        return layers.ReLU()(layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x))

    def unit(x, filters: int, strides: int = 1):
        preactivated = activated(x)
        residual = _conv(preactivated, filters, strides=strides)
        residual = layers.Conv2D(filters, 3, padding="same")(residual)
        shortcut = x if strides == 1 else layers.Conv2D(filters, 1, strides)(preactivated)
        return layers.Add()([shortcut, residual])

    images = _images(image_size)
    x = layers.Conv2D(24, 3, strides=2, padding="same")(_normalized(images))
    x = unit(unit(x, 24), 40, strides=2)
    x = unit(x, 40)
    return _classifier(images, activated(x), "mini_resnet")


def mini_vgg(image_size: int = INPUT_SIZE) -> keras.Model:
    """The hold-out of the black-box set, of a design that no attacked network shares; plays Inception v4."""
    images = _images(image_size)
    x = layers.MaxPooling2D()(_conv(layers.Rescaling(1 / 255)(images), 16))
    x = layers.MaxPooling2D()(_conv(_conv(x, 32), 32))
    x = _conv(_conv(x, 64), 64)
    return _classifier(images, x, "mini_vgg")
