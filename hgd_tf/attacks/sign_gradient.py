"""The one attack loop: every method is a schedule of its steps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Callable, Optional, Union

import numpy as np
import tensorflow as tf
from cleverhans.tf2.utils import compute_gradient, optimize_linear

from hgd_tf.attacks.attacked import in_batches
from hgd_tf.attacks.draws import diversity_draws, folded, offsets, partners
from hgd_tf.attacks.methods import FROM_UNIFORM, METHODS, Method, Schedule
from hgd_tf.attacks.transfer import of_unit_mean, shrunk, smoothed
from hgd_tf.foundation.pixel_range import PIXEL_MAX, checks_pixels

Model = Callable[[tf.Tensor], "dict[str, tf.Tensor]"]

UNTARGETED_LABELS = ("predicted", "true")
TARGETED_LABELS = ("least_likely", "random", "given")
LABELS = UNTARGETED_LABELS + TARGETED_LABELS
AUXILIARY_WEIGHT = 0.4
RUNG_STRIDE = 1 << 40  # keeps the random draws of a method's later schedules apart from those of other images


class SignGradientAttack(tf.Module):
    """Moves each pixel along the sign of the loss gradient, inside the epsilon ball and the pixel range.

    The loss is the cross-entropy of the models' mean logits, plus 0.4 times that of the mean auxiliary logits of those
    that have some. It is increased for the label in an untargeted attack and decreased in a targeted one. Every step
    ends in the L-infinity ball around the image and in [0, 255]; the result is rounded to integer pixels, which stay
    in the ball since image and epsilon are integers.

    Made in the scope of a `tf.distribute` strategy, as its models must be, an attack shares each batch out over the
    replicas.

    Args:
      models: attacked together; each maps images (N, H, W, C) in [0, 255] to a dict with `logits` (N, classes) and
        perhaps `aux_logits` (N, classes). There may be none for methods without steps.
      label: whose cross-entropy is followed. Untargeted: `predicted` (argmax of the models' summed probabilities on
        the clean image, which avoids label leaking; section 2.1) or `true`. Targeted: `least_likely` by the same
        sum, `random` (any class but the predicted one) or `given`.

    Raises:
      ValueError: the label is none of `LABELS`.
    """

    def __init__(self, models: Sequence[Model], label: str = "predicted"):
        super().__init__()
        if label not in LABELS:
            raise ValueError(f"label must be one of {LABELS}, received {label!r}")
        self.models = list(models)
        self.label = label
        self.targeted = label in TARGETED_LABELS
        self._strategy = tf.distribute.get_strategy()
        self._model_fn = self._mean_outputs  # one object: compute_gradient traces anew for every other one
        # A tf.function made anew at each call would be traced anew at each; the cache is the object's own.
        self._compiled = functools.lru_cache(maxsize=None)(self._compile)

    @checks_pixels
    def __call__(
        self,
        images: np.ndarray,
        epsilon: Union[int, np.ndarray],
        method: Method = METHODS["fgsm"],
        labels: Optional[np.ndarray] = None,
        *,
        seed: int = 0,
        numbers: Optional[np.ndarray] = None,
        mix_with: Optional[np.ndarray] = None,
        batch_size: Optional[int] = None,
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> np.ndarray:
        """Attacks images.

        Args:
          images: uint8 or integer-valued float32, (N, H, W, C), in [0, 255].
          epsilon: integers (N,) or one for all, the L-infinity radius of each image in pixel units.
          method: its schedules are run one after the other, each on the images that have not fooled every model yet.
          labels: int (N,), 0-based; needed where `label` is `true` or `given`.
          seed: of the random start, the random label and the random sizes.
          numbers: int (N,), of the images in their set; default: 0, 1, …. Random draws depend on an image's number
            and the seed alone, not on the batch it is in; but see `mix_with`.
          mix_with: images (M, H, W, C) in [0, 255] that methods with `admix` mix in; default: `images`, so that only
            with images given here such a method's result does not depend on the others of the call. An image alone
            is mixed with itself.
          batch_size: images computed at a time; the last batch may be smaller. None: all of them.
          on_batch: called with the number of images finished since the last call, for a progress bar.

        Returns:
          uint8 array of the images' shape.

        Raises:
          ValueError: labels or models are needed and absent, epsilon is negative or no integer, or images of
            another shape are to be mixed in.
        """
        images = np.asarray(images)
        labels, epsilon = self._checked(images, epsilon, method, labels)
        numbers = np.arange(len(images)) if numbers is None else np.asarray(numbers)
        pool = images if mix_with is None else np.asarray(mix_with)
        if not len(pool) >= min(len(images), 1) or pool.shape[1:] != images.shape[1:]:
            raise ValueError(f"expected images of shape {images.shape[1:]} to mix with, received {pool.shape}")
        attacked = images.astype(np.uint8)
        followed = np.array(labels, np.int64)
        waiting = np.arange(len(images))
        for rung, schedule in enumerate(method):
            seeds = np.stack([np.full(len(images), seed), numbers + rung * RUNG_STRIDE], axis=1)
            picks = self._partners(schedule, images, pool, seeds, batch_size)
            unfooled = [waiting[:0]]
            for batch in in_batches(waiting, batch_size):
                clean = tf.cast(images[batch], tf.float32)
                if rung == 0 and self.models:
                    followed[batch] = self._follow(clean, labels[batch], seeds[batch])
                others = pool[picks[batch]]
                attacked[batch] = self._run(schedule, clean, epsilon[batch], followed[batch], seeds[batch], others)
                if rung + 1 < len(method):
                    fooled = self._fooled(attacked[batch], followed[batch])
                    unfooled.append(batch[~fooled])
                    on_batch(int(fooled.sum()))
                else:
                    on_batch(len(batch))
            waiting = np.concatenate(unfooled)
        return attacked

    def _checked(self, images, epsilon, method: Method, labels) -> tuple[np.ndarray, np.ndarray]:
        """Labels and epsilons, one an image."""
        if labels is None:
            if self.label in ("true", "given"):
                raise ValueError(f"label={self.label!r} needs labels, received none")
            labels = np.zeros(len(images), np.int64)
        labels = np.asarray(labels)
        if not self.models and (len(method) > 1 or method[0].steps):
            raise ValueError("expected at least one model to attack, received none")
        epsilon = np.broadcast_to(np.asarray(epsilon), (len(images),))
        if not np.all(np.isfinite(epsilon)) or np.any(epsilon < 0) or np.any(epsilon != np.round(epsilon)):
            raise ValueError(f"epsilon must be integers of at least 0, received {epsilon}")
        return labels, epsilon

    def _follow(self, images: tf.Tensor, labels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """The class of each image whose cross-entropy is followed."""
        if self.label in ("true", "given"):
            return labels
        return self._compiled(self._followed_labels, images.shape[1:])((images, tf.constant(seeds))).numpy()

    def _partners(self, schedule: Schedule, images, pool, seeds: np.ndarray, batch_size: Optional[int]) -> np.ndarray:
        """(N, steps, images mixed in), places in the pool."""
        shape = (len(schedule.steps), schedule.admix_images if schedule.admix else 0)
        if not np.prod(shape):
            return np.zeros((len(images), *shape), np.int64)
        own = self._classes(images, batch_size)
        return partners(own, own if pool is images else self._classes(pool, batch_size), seeds, shape)

    def _classes(self, images: np.ndarray, batch_size: Optional[int]) -> np.ndarray:
        predicted = self._compiled(self._predicted_classes, images.shape[1:])
        batches = (images[batch] for batch in in_batches(np.arange(len(images)), batch_size))
        return np.concatenate([predicted((tf.cast(batch, tf.float32),)) for batch in batches] or [np.zeros(0, int)])

    def _fooled(self, attacked: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whether every model answers the target class; or, if the attack is untargeted, another than the label."""
        images = tf.cast(attacked, tf.float32)
        return self._compiled(self._all_fooled, images.shape[1:])((images, tf.constant(labels))).numpy()

    def _run(self, schedule: Schedule, images: tf.Tensor, epsilon, labels, seeds, others: np.ndarray) -> np.ndarray:
        # The steps' lengths are a tensor: schedules that differ in them alone are compiled once.
        loop = self._compiled(self._attack, images.shape[1:], schedule._replace(steps=()), bool(schedule.steps))
        each = (tf.constant(epsilon, tf.float32), tf.constant(labels), tf.constant(seeds))
        batches = (images, *each, tf.constant(others.astype(np.uint8)))
        return loop(batches, tf.constant(schedule.steps, tf.float32)).numpy()

    def _compile(self, function: Callable[..., tf.Tensor], image_shape: tf.TensorShape, *options):
        """`function(*options, *batches, …)` for batches of any size, each shared out over the strategy's replicas."""

        def run(batches, *whole):
            def on_replica(*batches):
                context = tf.distribute.get_replica_context()
                number, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
                total = tf.shape(batches[0])[0]
                first, end = number * total // count, (number + 1) * total // count
                # At least one image: oneDNN's fused convolutions fail on empty batches.
                begin = tf.minimum(first, total - 1)
                parts = (batch[begin : tf.maximum(end, begin + 1)] for batch in batches)
                return function(*options, *parts, *whole)[first - begin : end - begin]

            results = self._strategy.run(on_replica, batches)
            return tf.concat(self._strategy.experimental_local_results(results), axis=0)

        # Of any number of images, so that a last batch, or one of those that are left unfooled, compiles nothing anew.
        images = tf.TensorSpec((None, *image_shape), tf.float32)
        labels, seeds = tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, 2), tf.int64)
        vector = tf.TensorSpec((None,), tf.float32)
        others = tf.TensorSpec((None, None, None, *image_shape), tf.uint8)
        signature = {
            self._followed_labels: [(images, seeds)],
            self._predicted_classes: [(images,)],
            self._all_fooled: [(images, labels)],
            self._attack: [(images, vector, labels, seeds, others), vector],
        }[function]
        return tf.function(run, input_signature=signature)

    def _attack(self, schedule: Schedule, moves: bool, images, epsilon, labels, seeds, others, steps) -> tf.Tensor:
        radius = epsilon[:, tf.newaxis, tf.newaxis, tf.newaxis]
        lowest = tf.maximum(images - radius, 0.0)
        highest = tf.minimum(images + radius, PIXEL_MAX)
        attacked = tf.clip_by_value(images + radius * offsets(schedule.start, seeds, images), lowest, highest)
        if moves:  # known while tracing: without steps there need be no model
            accumulated = variance = tf.zeros_like(images)
            draws = diversity_draws(schedule, seeds, tf.size(steps))
            for number in tf.range(tf.size(steps)):
                point, mixed = attacked, others[:, number]
                if schedule.nesterov:
                    point += schedule.momentum * steps[number] * radius * accumulated
                gradient = self._gradient(schedule, point, labels, draws[:, number, 0], mixed)
                if schedule.neighbours:
                    around = self._mean_around(schedule, point, radius, labels, draws[:, number], mixed, seeds, number)
                    gradient, variance = gradient + variance, around - gradient
                if schedule.translation:
                    gradient = smoothed(gradient, schedule.translation)
                if schedule.momentum:
                    gradient = of_unit_mean(gradient) + schedule.momentum * accumulated
                    accumulated = gradient
                moved = attacked + optimize_linear(gradient, steps[number] * radius)
                attacked = tf.clip_by_value(moved, lowest, highest)
        return tf.cast(tf.round(attacked), tf.uint8)

    def _mean_around(self, schedule: Schedule, point, radius, labels, draws, mixed, seeds, step) -> tf.Tensor:
        """The mean gradient at uniform points of the neighbourhood, one after the other."""
        total = tf.zeros_like(point)
        for number in tf.range(schedule.neighbours):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            away = offsets(FROM_UNIFORM, folded(seeds, step * schedule.neighbours + number), point)
            near = point + schedule.neighbourhood * radius * away
            total += self._gradient(schedule, near, labels, draws[:, 1 + number], mixed)
        return total / schedule.neighbours

    def _gradient(self, schedule: Schedule, images: tf.Tensor, labels, draws, mixed) -> tf.Tensor:
        """The mean over an image's copies, one after the other, since all at once may not fit into memory."""
        if schedule.copies == 1:
            return self._gradient_at_copy(schedule, images, labels, draws, mixed, 0)
        total = tf.zeros_like(images)
        for copy in tf.range(schedule.copies):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            total += self._gradient_at_copy(schedule, images, labels, draws, mixed, copy)
        return total / schedule.copies

    def _gradient_at_copy(self, schedule: Schedule, images: tf.Tensor, labels, draws, mixed, copy) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            seen = images
            if schedule.admix:
                seen += schedule.admix * tf.cast(mixed[:, copy // schedule.scales], tf.float32)
            if schedule.scales > 1:
                seen *= 0.5 ** tf.cast(copy % schedule.scales, tf.float32)
            if schedule.diversity:
                seen = shrunk(seen, draws[:, copy], schedule.diversity)
        gradient = compute_gradient(self._model_fn, _loss, seen, labels, self.targeted)
        # A filter before the model can hide the gradient's static shape, which the loop needs to keep.
        return tf.ensure_shape(tape.gradient(seen, images, gradient), images.shape)

    def _mean_outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = [model(images) for model in self.models]
        found = {key: [output[key] for output in outputs if key in output] for key in ("logits", "aux_logits")}
        return {key: tf.add_n(values) / len(values) for key, values in found.items() if values}

    def _followed_labels(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        probabilities = self._summed_probabilities(images)
        if self.label == "least_likely":
            return tf.argmin(probabilities, axis=-1)
        predicted = tf.argmax(probabilities, axis=-1)
        if self.label == "predicted":
            return predicted
        classes = tf.shape(probabilities, tf.int64)[-1]
        shift = tf.map_fn(lambda seed: tf.random.stateless_uniform((), seed, 1, classes, tf.int64), seeds)
        return (predicted + shift) % classes

    def _predicted_classes(self, images: tf.Tensor) -> tf.Tensor:
        return tf.argmax(self._summed_probabilities(images), axis=-1)

    def _summed_probabilities(self, images: tf.Tensor) -> tf.Tensor:
        return tf.add_n([tf.nn.softmax(model(images)["logits"]) for model in self.models])

    def _all_fooled(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        hits = tf.stack([tf.argmax(model(images)["logits"], axis=-1) == labels for model in self.models])
        return tf.reduce_all(hits if self.targeted else ~hits, axis=0)


def _loss(labels: tf.Tensor, logits: dict[str, tf.Tensor]) -> tf.Tensor:
    """Each image's loss from the models' mean outputs, which cleverhans hands over as `logits`."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits["logits"])
    if "aux_logits" in logits:
        auxiliary = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits["aux_logits"])
        loss += AUXILIARY_WEIGHT * auxiliary
    return loss
