"""Requests that TensorFlow Serving sends to a model while it loads it, so that the first user does not wait.

A server traces and optimises a graph at its first request. It looks for such requests in
assets.extra/tf_serving_warmup_requests, a TFRecord file of `tensorflow.serving.PredictionLog` messages. They are few
and plain enough to be written here, which spares users the package that declares them.
"""

from __future__ import annotations

import os

import tensorflow as tf

from deeplab_tf.runtime.protobuf import encode_field

WARM_UP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
# Of the images in it where any size is taken.
_SIDE = 65


def write_warm_up(model_dir: str, size: tuple[int | None, int | None]) -> None:
    """Writes one request for each signature that takes images.

    Args:
        model_dir: of the SavedModel.
        size: height and width that the model takes, None for any.
    """
    height, width = (side or _SIDE for side in size)
    image = tf.zeros([height, width, 3], tf.uint8)
    pixels = tf.make_tensor_proto(image[tf.newaxis].numpy())
    encoded = tf.make_tensor_proto([tf.io.encode_png(image).numpy()])
    path = os.path.join(model_dir, WARM_UP_FILE)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for signature, tensor in (
            ("serving_default", pixels),
            ("probabilities", pixels),
            ("encoded", encoded),
            ("encoded_rest", encoded),
        ):
            writer.write(_prediction_log(signature, {"images": tensor.SerializeToString()}))


def _prediction_log(signature: str, inputs: dict[str, bytes]) -> bytes:
    """Serialises PredictionLog{predict_log: {request: {model_spec: {signature_name}, inputs}}}.

    Args:
        signature: its name.
        inputs: from names to serialised TensorProtos.
    """
    model_spec = encode_field(3, signature.encode())
    # A map is a repeated message of key and value.
    entries = [
        encode_field(2, encode_field(1, name.encode()) + encode_field(2, tensor)) for name, tensor in inputs.items()
    ]
    request = encode_field(1, model_spec) + b"".join(entries)
    return encode_field(6, encode_field(1, request))
