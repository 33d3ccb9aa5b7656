import functools
import io
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.networks.deeplab import build_model
from deeplab_tf.weights import load_weights
from deeplab_tf.weights.names import match_released
from deeplab_tf.weights.readers import pytorch
from tests import oracles, torch_files
from tests.tiny import tiny_network
from tests.torch_files import Call, Parameter, Reference, View

BFLOAT16 = tf.bfloat16.as_numpy_dtype
FORMATS = {"archive": torch_files.archive, "row of pickles": torch_files.row_of_pickles}
COMMITTED = Path(__file__).parents[3] / "data" / "oracles.npz"
BOUND = 1e-4  # of the standard deviation, see test_oracles.py


@pytest.fixture(params=FORMATS)
def write(request, tmp_path):
    """Writes a value in one of the two formats, and returns the path."""

    def write(value):
        path = tmp_path / "weights.pth"
        path.write_bytes(FORMATS[request.param](value))
        return str(path)

    return write


@functools.cache
def network():
    """Small, and with layers that are named as in Caffe."""
    return tiny_network(num_classes=3)


@pytest.fixture
def tiny():
    return network()


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def state_dict(**arrays):
    """As `Module.state_dict` gives it: an OrderedDict with versions attached."""
    state = OrderedDict(arrays)
    state._metadata = OrderedDict({"": {"version": 1}, "conv": {"version": 2}})
    return state


