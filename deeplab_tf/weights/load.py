"""Loads a weights file of any known format; each has its own reader."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

from deeplab_tf.errors import UserError, in_short
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.weights import fit, names
from deeplab_tf.weights.fit import Fit
from deeplab_tf.weights.imagenet import load_imagenet
from deeplab_tf.weights.readers import caffemodel, hdf5, keras_archive, npz, pytorch, safe_tensors
from deeplab_tf.weights.report import LoadReport, assign, variables_by_name

# Files under the released networks' names: suffix -> reader of (name, array), kernels OIHW.
_RELEASED: dict[str, Callable[[str], Iterator[tuple[str, np.ndarray]]]] = {
    ".npz": npz.read,
    ".caffemodel": caffemodel.read,
    ".pth": pytorch.read,
    ".pt": pytorch.read,
    ".ckpt": pytorch.read,
    ".safetensors": safe_tensors.read,
}
SUFFIXES = (*_RELEASED, ".weights.h5", ".h5", ".keras")

# Under this project's own names.
_OWN = (".weights.h5", ".keras")


def load_weights(model: DeepLab, path: str | os.PathLike[str], seed: int = 0) -> LoadReport:
    """Sets a model's weights from a file.

    The first bytes of the file determine its kind, or otherwise the ending of its name (case does not matter).
    Training writes `.weights.h5`; `keras.Model.save` writes `.keras`. `.caffemodel` is a released Caffe network;
    `.pth`, `.pt` and Lightning's `.ckpt` are PyTorch files. `.npz` and `.safetensors` hold arrays under PyTorch's names
    (`base.layer3.block1.reduce.conv.weight`) or Caffe's (`conv1_1.weight`, `fc8_voc12.bias`), with kernels OIHW. Any
    other `.h5` is a file of Keras applications: see `load_imagenet`. A classifier for a different number of classes is
    skipped, as are ImageNet's classifiers (`fc`, `fc1000`). A prefix of all names, such as `model.` or `_orig_mod.`, is
    ignored. The report mentions both.

    Args:
        model: from `build_model`.
        path: the file.
        seed: selects the units of VGG's fc6 and fc7 that are kept from a Keras file.

    Returns:
        A report of what was loaded, skipped and missing, to be printed.

    Raises:
        UserError: no such file, not readable, a name that matches nothing in the model, another shape, or a
            value that is not finite. The model is then unchanged.
    """
    path = os.fspath(path)
    suffix = _kind_of(path)
    if suffix == ".h5":
        return load_imagenet(model, path, seed)
    variables = variables_by_name(model)
    with _naming_the_file(path):
        if suffix in _OWN:
            with _own_hdf5(path, suffix) as file:
                return assign(model, path, hdf5.read_own(file, variables))
        wrapper, tensors = _unwrapped(path, suffix)
        report = assign(model, path, names.match_released(tensors, variables))
        return dataclasses.replace(report, wrapper=wrapper)


def list_tensors(path: str | os.PathLike[str]) -> list[tuple[str, np.dtype, tuple[int, ...]]]:
    """Lists what a weights file of any known format holds: name in the file, dtype and shape there.

    Raises:
        UserError: no such file, or not readable.
    """
    path = os.fspath(path)
    suffix = _kind_of(path)
    with _naming_the_file(path):
        if suffix in _RELEASED:
            return [(name, array.dtype, array.shape) for name, array in _RELEASED[suffix](path)]
        with _own_hdf5(path, suffix) as file:
            return hdf5.list_arrays(file)


def find_fit(path: str | os.PathLike[str]) -> Fit | None:
    """Finds the experiments that a weights file belongs to, by names and shapes.

    Returns:
        The experiments and the number of classes; None for a file without a classifier of a DeepLabv2 network.

    Raises:
        UserError: no such file, or not readable.
        UnknownBackboneError: the file holds layers that no backbone has.
    """
    path = os.fspath(path)
    suffix = _kind_of(path)
    if suffix == ".h5":
        return None
    with _naming_the_file(path):
        if suffix in _OWN:
            with _own_hdf5(path, suffix) as file:
                shapes = hdf5.kernel_shapes(file)
            return fit.find_fit(lambda _: shapes)
        # Names, types and shapes, without numbers.
        shells = [
            (name, np.broadcast_to(np.zeros((), array.dtype), array.shape))
            for name, array in _unwrapped(path, suffix)[1]
        ]

        def shapes_for(layers: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
            tensors = names.match_released(shells, [f"{layer}/kernel" for layer in layers])
            return {tensor.target: tensor.array.shape for tensor in tensors if tensor.array is not None}

        return fit.find_fit(shapes_for)


def _own_hdf5(path: str, suffix: str) -> contextlib.AbstractContextManager[str]:
    """Gives the path of the HDF5 file that a file is, or has inside."""
    return keras_archive.unpacked(path) if suffix == ".keras" else contextlib.nullcontext(path)


def _unwrapped(path: str, suffix: str) -> tuple[str, Iterator[tuple[str, np.ndarray]]]:
    """Reads a file of released names: what wraps all of them, and the tensors without it."""
    read = _RELEASED[suffix]
    with contextlib.closing(read(path)) as tensors:  # type: ignore[type-var]
        first = next((name for name, _ in tensors if not names.is_beside_network(name)), "")
    # All names are read only where the network's first one is wrapped.
    wrapper = names.wrapper_of([name for name, _ in read(path)]) if names.wrapper_of([first]) else ""
    return wrapper, ((name.removeprefix(wrapper), array) for name, array in read(path))


def _kind_of(path: str) -> str:
    """Returns one of `SUFFIXES`, as a file's content says, or else its name.

    Raises:
        UserError: no such file, or neither says.
    """
    if not os.path.isfile(path):
        raise UserError(f"no weights file at {path}; expected a file ending {' or '.join(SUFFIXES)}.")
    suffix = _by_content(path) or next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")
    if suffix == ".h5" and (path.lower().endswith(".weights.h5") or _has_own_kernels(path)):
        return ".weights.h5"
    if suffix:
        return suffix
    raise UserError(f"cannot read {path}: weights files end {' or '.join(SUFFIXES)}.")


def _by_content(path: str) -> str:
    """Returns the kind that the first bytes say, "" where they say none, as those of a Caffe file."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
        if start[:4] == b"PK\3\4":
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
            if keras_archive.WEIGHTS in members:
                return ".keras"
            if any(member.endswith("/data.pkl") or member == "data.pkl" for member in members):
                return ".pth"
            return ".npz" if members and all(member.endswith(".npy") for member in members) else ""
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):  # its reader says what is wrong
        return ""
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return ".h5"
    if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= os.path.getsize(path) - 8:
        return ".safetensors"
    return ".pth" if start[:3] == b"\x80\x02\x8a" else ""  # a pickle that begins with PyTorch's long magic number


def _has_own_kernels(path: str) -> bool:
    """Says whether an HDF5 file is one that Keras saves of a model, not one of Keras applications."""
    try:
        return bool(hdf5.kernel_shapes(path))
    except (OSError, ValueError, KeyError):  # its loader says what is wrong
        return False


@contextlib.contextmanager
def _naming_the_file(path: str) -> Iterator[None]:
    """Turns what a reader says of a bad file into one line."""
    try:
        yield
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise UserError(
            f"cannot read the weights file {path}; it is damaged or of another format ({in_short(error)})."
        ) from error
