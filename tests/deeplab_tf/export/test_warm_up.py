import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.export.warm_up import WARM_UP_FILE, write_warm_up


def fields(message):
    """Reads fields with a length, the only ones there are, from the wire format: (number, content)."""
    found, place = [], 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key, length = varint(), varint()
        assert key & 7 == 2
        found.append((key >> 3, message[place : place + length]))
        place += length
    return found


@pytest.mark.parametrize("size", [(None, None), (33, 200)])
def test_requests_are_prediction_logs_for_each_signature(tmp_path, size):
    write_warm_up(str(tmp_path), size)
    seen = {}
    for record in tf.data.TFRecordDataset(str(tmp_path / WARM_UP_FILE)).as_numpy_iterator():
        [(log_type, predict_log)] = fields(record)
        [(request_number, request)] = fields(predict_log)
        (spec_number, model_spec), (inputs_number, entry) = fields(request)
        assert (log_type, request_number, spec_number, inputs_number) == (6, 1, 1, 2)
        [(name_number, signature)] = fields(model_spec)
        (_, key), (_, tensor) = fields(entry)
        assert name_number == 3 and key == b"images"
        proto = tf.compat.v1.TensorProto.FromString(tensor) if hasattr(tf.compat.v1, "TensorProto") else None
        if proto is None:
            from tensorflow.core.framework import tensor_pb2

            proto = tensor_pb2.TensorProto.FromString(tensor)
        seen[signature.decode()] = tf.make_ndarray(proto)
    assert list(seen) == ["serving_default", "probabilities", "encoded", "encoded_rest"]
    height, width = (side or 65 for side in size)
    assert seen["serving_default"].shape == (1, height, width, 3) and seen["serving_default"].dtype == np.uint8
    assert tf.io.decode_png(seen["encoded"][0]).shape == (height, width, 3)


def test_the_messages_are_those_that_tensorflow_serving_declares(tmp_path):
    prediction_log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    write_warm_up(str(tmp_path), (None, None))
    records = tf.data.TFRecordDataset(str(tmp_path / WARM_UP_FILE)).as_numpy_iterator()
    logs = [prediction_log.PredictionLog.FromString(record) for record in records]
    assert [log.predict_log.request.model_spec.signature_name for log in logs][2] == "encoded"
    assert logs[0].predict_log.request.inputs["images"].dtype == tf.uint8.as_datatype_enum
