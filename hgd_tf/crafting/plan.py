"""What determines a set of attacked images, and the crafting of any part of it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from hgd_tf.attacks import Recipe, Roles, SignGradientAttack, bind, draw_epsilon
from hgd_tf.attacks.methods import Schedule
from hgd_tf.attacks.recipes import BoundAttack
from hgd_tf.data.sources import Source
from hgd_tf.targets import Target
from hgd_tf.versions import package_versions


class Record(NamedTuple):
    """A clean image and what A attacks made of it.

    Attributes:
      number: of the image in its source.
      name: of the image.
      label: 0-based class; -1: unknown.
      epsilon: int64 (A,).
      mean_perturbation: float32 (A,), mean |attacked - clean| in pixel units.
      answers: int64 (J, 1 + A), the classes that J judging networks see in the clean and the attacked images.
      clean: uint8 (H, W, C).
      attacked: uint8 (A, H, W, C).
    """

    number: int
    name: str
    label: int
    epsilon: np.ndarray
    mean_perturbation: np.ndarray
    answers: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray


AttackOn = Callable[["tuple[Target, ...]", tf.distribute.Strategy], SignGradientAttack]
Classifier = Callable[[tf.Tensor], tf.Tensor]


def attack_cache() -> AttackOn:
    """Gives the attack on networks under a strategy, each compiled once for all plans that are given this."""
    return functools.lru_cache(maxsize=None)(_attack_on)


@dataclasses.dataclass
class SetPlan:
    """A set of attacked images before it is crafted, in shards that can be crafted in any order.

    Attributes:
      recipe: the attacks.
      roles: the networks. The attacks run on the replicas of the `tf.distribute` strategy in whose scope the plan is.
      source: the clean images.
      seed: of every draw.
      batch_size: images computed at a time; the last of a shard may be fewer.
      shard_size: images of the source a shard.
      judges: networks whose answers are recorded.
      attack_on: gives the attacks; plans of the same networks may share what was compiled for one of them.
    """

    recipe: Recipe
    roles: Roles
    source: Source
    seed: int
    batch_size: int
    shard_size: int
    judges: tuple[Target, ...] = ()
    attack_on: AttackOn = dataclasses.field(default_factory=attack_cache)

    def __post_init__(self):
        self.attacks = bind(self.recipe, self.roles)
        self.shard_count = -(-len(self.source.labels) // self.shard_size)
        count, lowest, highest = len(self.source.labels), self.recipe.lowest, self.recipe.highest
        self._epsilon = np.stack(
            [draw_epsilon(count, lowest, highest, (self.seed, place)) for place in range(len(self.attacks))]
        )
        self._strategy = tf.distribute.get_strategy()
        self._classifiers = [_classifier(judge) for judge in self.judges]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(attack.name for attack in self.attacks)

    def numbers(self, shard: int) -> range:
        """The source's images that a shard attacks."""
        return range(len(self.source.labels))[shard * self.shard_size : (shard + 1) * self.shard_size]

    def records(self, shard: int, on_batch: Callable[[int], None] = lambda count: None) -> list[Record]:
        """Crafts a shard; files that are no images are left out.

        Args:
          on_batch: called with the number of attacked images finished since the last call.
        """
        numbers, clean = self.source.read(self.numbers(shard))
        epsilon = self._epsilon[:, numbers]
        attacked = np.empty((len(self.attacks), *clean.shape), np.uint8)
        for place, attack in enumerate(self.attacks):
            attacked[place] = self.attack_on(attack.models, self._strategy)(
                clean,
                epsilon[place],
                attack.method,
                seed=self.seed,
                numbers=numbers,
                batch_size=self.batch_size,
                on_batch=on_batch,
            )
        on_batch((len(self.numbers(shard)) - len(numbers)) * len(self.attacks))
        perturbation = [_mean_difference(images, clean) for images in attacked]
        judged = [[self._answers(classify, images) for images in (clean, *attacked)] for classify in self._classifiers]
        answers = np.array(judged, np.int64).reshape(len(self.judges), 1 + len(self.attacks), len(numbers))
        return [
            Record(
                int(number),
                self.source.names[number],
                int(self.source.labels[number]),
                epsilon[:, place],
                np.array([means[place] for means in perturbation], np.float32),
                answers[:, :, place],
                clean[place],
                attacked[:, place],
            )
            for place, number in enumerate(numbers)
        ]

    def _answers(self, classify: Classifier, images: np.ndarray) -> np.ndarray:
        firsts = range(0, len(images), self.batch_size)
        classes = [classify(tf.constant(images[first : first + self.batch_size])) for first in firsts]
        return np.concatenate([*classes, np.zeros(0, np.int64)])

    def description(self) -> dict[str, Any]:
        """JSON types: everything on which the set's bytes depend."""
        return {
            "recipe": self.recipe.name,
            "epsilon": [self.recipe.lowest, self.recipe.highest],
            "attacks": [_described(attack) for attack in self.attacks],
            "networks": {model.name: _fingerprint(model) for model in self._networks()},
            "judges": [judge.name for judge in self.judges],
            "source_images": len(self.source.labels),
            "source": self.source.fingerprint(),
            "image_shape": list(self.source.image_shape),
            "shards": self.shard_count,
            "shard_size": self.shard_size,
            "batch_size": self.batch_size,
            "replicas": self._strategy.num_replicas_in_sync,
            "threads": thread_count(),
            "seed": self.seed,
            "versions": package_versions(),
        }

    def digest(self) -> str:
        """A short name for the description, whatever machine and versions it is crafted with."""
        elsewhere = ("replicas", "threads", "versions")
        content = {key: value for key, value in self.description().items() if key not in elsewhere}
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _networks(self) -> Sequence[Target]:
        models = [model for attack in self.attacks for model in attack.models]
        return list(dict.fromkeys([*models, *self.judges]))


def thread_count() -> int:
    """Threads that share one operation's work, on which rounding depends."""
    of_environment = os.environ.get("TF_NUM_INTRAOP_THREADS", "")  # as TensorFlow asks where the program chose nothing
    return (
        tf.config.threading.get_intra_op_parallelism_threads()
        or (of_environment.isdecimal() and int(of_environment))
        or len(os.sched_getaffinity(0))
    )


def _described(attack: BoundAttack) -> dict[str, Any]:
    schedules = [{**schedule._asdict(), "steps": list(schedule.steps)} for schedule in attack.method]
    for field, neutral in Schedule._field_defaults.items():
        for schedule in schedules:
            # As before there were such fields, so that the sets of that time keep their digests.
            if field not in ("start", "momentum") and schedule[field] == neutral:
                del schedule[field]
    return {"name": attack.name, "schedules": schedules, "networks": [model.name for model in attack.models]}


def _fingerprint(model: Target) -> str:
    digest = hashlib.sha256(f"{model.name} {model.image_size} {model.reading}".rstrip().encode())
    for weight in model.network.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _attack_on(models: tuple[Target, ...], strategy: tf.distribute.Strategy) -> SignGradientAttack:
    with strategy.scope():
        return SignGradientAttack(models)


def _classifier(judge: Target) -> Classifier:
    return tf.function(lambda images: tf.argmax(judge(images)["logits"], axis=-1), reduce_retracing=True)


def _mean_difference(images: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """(N,) float64; image by image, since a set's floats take eight times the memory of its bytes."""
    return np.array([np.abs(image.astype(np.int16) - other).mean() for image, other in zip(images, clean)])
