"""The clock: what is waited for and crafted adds up, and a dataset that it watches stays what it was."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from hgd_tf.guidance import Batch
from hgd_tf.training.clock import Clock


@pytest.fixture
def time(monkeypatch):
    """A time that goes on where `time.now` is increased only."""
    time = SimpleNamespace(now=100.0)
    time.perf_counter = lambda: time.now
    monkeypatch.setattr("hgd_tf.training.clock.time", time)
    return time


def test_seconds_of_each_kind_add_up_until_they_are_read(time):
    clock = Clock()
    for seconds in (1.5, 2.0):
        with clock.waiting():
            time.now += seconds
        with clock.crafting():
            time.now += 10 * seconds
        time.now += 1000
    assert clock.read_and_reset() == (3.5, 35.0)
    assert clock.read_and_reset() == (0.0, 0.0)
    with clock.crafting():
        time.now += 4
    assert clock.read_and_reset() == (0.0, 4.0)


def test_time_before_an_error_counts(time):
    clock = Clock()
    with pytest.raises(KeyError), clock.waiting():
        time.now += 2
        raise KeyError
    assert clock.read_and_reset() == (2.0, 0.0)


class SlowData:
    """Stands for a dataset, which would fetch ahead: four elements, each of which takes three seconds."""

    element_spec = (tf.TensorSpec((2, 5), tf.float32), tf.TensorSpec((2,), tf.int64))

    def __init__(self, time):
        self.time = time

    def __iter__(self):
        for number in range(4):
            self.time.now += 3
            yield np.full((2, 5), number, np.float32), np.array([number, -number])


def test_a_timed_datasets_elements_are_waited_for_and_the_same(time):
    clock = Clock()
    data = clock.timed(SlowData(time))
    assert data.element_spec == SlowData.element_spec
    seen = [(images.numpy(), numbers.numpy()) for images, numbers in data]
    assert clock.read_and_reset() == (12.0, 0.0)
    assert len(seen) == 4
    for number, (images, numbers) in enumerate(seen):
        np.testing.assert_array_equal(images, np.full((2, 5), number))
        np.testing.assert_array_equal(numbers, [number, -number])


def test_a_timed_dataset_keeps_its_structure():
    batch = Batch(*(tf.constant([value]) for value in (1.5, 2.5, 3, 4)))
    (timed,) = Clock().timed(tf.data.Dataset.from_tensors(batch))
    assert isinstance(timed, Batch)
    assert [part.numpy().item() for part in timed] == [1.5, 2.5, 3, 4]
