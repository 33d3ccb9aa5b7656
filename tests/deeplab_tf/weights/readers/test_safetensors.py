import functools
import json
import random
import struct
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.weights import load_weights
from deeplab_tf.weights.readers import safe_tensors
from tests.tiny import tiny_network
from tests.torch_files import safetensors, safetensors_file

BFLOAT16 = tf.bfloat16.as_numpy_dtype


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


ARRAYS = {
    "kernel": draw(4, 3, 2, 5),
    "half": draw(7, dtype=np.float16),
    "double": draw(2, 3, dtype=np.float64),
    "bfloat16": draw(9, dtype=BFLOAT16),
    "scalar": np.array(2.5, np.float32),
    "none": np.zeros((0, 4), np.float32),
    "counter": np.array(2**40),
}


def assert_holds(path, expected):
    tensors = list(safe_tensors.read(str(path)))
    assert [name for name, _ in tensors] == list(expected)
    for name, array in tensors:
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


@functools.cache
def network():
    return tiny_network()


def assert_refused(path, message):
    with pytest.raises(UserError, match=message) as raised:
        load_weights(network(), str(path))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500 and str(path) in str(raised.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_come_back_as_they_were_written(tmp_path, metadata):
    (tmp_path / "w.safetensors").write_bytes(safetensors(ARRAYS, metadata))
    assert_holds(tmp_path / "w.safetensors", ARRAYS)


def test_the_header_may_list_the_tensors_in_another_order_than_they_lie_in(tmp_path):
    header = {
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        "a": {"shape": [], "data_offsets": [0, 4], "dtype": "F32"},
    }
    (tmp_path / "w.safetensors").write_bytes(safetensors_file(header, np.float32([1, 2, 3]).tobytes()))
    assert_holds(tmp_path / "w.safetensors", {"b": np.float32([2, 3]), "a": np.float32(1)[()].reshape(())})


def test_arrays_are_views_of_the_file_and_outlive_the_reader(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(safetensors({"a": draw(1000, 1000)}))
    tracemalloc.start()
    tensors = dict(safe_tensors.read(str(tmp_path / "w.safetensors")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (tmp_path / "w.safetensors").unlink()
    assert peak < 1e5 and not tensors["a"].flags.writeable
    np.testing.assert_array_equal(tensors["a"], draw(1000, 1000))


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = np.float32([1, 2]).tobytes()
REFUSED = {
    "cut": (safetensors(ARRAYS)[:-1], "describes 572 bytes of tensors, the file has 571"),
    "something behind": (safetensors(ARRAYS) + b"x", "describes 572 bytes of tensors, the file has 573"),
    "a gap": (safetensors_file({"a": entry(offsets=(4, 12))}, EIGHT + b"1234"), "overlap or leave gaps"),
    "an overlap": (safetensors_file({"a": entry(), "b": entry()}, EIGHT), "overlap or leave gaps"),
    "a name twice": (
        safetensors_file(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), EIGHT),
        "has a name twice",
    ),
    "a shape too small": (safetensors_file({"a": entry(shape=[1])}, EIGHT), "a has no usable shape and place"),
    "a shape too large": (safetensors_file({"a": entry(shape=[2**40, 2**40])}, EIGHT), "no usable shape and place"),
    "a negative shape": (safetensors_file({"a": entry(shape=[-1, -2])}, EIGHT), "no usable shape and place"),
    "a broken shape": (safetensors_file({"a": entry(shape=[2.0])}, EIGHT), "no usable shape and place"),
    "a shape of truths": (safetensors_file({"a": entry(shape=[True, 2])}, EIGHT), "no usable shape and place"),
    "nine dimensions": (safetensors_file({"a": entry(shape=[1] * 8 + [2])}, EIGHT), "no usable shape and place"),
    "nothing, a lot of it": (
        safetensors_file({"a": entry(shape=[0, 2**47, 2**47], offsets=(0, 0))}, b""),
        "too big",
    ),
    "negative offsets": (safetensors_file({"a": entry(offsets=(-8, 0))}, EIGHT), "no usable shape and place"),
    "turned offsets": (safetensors_file({"a": entry(offsets=(8, 0))}, EIGHT), "no usable shape and place"),
    "offsets past the end": (
        safetensors_file({"a": entry(shape=[2**38], offsets=(0, 2**40))}, EIGHT),
        "the file has 8",
    ),
    "one offset": (safetensors_file({"a": entry(offsets=(0,))}, EIGHT), "no usable shape and place"),
    "another type": (
        safetensors_file({"a": entry(dtype="F8_E4M3", shape=[8])}, EIGHT),
        "of type 'F8_E4M3'; known are F64",
    ),
    "no entry": (safetensors_file({"a": 5}, EIGHT), "no usable shape and place"),
    "a list": (safetensors_file(b"[]", b""), "lists no tensors"),
    "a name of two lines": (safetensors_file({"a\nb": entry()}, EIGHT), r"a tensor called 'a\\nb'"),
    "half a letter": (safetensors_file({"a\ud800": entry()}, EIGHT), "a tensor called"),
    "a long name": (safetensors_file({"a" * 201: entry()}, EIGHT), "a tensor called 'aaa"),
    "brackets": (safetensors_file(b"[" * 200_000, b""), "nested too deeply"),
    "no JSON": (safetensors_file(b"{", b""), "damaged or of another format"),
    "other text": (safetensors_file(b"\xff\xfe", b""), "can't decode byte 0xff"),
    "a header of 4 EB": (struct.pack("<Q", 2**62) + b"{}", "the size of a header"),
    "a header larger than the file": (struct.pack("<Q", 9) + b"{}      ", "the size of a header"),
    "a header of 9 MB": (struct.pack("<Q", 9 << 20) + bytes(9 << 20), "the size of a header"),
    "a number of a megabyte": (safetensors_file(b'{"a":' + b"1" * 1_000_000 + b"}", b""), "integer string conversion"),
    "another format": (b"<!DOCTYPE html><html>", "the size of a header"),
    "short": (b"1234567", "the size of a header"),
    "nothing": (b"", "empty file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_sound_is_refused(tmp_path, case):
    content, message = REFUSED[case]
    (tmp_path / "w.safetensors").write_bytes(content)
    network()
    tracemalloc.start()
    assert_refused(tmp_path / "w.safetensors", message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6


def test_a_damaged_file_is_read_or_refused(tmp_path):
    rng = random.Random(6)
    sound = safetensors(ARRAYS, {"format": "pt"})
    values = sum(array.size for array in ARRAYS.values())
    refused = 0
    for _ in range(400):
        content = bytearray(sound)
        place = rng.randrange(len(content))
        if rng.random() < 0.4:
            del content[place:]
        else:
            content[place] = rng.choice([content[place] ^ 1 << rng.randrange(8), 0xFF, ord("9"), ord("["), ord("-")])
        (tmp_path / "w.safetensors").write_bytes(content)
        try:
            tensors = dict(safe_tensors.read(str(tmp_path / "w.safetensors")))
            assert sum(array.size for array in tensors.values()) <= 8 * values
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 100 < refused < 400
