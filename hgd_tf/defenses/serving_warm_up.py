"""The requests with which TensorFlow Serving warms a model up, in the wire format of its protocol buffers.

They are a few fields of four messages of tensorflow_serving/apis (prediction_log.proto, predict.proto, model.proto);
tensorflow-serving-api, which defines them, is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Union

import numpy as np
import tensorflow as tf

WARM_UP_FILE = "tf_serving_warmup_requests"

# Numbers of fields.
PREDICT_LOG = 6  # of PredictionLog
REQUEST = 1  # of PredictLog
MODEL_SPEC, INPUTS = 1, 2  # of PredictRequest
KEY, VALUE = 1, 2  # of an entry of a map
NAME, SIGNATURE_NAME = 1, 3  # of ModelSpec

LENGTH_DELIMITED = 2  # the wire type of strings and messages
SEVEN_BITS = 0x7F


def write_warm_up(path: Union[str, Path], model: str, inputs: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes a TFRecord with one request a signature.

    Args:
      inputs: of each signature, by its name: its inputs by theirs.
    """
    with tf.io.TFRecordWriter(str(path)) as records:
        for signature, arrays in inputs.items():
            records.write(prediction_log(model, signature, arrays))


def prediction_log(model: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A serialized `tensorflow.serving.PredictionLog` that holds a `PredictRequest`."""
    spec = _field(NAME, model.encode()) + _field(SIGNATURE_NAME, signature.encode())
    request = _field(MODEL_SPEC, spec)
    for name, array in inputs.items():
        tensor = tf.make_tensor_proto(array).SerializeToString()
        request += _field(INPUTS, _field(KEY, name.encode()) + _field(VALUE, tensor))
    return _field(PREDICT_LOG, _field(REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    groups = [value & SEVEN_BITS]
    while value := value >> 7:
        groups.append(value & SEVEN_BITS)
    return bytes([*(group | SEVEN_BITS + 1 for group in groups[:-1]), groups[-1]])
