import io
import pickle
import tracemalloc

import pytest

from deeplab_tf.weights.readers.restricted_pickle import read_pickle

PLAIN = {
    "none": None,
    "bools": [True, False],
    "numbers": (0, 255, 256, 65535, 65536, -1, 2**31, -(2**40), 0.5),
    "texts": ["", "a", "ü" * 200, "b" * 300],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "nested": {"a": {"b": [{}]}, 1: [[]]},
    "one": {"x": 1},
}


def read(content):
    return read_pickle(io.BytesIO(content), {}, {})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back(protocol):
    repeated = [PLAIN, PLAIN]
    assert read(pickle.dumps(repeated, protocol=protocol)) == repeated


def test_the_stream_is_left_behind_the_pickle():
    stream = io.BytesIO(pickle.dumps([1], protocol=2) + pickle.dumps([2], protocol=2) + b"rest")
    assert [read_pickle(stream, {}, {}) for _ in range(2)] == [[1], [2]]
    assert stream.read() == b"rest"


def test_what_the_caller_names_stands_for_globals_calls_and_persistent_ids():
    content = b"\x80\x02(cmod\nconstant\ncmod\nmake\nK\x05K\x06\x86RK\x07Qt."
    value = read_pickle(
        io.BytesIO(content), {"mod.constant": "C"}, {"mod.make": lambda arguments: sum(arguments)}, lambda key: -key
    )
    assert value == ("C", 11, -7)


REFUSED = {
    "a global": (b"cos\nsystem\n.", r"refers to os\.system,"),
    "a global with an escape sequence": (b"\x8c\x02os\x8c\x05\x1b[31m\x93.", r"refers to os\.\\x1b\[31m,"),
    "a global named by numbers": (b"K\x01K\x02\x93.", "names a int"),
    "a call of a value": (b"K\x01)R.", "calls a int"),
    "a call with a list": (b"cmod\nmake\n]R.", "calls with a list"),
    "an instance of protocol 0": (b"(S'a'\nios\nsystem\n.", "uses STRING"),
    "INST": (b"(ios\nsystem\n.", "uses INST"),
    "OBJ": (b"(cmod\nmake\no.", "uses OBJ"),
    "NEWOBJ": (b"cmod\nmake\n)\x81.", "uses NEWOBJ"),
    "an extension": (b"\x82\x01.", "uses EXT1"),
    "a persistent id where none belongs": (b"K\x01Q.", "uses BINPERSID"),
    "a persistent id as text": (b"P1\n.", "uses PERSID"),
    "attributes of a constructor": (b"cmod\nmake\n}b.", "sets attributes of a _Constructor"),
    "items of a constructor": (b"cmod\nmake\nK\x01K\x02s.", "sets items of a _Constructor"),
    "appending to a tuple": (b")K\x01a.", "appends to a tuple"),
    "a key without a value": (b"}(K\x01u.", "a key without a value"),
    "a tuple as a key": (b"})K\x01s.", "a tuple where a name should be"),
    "a name of two lines": (b"}X\x03\0\0\0a\nbK\x01s.", r"has the name 'a\\nb'"),
    "a long name": (b"}X\xc9\0\0\0" + b"a" * 201 + b"K\x01s.", "has the name 'aaa"),
    "a value that is not there": (b"0.", "uses POP"),
    "an empty stack": (b"\x85.", "takes a value that is not there"),
    "a mark that is not there": (b"t.", "a mark that is not there"),
    "values below a mark": (b"]K\x01(a.", "takes a value that is not there"),
    "a repetition of nothing": (b"h\x05.", "repeats a value that it has not had"),
    "an opcode that is none": (b"\xff.", "unknown"),
    "no end": (b"K\x01", "exhausted"),
    "nothing": (b"", "exhausted"),
    "text cut short": (b"X\xff\0\0\0abc.", "expected 255 bytes"),
    "bytes of 8 EB": (b"\x8e" + b"\xff" * 7 + b"\x0fabc.", "bytes"),
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f1.", "long4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_else_is_refused(case):
    content, message = REFUSED[case]
    made = []
    with pytest.raises(ValueError, match=message):
        read_pickle(io.BytesIO(b"\x80\x02" + content), {}, {"mod.make": made.append})
    assert not made


# With these, pickle.Unpickler takes gigabytes or for ever.
DOUBLINGS = b"".join(b"q%ch%c\x86" % (index, index) for index in range(60))
GREEDY = {
    "a place far away in the memo": (b"K\x01r\xff\xff\xff\x7f.", 1),
    "tuples of tuples, 2**60 values in all": (b")" + DOUBLINGS + b".", None),
    "lists in lists": (b"]" * 100_000 + b"a" * 99_999 + b".", None),
    "marks in marks": (b"(" * 100_000 + b"t" * 100_000 + b".", None),
}


@pytest.mark.parametrize("case", GREEDY)
def test_greedy_pickles_stay_small(case):
    content, expected = GREEDY[case]
    tracemalloc.start()
    try:
        value = read(content)
        assert expected is None or value == expected
    except ValueError:
        assert expected is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


def test_more_operations_than_a_state_dict_needs_are_refused():
    with pytest.raises(ValueError, match="more than 300000 operations"):
        read(b"(" + b"}" * 400_000 + b"t.")
    assert len(read(b"(" + b"}" * 299_000 + b"t.")) == 299_000
