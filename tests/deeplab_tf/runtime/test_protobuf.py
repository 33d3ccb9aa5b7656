import pytest

from deeplab_tf.runtime.protobuf import decode_varint, encode_field, encode_varint


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**64 - 1])
def test_numbers_survive_the_wire_format(number):
    data = b"\xff" + encode_varint(number) + b"\x01"
    assert decode_varint(data, 1, len(data)) == (number, len(data) - 1)


def test_the_wire_format_is_that_of_protocol_buffers():
    # The examples of protobuf.dev/programming-guides/encoding.
    assert encode_varint(150) == b"\x96\x01"
    assert encode_field(2, b"testing") == b"\x12\x07testing"
    assert encode_field(16, b"") == b"\x82\x01\x00"


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80" * 10 + b"\x01"], ids=["nothing", "cut", "too long"])
def test_what_is_no_number_is_refused(data):
    with pytest.raises(ValueError, match="no number at byte 0"):
        decode_varint(data, 0, len(data))
