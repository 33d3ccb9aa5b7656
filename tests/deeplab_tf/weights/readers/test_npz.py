"""`.npz` files: what NumPy writes is read, and what was made to harm is refused before memory is taken for it."""

import io
import re
import tracemalloc
import zipfile

import numpy as np
import pytest

from deeplab_tf.weights.readers import npz

ARRAYS = {
    "conv1_1.weight": np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32),
    "conv1_1.bias": np.arange(8, dtype=np.float16),
    "conv2_1.weight": np.asfortranarray(np.random.default_rng(1).normal(size=(4, 8, 3, 3))),
    "num_batches_tracked": np.array(7),
}


def npy(array, shape=None):
    """The bytes of a .npy file; its header may claim another shape."""
    buffer = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(buffer, {**header, "shape": shape or array.shape})
    buffer.write(array.tobytes("F" if header["fortran_order"] else "C"))
    return buffer.getvalue()


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return str(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, save):
    save(tmp_path / "w.npz", **ARRAYS)
    read = dict(npz.read(str(tmp_path / "w.npz")))
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


REFUSED = {
    "a header that declares 4 TB": ({"w.npy": npy(np.zeros(4, np.float32), (1 << 40,))}, "declares 4398046511104"),
    "a header that declares too little": ({"w.npy": npy(np.zeros(4, np.float32), (2,))}, "declares 8 bytes"),
    "a negative shape": ({"w.npy": npy(np.zeros(4, np.float32), (-4,))}, "shape (-4,)"),
    "two negative sides": ({"w.npy": npy(np.zeros(4, np.float32), (-2, -2))}, "shape (-2, -2)"),
    "zeros that unpack to 64 MB": ({"w.npy": npy(np.zeros(1 << 24, np.float32))}, "would unpack to 67108"),
    "no array": ({"w.txt": b"not an array"}, "magic string"),
    "a later version of the format": ({"w.npy": b"\x93NUMPY\x03\x00" + 8 * b" "}, "version (3, 0)"),
    "a header that never ends": ({"w.npy": npy(np.zeros(4)).replace(b"}", b"(")}, "EOF in multi-line statement"),
    "Python objects": ({"w.npy": npy(np.zeros(2, object), (2,))}, "Python objects"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_sound_is_refused_and_costs_no_memory(tmp_path, case):
    members, message = REFUSED[case]
    path = archive(tmp_path / "w.npz", members)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=re.escape(message)):
            dict(npz.read(path))
        assert tracemalloc.get_traced_memory()[1] < 3e6
    finally:
        tracemalloc.stop()


def test_a_directory_that_lies_about_the_size_is_refused(tmp_path):
    path = archive(tmp_path / "w.npz", {"w.npy": npy(np.zeros(1 << 24, np.float32))})
    content = (tmp_path / "w.npz").read_bytes()
    size, small = (1 << 26) + 128, 128 + 4
    changed = content.replace(size.to_bytes(4, "little"), small.to_bytes(4, "little"))
    assert changed != content
    (tmp_path / "w.npz").write_bytes(changed)
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        dict(npz.read(path))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_read_or_refused(tmp_path, save):
    save(tmp_path / "w.npz", **ARRAYS)
    sound = (tmp_path / "w.npz").read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        content = bytearray(sound)
        if rng.random() < 0.2:
            del content[rng.integers(len(content)) :]
        else:
            for place in rng.integers(len(content), size=rng.integers(1, 5)):
                content[place] ^= 1 << rng.integers(8)
        (tmp_path / "damaged.npz").write_bytes(content)
        try:
            dict(npz.read(str(tmp_path / "damaged.npz")))
        except (ValueError, zipfile.BadZipFile, OSError, EOFError, KeyError):
            refused += 1
    assert refused > 200
