"""Speed of IFGSM with ten steps of epsilon / 10 beside other attack libraries, on the CPU.

    pip install -e '.[imagenet,bench]'
    python benchmarks/attacks.py [--networks=efficientnet_lite0,mini_inception] [--rounds=11] [--threads=2]

All programs attack the same network and images at epsilon 16 with the same labels and take turns in one process. The
ratio is of the medians, theirs over ours: above 1 we are faster. Each library runs as its documentation has it:
cleverhans' and ART's projected gradient descent without random start, foolbox's basic iterative method. The others
attack the network as Keras builds it; ours is what `load_target` returns, which is frozen and made quicker where its
weights are published. cleverhans runs on that one too ("cleverhans+").

Beside the speed stand the part of the images that the attack fooled and the mean |x* - x|, which must be alike, and the
peak memory of a process of its own, which attacks one batch twice. Then adaIFGSM5 of appendix D is timed against its
last rung, IFGSM with twenty steps, on all images.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Callable, Optional

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from hgd_tf.attacks import METHODS, SignGradientAttack
from hgd_tf.foundation.stack import keras
from hgd_tf.targets import Target, load_target
from hgd_tf.targets.loading import load_network

EPSILON, STEPS = 16.0, 10
BATCH_SIZES = {"efficientnet_lite0": 16, "mini_inception": 100}

_NETWORKS = flags.DEFINE_list("networks", list(BATCH_SIZES), "Which.")
_ROUNDS = flags.DEFINE_integer("rounds", 11, "Turns of every program.", 3)
_THREADS = flags.DEFINE_integer("threads", 2, "Threads an operation.", 1)
_PEAK_OF = flags.DEFINE_string("peak_of", None, "Only print this program's peak memory in MiB, on the one network.")

Program = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ours(name: str) -> Program:
    target = load_target(name)
    attack = SignGradientAttack([target], "true")
    return lambda images, labels: attack(images, int(EPSILON), METHODS["ifgsm10"], labels)


def cleverhans(name: str, network: Optional[keras.Model] = None) -> Program:
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    logits = _logits(load_network(name) if network is None else network)

    def run(images, labels):
        return projected_gradient_descent(
            logits,
            tf.cast(images, tf.float32),
            EPSILON,
            EPSILON / STEPS,
            STEPS,
            np.inf,
            clip_min=0.0,
            clip_max=255.0,
            y=tf.constant(labels),
            rand_init=False,
        ).numpy()

    return run


def foolbox(name: str) -> Program:
    import foolbox as fb

    model = fb.TensorFlowModel(_logits(load_network(name)), bounds=(0.0, 255.0))
    attack = fb.attacks.LinfBasicIterativeAttack(abs_stepsize=EPSILON / STEPS, steps=STEPS, random_start=False)

    def run(images, labels):
        return attack(model, tf.cast(images, tf.float32), tf.constant(labels), epsilons=EPSILON)[1].numpy()

    return run


def art(name: str) -> Program:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import TensorFlowV2Classifier

    model = _logits(load_network(name))
    classifier = TensorFlowV2Classifier(
        model=model,
        nb_classes=model.output_shape[-1],
        input_shape=model.input_shape[1:],
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 255.0),
    )
    attack = ProjectedGradientDescent(
        classifier, np.inf, EPSILON, EPSILON / STEPS, max_iter=STEPS, batch_size=1000, verbose=False
    )
    return lambda images, labels: attack.generate(images.astype(np.float32), np.eye(model.output_shape[-1])[labels])


def cleverhans_on_ours(name: str) -> Program:
    return cleverhans(name, load_target(name).network)


PROGRAMS = {
    "ours": ours,
    "cleverhans": cleverhans,
    "cleverhans+": cleverhans_on_ours,
    "foolbox": foolbox,
    "ART": art,
}


def _logits(network: keras.Model) -> keras.Model:
    """A network as a model from images to logits."""
    return keras.Model(network.input, network.output["logits"])


def batch_of(target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Random images, and the classes that the network sees in them."""
    shape = (BATCH_SIZES.get(target.name, 16), target.image_size, target.image_size, target.channels)
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    return images, np.argmax(target(images)["logits"], axis=1)


def median_seconds(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Of alternating turns, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def peak_of(program: str, network: str) -> int:
    arguments = [f"--peak_of={program}", f"--networks={network}", f"--threads={_THREADS.value}"]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def compare(name: str) -> None:
    target = load_target(name)
    images, labels = batch_of(target)
    runs = {program: make(name) for program, make in PROGRAMS.items()}
    seconds = median_seconds(
        {program: lambda run=run: run(images, labels) for program, run in runs.items()}, _ROUNDS.value
    )
    for program, time_taken in seconds.items():
        attacked = runs[program](images, labels).astype(np.float32)
        fooled = np.mean(np.argmax(target(attacked)["logits"], axis=1) != labels)
        print(
            f"{name:<20}{program:<12}{len(images) / time_taken:>8.1f} images/s  "
            f"ours is {time_taken / seconds['ours']:.2f} times as fast  fooled {100 * fooled:.0f} %  "
            f"mean |x*-x| {np.abs(attacked - images).mean():.2f}  peak {peak_of(program, name)} MiB",
            flush=True,
        )


def compare_adaptive(name: str) -> None:
    target = load_target(name)
    images, _ = batch_of(target)
    attack = SignGradientAttack([target])
    runs = {
        method: lambda method=method: attack(images, int(EPSILON), METHODS[method])
        for method in ("adaifgsm5", "ifgsm20")
    }
    seconds = median_seconds(runs, _ROUNDS.value)
    for method, time_taken in seconds.items():
        print(f"{name:<20}{method:<12}{len(images) / time_taken:>8.1f} images/s")


def main(_) -> None:
    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.ERROR)
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    if _PEAK_OF.value:
        target = load_target(_NETWORKS.value[0])
        images, labels = batch_of(target)
        run = PROGRAMS[_PEAK_OF.value](target.name)
        for _ in range(2):
            run(images, labels)
        # Not getrusage, whose peak a new process inherits from the one that started it.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(int(status["VmHWM"].split()[0]) // 1024)
        return
    for name in _NETWORKS.value:
        compare(name)
        compare_adaptive(name)


if __name__ == "__main__":
    app.run(main)