def weights_of(model, prefix=""):
    """A state dict for the tiny network."""
    leaves = {"kernel": "weight", "bias": "bias"}
    arrays = {}
    for variable in model.variables:
        layer, leaf = variable.path.split("/")[-2:]
        shape = tuple(variable.shape)
        arrays[f"{prefix}{layer}.{leaves[leaf]}"] = draw(
            *((shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape)
        )
    return state_dict(**arrays)


def values_of(model):
    return {"/".join(variable.path.split("/")[-2:]): variable.numpy() for variable in model.variables}


def assert_holds(path, expected):
    tensors = list(pytorch.read(path))
    assert [name for name, _ in tensors] == list(expected)
    for name, array in tensors:
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


def assert_refused(path, message):
    with pytest.raises(UserError, match=message) as raised:
        load_weights(network(), path)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500 and path in str(raised.value)


# The formats


def test_a_state_dict_comes_back_as_it_was_written(write):
    arrays = {
        "kernel": draw(4, 3, 2, 5),
        "half": draw(7, dtype=np.float16),
        "double": draw(2, 3, dtype=np.float64),
        "bfloat16": draw(9, dtype=BFLOAT16),
        "scalar": np.array(2.5, np.float32),
        "counter": np.array(2**40),
        "bytes": np.arange(5, dtype=np.uint8),
        "bools": np.array([True, False]),
        "none": np.zeros((0, 4), np.float32),
    }
    assert_holds(write(state_dict(**arrays)), arrays)
    assert_holds(write(dict(arrays)), arrays)


def test_more_tensors_than_one_batch_of_a_pickle_come_back(write):
    arrays = {f"tensor{index}": np.float32([index]) for index in range(1001)}
    assert_holds(write(state_dict(**arrays)), arrays)


def test_tensors_that_share_a_storage_come_back(write):
    base = draw(6, 5, 4)
    views = {
        "all": base,
        "turned": base.transpose(2, 0, 1),
        "row": base[3],
        "every second": base[1::2, :, 1:3],
        "one": base[5:, 4:, 3:],
    }
    strides = {name: tuple(stride // 4 for stride in view.strides) for name, view in views.items()}
    offsets = {"row": 60, "every second": 21, "one": 119}
    written = {name: View(base, offsets.get(name, 0), view.shape, strides[name]) for name, view in views.items()}
    assert_holds(write(written), views)


def test_parameters_are_tensors(write):
    assert_holds(write({"a": Parameter(draw(3)), "b": draw(2)}), {"a": draw(3), "b": draw(2)})


def test_tensors_of_the_first_releases_are_read(write):
    old = Call("torch._utils", "_rebuild_tensor", (Reference(draw(6)), 2, (2, 2), (2, 1)))
    assert_holds(write({"a": old}), {"a": draw(6)[2:].reshape(2, 2)})


def test_an_ordered_dict_of_python_2_is_read(write):
    pairs = Call("collections", "OrderedDict", ([["b", draw(3)], ["a", draw(2)]],))
    assert_holds(write(pairs), {"b": draw(3), "a": draw(2)})


def test_arrays_are_views_of_the_file_and_outlive_the_reader(write, monkeypatch):
    monkeypatch.setattr(pytorch, "_LARGEST_PICKLE", 1 << 16)  # as much of an old file is copied
    arrays = {"a": draw(1000, 1000), "b": draw(3, dtype=np.float16)}
    path = write(arrays)
    tracemalloc.start()
    tensors = dict(pytorch.read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    os.remove(path)
    assert peak < 1e6
    for name, array in tensors.items():
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, arrays[name])


def test_what_is_no_tensor_is_left_out_and_the_optimizer_named(write):
    state = weights_of(tiny_network())
    path = write(
        {
            "epoch": 7,
            "best": 0.75,
            "arch": "deeplab",
            "history": [1, 2.5, None, (True, "x")],
            "state_dict": state,
            "optimizer": {"state": {0: {"momentum_buffer": draw(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        }
    )
    assert_holds(path, {**state, "optimizer.state.0.momentum_buffer": draw(3)})
    model = tiny_network(seed=5)
    report = load_weights(model, path)
    assert not report.missing
    assert report.skipped == (("optimizer.state.0.momentum_buffer", "the state of a training program"),)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_is_found_under_the_usual_keys(write, key):
    assert_holds(write({key: {"a": draw(3)}, "epoch": 1}), {"a": draw(3)})


def test_tensors_elsewhere_in_the_file_are_no_weights(write, tiny):
    state = weights_of(tiny)
    assert_refused(
        write({"state_dict": state, "average": dict(state)}), r"average\.conv1_1\.weight, which matches nothing"
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64, BFLOAT16])
def test_weights_of_other_precisions_are_loaded_as_float32(write, tiny, dtype):
    state = {name: array.astype(dtype) for name, array in weights_of(tiny).items()}
    load_weights(tiny, write(state))
    expected = state["conv1_1.weight"].astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(values_of(tiny)["conv1_1/kernel"], expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_as_float32_are_refused(write, tiny, value):
    state = {name: array.astype(np.float64) for name, array in weights_of(tiny).items()}
    state["fc1_1.bias"][1] = value
    assert_refused(write(state), r"fc1_1\.bias holds values that are not finite")


# Names


def match(names, depth=101, shape=(3, 2, 1, 1)):
    """Translates names of tensors that are all alike, for a network with four branches of ASPP."""
    variables = [*(f"fc1_{branch}/kernel" for branch in (1, 2, 3, 4)), "conv1/kernel"]
    variables += ["res4b1_branch2a/kernel"] if depth == 101 else []
    return list(match_released(((name, np.zeros(shape, np.float32)) for name in names), variables))


@pytest.mark.parametrize("prefix", ["", "base.", "module.", "module.base."])
def test_names_of_deeplab_pytorch_are_translated_with_and_without_the_wrappers_around_the_network(prefix):
    names = {
        "layer1.conv1.conv.weight": "conv1/kernel",
        "layer1.conv1.bn.running_mean": "conv1/moving_mean",
        "layer2.block1.shortcut.conv.weight": "res2a_branch1/kernel",
        "layer4.block23.conv3x3.bn.weight": "res4b22_branch2b/gamma",
        "layer5.block3.increase.bn.bias": "res5c_branch2c/beta",
        "aspp.c3.bias": "fc1_4/bias",
    }
    assert [tensor.target for tensor in match([prefix + name for name in names])] == list(names.values())


def test_all_632_entries_of_a_released_resnet_101_are_accounted_for():
    names = [name for name, _ in oracles.resnet_parameters(101)]
    tensors = match(names)
    assert len(tensors) == 632
    skipped = [tensor for tensor in tensors if tensor.array is None]
    assert len(skipped) == 104 and all(tensor.name.endswith("num_batches_tracked") for tensor in skipped)
    assert len({tensor.target for tensor in tensors if tensor.array is not None}) == 632 - 104


@pytest.mark.parametrize("name", ["fc.weight", "base.fc.bias", "module.fc.weight"])
def test_the_classifier_of_a_coco_initialisation_is_skipped(name):
    (tensor,) = match([name])
    assert tensor.array is None and tensor.reason == "a replaced classifier"


TORCHVISION = ["conv1.weight", "bn1.weight", "bn1.num_batches_tracked", "layer1.0.conv1.weight", "layer3.22.bn3.bias"]
TORCHVISION += ["layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_var", "fc.weight"]


@pytest.mark.parametrize("first", [1, 3, 4, 5, 6])
def test_a_resnet_of_torchvision_is_refused_with_the_reason(first):
    with pytest.raises(
        UserError, match=r"torchvision's ResNet, whose stride is on the 3x3 .*deeplab-pytorch"
    ) as raised:
        match(["conv1.weight", *TORCHVISION[first:]])
    assert "\n" not in str(raised.value)


def test_integers_are_no_weights(write, tiny):
    state = weights_of(tiny)
    state["conv1_1.bias"] = np.arange(8)
    assert_refused(write(state), r"conv1_1\.bias holds values of type int64, a weight is a floating-point number")


# ResNet-50, from every format with these names


def test_a_resnet_50_is_the_same_from_every_format_and_meets_its_oracle(tmp_path):
    arrays = OrderedDict((name, oracles.parameter(name, shape)) for name, shape in oracles.resnet_parameters(50))
    model = build_model("resnet50_aspp", num_classes=21)
    np.savez(tmp_path / "weights.npz", **arrays)
    load_weights(model, str(tmp_path / "weights.npz"))
    expected = values_of(model)
    files = {
        "new.pth": torch_files.archive,
        "old.pth": torch_files.row_of_pickles,
        "w.safetensors": torch_files.safetensors,
    }
    for name, content_of in files.items():
        for variable in model.variables:
            variable.assign(np.zeros(variable.shape, np.float32))
        (tmp_path / name).write_bytes(content_of(arrays))
        report = load_weights(model, str(tmp_path / name))
        (tmp_path / name).unlink()
        assert not report.missing and len(report.skipped) == 53
        for variable, value in values_of(model).items():
            np.testing.assert_array_equal(value, expected[variable], err_msg=f"{name} {variable}")
    logits = model(oracles.image(65, 97, 2)).numpy()
    with np.load(COMMITTED) as committed:
        difference = np.abs(logits.ravel()[committed["resnet50_aspp_positions"]] - committed["resnet50_aspp"]).max()
        assert difference <= BOUND * committed["resnet50_aspp_deviation"]


# Files that want something done


def test_the_trap_works(tmp_path):
    """What the next test refuses would run in an ordinary unpickler."""
    content = torch_files.Pickle().write(Call("os", "system", (f"touch {tmp_path / 'witness'}",))).finish()
    pickle.loads(content)
    assert (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "getoutput"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("__builtin__", "eval"),
        ("pathlib", "Path"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch.storage", "_load_from_bytes"),
        ("torch.jit", "load"),
        ("collections", "OrderedDict.fromkeys"),
        ("deeplab_tf.weights.readers.pytorch", "read"),
    ],
)
def test_a_file_that_asks_for_anything_but_tensors_is_refused_by_name(write, tmp_path, module, name):
    command = f"touch {tmp_path / 'witness'}"
    if name in ("eval", "exec"):
        command = f"__import__('os').system({command!r})"
    path = write({"weight": draw(3), "x": Call(module, name, (command,))})
    assert_refused(path, rf"the file refers to {module}\.{name}, which does not belong in a weights file")
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize("place", ["before", "machine", "after"])
def test_every_pickle_of_an_old_file_is_read_with_the_same_care(tmp_path, place):
    trap = torch_files.Pickle().write(Call("os", "system", (f"touch {tmp_path / 'witness'}",))).finish()
    preamble = torch_files.PREAMBLE
    machine = torch_files.Pickle().write(torch_files.MACHINE).finish()
    content = {
        "before": trap,
        "machine": preamble + trap,
        "after": preamble + machine + torch_files.Pickle().write({}).finish() + trap,
    }[place]
    (tmp_path / "w.pth").write_bytes(content)
    assert_refused(str(tmp_path / "w.pth"), r"the file refers to os\.system")
    assert not (tmp_path / "witness").exists()


# Files that are not what they say


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(draw(6), 0, (7,), (1,)), r"shape \(7,\) reaches beyond the 6 values"),
        (View(draw(6), 4, (3,), (1,)), "reaches beyond the 6 values"),
        (View(draw(6), 0, (2, 3), (4, 1)), "reaches beyond the 6 values"),
        (View(draw(6), 2**47, (1,), (1,)), "reaches beyond the 6 values"),
        (View(draw(6), 2**60, (1,), (1,)), "no usable offset, shape or strides"),
        (View(draw(6), -1, (1,), (1,)), "no usable offset, shape or strides"),
        (View(draw(6), 0, (-1,), (1,)), "no usable offset, shape or strides"),
        (View(draw(6), 5, (3,), (-1,)), "no usable offset, shape or strides"),
        (View(draw(6), 0, (2.0,), (1,)), "no usable offset, shape or strides"),
        (View(draw(6), 0, (3,), (0,)), r"overlapping strides \(0,\)"),
        (View(draw(6), 0, (3, 2), (1, 1)), "overlapping strides"),
        (View(draw(6), 0, (2, 3), (1, 1)), "overlapping strides"),
        (View(draw(6), 0, (2, 3), (3,)), "no usable shape"),
        (View(draw(6), 0, (1,) * 9, (1,) * 9), "no usable shape"),
        (View(draw(6), 0, (0, 2**47, 2**47), (1, 1, 1)), "too big"),
        (Call("torch._utils", "_rebuild_tensor_v2", (Reference(draw(6)), 0, (6,))), "a tensor is not made of"),
        (Call("torch._utils", "_rebuild_tensor_v2", (None, 0, (6,), (1,), False, {})), "a tensor is not made of"),
        (
            Call("torch._utils", "_rebuild_tensor_v2", (Reference(draw(6)), 0, (6,), (1,), False, {}, {"neg": True})),
            "alone",
        ),
        (Call("torch._utils", "_rebuild_parameter", (1, True, {})), "a parameter is not made of a tensor"),
        (Call("collections", "OrderedDict", ([[1, 2, 3]],)), "not made of pairs"),
    ],
)
def test_a_tensor_that_does_not_lie_within_its_storage_is_refused(write, view, message):
    assert_refused(write({"conv1_1.bias": view}), message)


@pytest.mark.parametrize("value", [draw(3), [draw(3)], 5, "text", None])
def test_what_is_no_state_dict_is_refused(write, value):
    assert_refused(write(value), r"it holds no state dict; write one with torch\.save\(model\.state_dict\(\)")


def test_a_file_without_tensors_is_refused(write):
    assert_refused(write({"epoch": 3}), "holds no tensor that this network could take")


def raw_archive(pickle_bytes, **members):
    return torch_files.archive({}, **{"data.pkl": b"\x80\x02" + pickle_bytes}, **members)


# A dict that holds itself, also under a usual key; 60 dicts, each with the next one twice; and the same of tuples.
CIRCULAR = b"}q\x00X\x01\0\0\0ah\x00s."
CIRCULAR_MODEL = b"}q\x00X\x05\0\0\0modelh\x00s."
DOUBLED = b"}" + b"".join(b"q%c}X\x01\0\0\0ah%csX\x01\0\0\0bh%cs" % (i, i, i) for i in range(60)) + b"."
DOUBLED_TUPLES = b"}X\x01\0\0\0a)" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"s."


@pytest.mark.parametrize("content", [CIRCULAR, CIRCULAR_MODEL, DOUBLED, DOUBLED_TUPLES])
def test_a_state_dict_without_end_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(raw_archive(content))
    assert_refused(str(tmp_path / "w.pth"), "nested too deeply")


def test_a_name_made_of_long_names_is_refused(write):
    assert_refused(write({"a" * 150: {"b" * 150: draw(3)}}), r"a tensor called a{60}\.\.\.")


def storage(kind="FloatStorage", key="0", count=3, first="storage"):
    """A pickle of {"a": the tensor of a storage so described}."""
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()  # noqa: E731
    described = b"(" + text(first) + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    described += b"\x8a\x09" + count.to_bytes(9, "little", signed=True) + b"tQ"
    tail = b"K\x00K\x01\x85K\x01\x85\x89}t"
    return b"}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + described + tail + b"Rs."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (storage(key="1"), r"lacks 'archive/data/1'"),
        (storage(key="../../x"), r"lacks 'archive/data/\.\./\.\./x'"),
        (storage(count=4), "has not the size"),
        (storage(count=2), "has not the size"),
        (storage(count=2**62), "has not the size"),
        (storage(count=-1), "'0' has -1 values"),
        (storage(kind="DoubleStorage"), "has not the size"),
        (storage(kind="UntypedStorage"), r"refers to torch\.UntypedStorage"),
        (storage(first="module"), "not a storage"),
        (storage()[:-2] + b"sX\x01\0\0\0b" + storage(kind="HalfStorage")[7:], "described in two ways"),
    ],
)
def test_a_storage_that_is_not_as_described_is_refused(tmp_path, content, message):
    (tmp_path / "w.pth").write_bytes(raw_archive(content, **{"data/0": bytes(12)}))
    assert_refused(str(tmp_path / "w.pth"), message)


def test_the_storage_of_the_last_test_is_sound_where_nothing_was_changed(tmp_path):
    (tmp_path / "w.pth").write_bytes(raw_archive(storage(), **{"data/0": np.float32([7, 8, 9]).tobytes()}))
    assert_holds(str(tmp_path / "w.pth"), {"a": np.float32([7])})


ARRAYS = {"conv1_1.bias": draw(8)}


def compressed():
    buffer = io.BytesIO()
    content = torch_files.archive(ARRAYS)
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return buffer.getvalue()


def members(**changes):
    with zipfile.ZipFile(io.BytesIO(torch_files.archive(ARRAYS, **changes))) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def end_of(content, **fields):
    """Changes fields of the record at the end of an archive, and leaves out the one for 64 bits."""
    names = {"entries": (10, "<H"), "size": (12, "<I"), "start": (16, "<I")}
    end = bytearray(content[-22:])
    for name, value in fields.items():
        struct.pack_into(names[name][1], end, names[name][0], value)
    return content[: content.index(b"PK\6\6")] + bytes(end)


ARCHIVES = {
    "compressed": (compressed, "compressed or encrypted"),
    "encrypted": (lambda: torch_files.zip_file(members(), flags=0x0809), "compressed or encrypted"),
    "an unknown compression": (lambda: torch_files.zip_file(members(), method=99), "compressed or encrypted"),
    "a member twice": (lambda: torch_files.zip_file(members() * 2), "lists members twice"),
    "big-endian": (lambda: torch_files.archive(ARRAYS, byteorder=b"big"), "big-endian machine"),
    "a version to come": (
        lambda: torch_files.archive(ARRAYS).replace(b"PK\1\2\0\0\0\0", b"PK\1\2\0\0\xff\0"),
        "directory is damaged: zip file version 25.5",
    ),
    "no data.pkl": (lambda: torch_files.archive(ARRAYS, **{"data.pkl": None}), "it has no data.pkl"),
    "two folders": (
        lambda: torch_files.zip_file([*members(), ("b/data.pkl", b"")]),
        "it has no data.pkl",
    ),
    "no storage": (lambda: torch_files.archive(ARRAYS, **{"data/0": None}), "lacks 'archive/data/0'"),
    "a short storage": (lambda: torch_files.archive(ARRAYS, **{"data/0": b"1234"}), "has not the size"),
    "a large data.pkl": (
        lambda: torch_files.archive(ARRAYS, **{"data.pkl": bytes(17 << 20)}),
        "more than 16777216 bytes",
    ),
    "a directory of 4 GB": (lambda: end_of(torch_files.archive(ARRAYS), size=2**32 - 2), "central directory|negative"),
    "a directory of 5 MB": (
        lambda: end_of(torch_files.archive(ARRAYS, **{"data/1": bytes(6 << 20)}), size=5 << 20),
        "directory takes more than 4194304 bytes",
    ),
    "no directory": (lambda: torch_files.archive(ARRAYS)[:-30], "not a zip file"),
    "another format": (lambda: b"<!DOCTYPE html><html>", "opcode"),
    "nothing": (lambda: b"", "empty file"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_torch_would_not_write_is_refused(tmp_path, case):
    content, message = ARCHIVES[case]
    (tmp_path / "w.pth").write_bytes(content())
    network()
    tracemalloc.start()
    assert_refused(str(tmp_path / "w.pth"), message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6


OLD = {
    "big-endian": (torch_files.row_of_pickles(ARRAYS, {"little_endian": False}), "big-endian machine"),
    "another number first": (b"\x80\x02K\x01." + torch_files.row_of_pickles(ARRAYS), "not written by torch.save"),
    "another version": (torch_files.PREAMBLE[:-6] + b"\x80\x02K\x01.", "not written by torch.save"),
    "a storage cut": (torch_files.row_of_pickles(ARRAYS)[:-1], "is not all there"),
    "no list of storages": (
        torch_files.row_of_pickles({"a": 1})[:-6] + b"\x80\x02K\x01.",
        "not those of the state dict",
    ),
}


@pytest.mark.parametrize("case", OLD)
def test_an_old_file_that_torch_would_not_write_is_refused(tmp_path, case):
    content, message = OLD[case]
    (tmp_path / "w.pth").write_bytes(content)
    assert_refused(str(tmp_path / "w.pth"), message)


# Damage, at random


def damage(content, rng):
    """Cuts, flips bits, overwrites with large numbers, or repeats a part elsewhere."""
    content = bytearray(content)
    kind = rng.choice(["cut", "flip", "flip", "large", "repeat"])
    if kind == "cut":
        return bytes(content[: rng.randrange(len(content))])
    for _ in range(rng.choice([1, 1, 3])):
        place = rng.randrange(len(content) - 8)
        if kind == "flip":
            content[place] ^= 1 << rng.randrange(8)
        elif kind == "large":
            content[place : place + 8] = struct.pack(
                "<Q", rng.choice([2**64 - 1, 2**63 - 1, 2**31 - 1, 2 ** rng.randrange(64)])
            )
        else:
            other, size = rng.randrange(len(content)), rng.randrange(1, 40)
            content[place : place + size] = content[other : other + size]
    return bytes(content)


READABLE = (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError)  # what load_weights makes one line of


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_as_it_was_or_refused(tmp_path, kind):
    rng = random.Random(3)
    arrays = state_dict(a=draw(2, 3), b=draw(5, dtype=np.float16), c=np.array(5))
    sound = FORMATS[kind]({"state_dict": arrays, "optimizer": {"state": {0: {"step": np.array(3.0)}}}, "epoch": 3})
    path = tmp_path / "w.pth"
    refused = 0
    tracemalloc.start()
    for _ in range(400):
        path.write_bytes(damage(sound, rng))
        try:
            tensors = dict(pytorch.read(str(path)))
        except READABLE as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        # An archive has a checksum for every part that is read; an old file has none.
        for name, array in tensors.items() if kind == "archive" else ():
            np.testing.assert_array_equal(array, arrays.get(name, 3.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < refused < 400
    assert peak < 32e6


def test_a_pickle_damaged_within_a_sound_archive_is_read_or_refused(tmp_path):
    rng = random.Random(4)
    value = {"state_dict": state_dict(a=draw(2, 3), b=draw(5)), "epoch": 3}
    sound = torch_files.Pickle().write(value).finish()
    path = tmp_path / "w.pth"
    refused = 0
    for _ in range(400):
        path.write_bytes(torch_files.archive(value, **{"data.pkl": damage(sound, rng)}))
        try:
            assert all(array.size <= 11 for _, array in pytorch.read(str(path)))
        except READABLE as error:
            refused += 1
            assert "\n" not in str(error)
    assert 100 < refused < 400


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_loads_or_gives_one_line(tmp_path, tiny, kind):
    rng = random.Random(5)
    sound = FORMATS[kind](weights_of(tiny))
    path = tmp_path / "w.pth"
    for _ in range(40):
        path.write_bytes(damage(sound, rng))
        try:
            load_weights(tiny, str(path))
        except UserError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("pathlib", "PosixPath", ("runs", "a")),
        ("numpy.core.multiarray", "scalar", (Call("numpy", "dtype", ("f8",)), "bytes")),
        ("pytorch_lightning.utilities.parsing", "AttributeDict", ()),
        ("torch", "device", ("cuda", 0)),
        ("__builtin__", "set", ([1, 2],)),
    ],
)
def test_what_training_programs_keep_beside_the_tensors_is_left_out(write, module, name, arguments):
    kept = {"best": [Call(module, name, arguments)], "state_dict": {"a": draw(3)}}
    found = dict(pytorch.read(write(kept)))
    assert list(found) == ["a"]
    np.testing.assert_array_equal(found["a"], draw(3))


def test_what_is_left_out_is_neither_made_nor_asked(tmp_path):
    # An object with attributes, items and elements: NEWOBJ, BUILD, SETITEMS, APPENDS.
    content = b"}X\x01\0\0\0xcargparse\nNamespace\n)\x81}X\x01\0\0\0yK\x01sb(K\x01K\x02u(K\x03es."
    (tmp_path / "w.pth").write_bytes(raw_archive(content))
    assert dict(pytorch.read(str(tmp_path / "w.pth"))) == {}
