"""Names of the released networks, PyTorch's and Caffe's, as the names of this project's variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from deeplab_tf.errors import UserError
from deeplab_tf.networks import BACKBONES
from deeplab_tf.networks.pretrained import InstalledFile, Tensor
from deeplab_tf.networks.resnet import block_names
from deeplab_tf.weights.readers.mapped import BFLOAT16

_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_PYTORCH_UNITS = {"reduce": "branch2a", "conv3x3": "branch2b", "increase": "branch2c", "shortcut": "branch1"}
_TORCHVISION_NAME = r"bn1\.\w+|layer[1-4]\.\d+\.((conv|bn)[123]|downsample\.[01])\.\w+"
_LONGEST_NAME = 200
# What training programs put around a network; PyTorch's compiler and parallel wrappers too.
_WRAPPERS = frozenset(("module", "model", "net", "network", "_orig_mod", "ema", "ema_model", "state_dict"))
# And what they keep beside it.
_BESIDE = re.compile(r"(callbacks|loops|optimizers?|optimizer_states|lr_schedulers?|scheduler|scaler|amp)\.")


def is_beside_network(file_name: str) -> bool:
    """Says whether a name of a training program's file is that of its optimizer, callbacks and so on."""
    return _BESIDE.match(file_name) is not None


def wrapper_of(file_names: Sequence[str]) -> str:
    """Returns what all names of a network begin with that is not part of it, such as "model._orig_mod."."""
    file_names = [name for name in file_names if not is_beside_network(name)]
    wrapper = ""
    while True:
        parts = {name.removeprefix(wrapper).partition(".")[0] for name in file_names}
        if len(parts) != 1 or not parts <= _WRAPPERS:
            return wrapper
        wrapper += f"{parts.pop()}."


def match_released(tensors: Iterable[tuple[str, np.ndarray]], variables: Iterable[str]) -> Iterator[Tensor]:
    """Translates released names and layouts.

    Args:
        tensors: (name, array) of a file: `base.layer3.block1.reduce.conv.weight`, `conv1_1.weight`,
            `fc8_voc12.bias`, ...; kernels OIHW.
        variables: names of the model's variables, which distinguish ResNet-50 from 101 and one branch from several.

    Yields:
        The tensors, kernels as HWIO views.

    Raises:
        UserError: the names are torchvision's.
        ValueError: a name is not printable, or what should be a weight is not a floating-point number.
    """
    layers = {name.split("/")[0] for name in variables}
    fully_connected: set[str] = set()
    for name, array in tensors:
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"it has a tensor called {name!r:.60}")
        if tensor := _of_a_published_file(name, array):
            yield tensor
            continue
        if reason := _pytorch_reason_to_skip(name):
            yield Tensor(name, "", None, reason)
            continue
        layer = name.rpartition(".")[0]
        if array.ndim == 2 and re.fullmatch(r"fc\d\w*", layer):
            fully_connected.add(layer)  # its bias follows
        if reason := _caffe_reason_to_skip(layer, layer in fully_connected, layers):
            yield Tensor(name, "", None, reason)
            continue
        if not np.issubdtype(array.dtype, np.floating) and array.dtype != BFLOAT16:
            raise ValueError(f"{name} holds values of type {array.dtype}, a weight is a floating-point number")
        target = _from_released_name(name, layers)
        yield Tensor(name, target, array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


def _of_a_published_file(name: str, array: np.ndarray) -> Tensor | None:
    """Translates a name that a backbone knows from the file of its ImageNet weights; None where none does."""
    published = [backbone.imagenet for backbone in BACKBONES.values()]
    for translate in {file.translate: None for file in published if isinstance(file, InstalledFile)}:
        if tensor := translate(name, array):
            return tensor
    return None


def _from_released_name(name: str, layers: set[str]) -> str:
    """Translates a PyTorch or Caffe name; what is in neither form comes back as it is, and will match nothing."""
    path, _, leaf = name.rpartition(".")
    path = path.removeprefix("module.").removeprefix("base.")
    if match := re.fullmatch(r"layer1\.conv1\.(conv|bn)", path):
        return _convolution("conv1", match[1], leaf)
    if match := re.fullmatch(r"layer([2-5])\.block(\d+)\.(reduce|conv3x3|increase|shortcut)\.(conv|bn)", path):
        blocks = block_names(101 if "res4b1_branch2a" in layers else 50)[int(match[1]) - 2]
        if int(match[2]) <= len(blocks):
            block = blocks[int(match[2]) - 1]
            return _convolution(f"res{block}_{_PYTORCH_UNITS[match[3]]}", match[4], leaf)
    if match := re.fullmatch(r"aspp\.c(\d)", path):
        return _biased(_branch("fc1", int(match[1]), layers), leaf)
    if classifier := _caffe_classifier(path):
        return _biased(_branch(classifier[0], classifier[1] or 0, layers), leaf)
    if match := re.fullmatch(r"(?:bn|scale)(_conv1|\d[a-z]\d*_branch\w+)", path):
        return f"{'conv1' if match[1] == '_conv1' else 'res' + match[1]}/{_BATCH_NORM.get(leaf, leaf)}"
    return _biased(path, leaf)


def _pytorch_reason_to_skip(name: str) -> str:
    """Says why a tensor of a PyTorch file is left out on purpose, or "".

    Raises:
        UserError: the name is torchvision's. Its ResNet has the same shapes but another place for the stride, so the
            weights would load and the answers be wrong.
    """
    path = name.removeprefix("module.").removeprefix("base.")
    if re.fullmatch(_TORCHVISION_NAME, path):
        raise UserError(
            f"{name} is a name of torchvision's ResNet, whose stride is on the 3x3 convolutions; this network's is on "
            "the 1x1 before them, so these weights do not fit. Use weights of deeplab-pytorch, Caffe or Keras."
        )
    if name.endswith(".num_batches_tracked"):
        return "a counter that frozen batch normalisation does not need"
    if path in ("fc.weight", "fc.bias"):
        return "a replaced classifier"
    if is_beside_network(name):
        return "the state of a training program"
    return ""


def _caffe_reason_to_skip(layer: str, fully_connected: bool, layers: set[str]) -> str:
    """Says why a layer of a Caffe file is left out on purpose, or ""."""
    if re.search(r"_res0\d+(_|$)", layer):
        return "a copy for another scale of the input, which shares its weights"
    if layer == "fc1000" or (layer == "fc8" and fully_connected):
        return "a replaced classifier"
    if fully_connected:
        return "a fully connected layer, here a convolution"
    classifier = _caffe_classifier(layer)
    if classifier and classifier[1] is None and f"{classifier[0]}_1" in layers:
        return "a classifier of one branch, the network has several"
    return ""


def _caffe_classifier(layer: str) -> tuple[str, int | None] | None:
    """Takes a classifier's name apart, which mostly has the data set's in it.

    fc1_voc12_c2 -> ("fc1", 2); fc8_pascal_context_3 -> ("fc8", 2); the only branch, fc8_voc12 -> ("fc8", None).
    """
    if match := re.fullmatch(r"fc1_(?:\w+_)?c(\d)", layer):
        return "fc1", int(match[1])
    if match := re.fullmatch(r"fc8_\w*[A-Za-z]\w*_(\d)", layer):
        return "fc8", int(match[1]) - 1
    if match := re.fullmatch(r"(fc1|fc8)(_\w*[A-Za-z]\w*)?", layer):
        return match[1], None
    return None


def _convolution(layer: str, part: str, leaf: str) -> str:
    if part == "conv":
        return f"{layer}/{'kernel' if leaf == 'weight' else leaf}"
    return f"{layer}/{_BATCH_NORM.get(leaf, leaf)}"


def _biased(layer: str, leaf: str) -> str:
    return f"{layer}/{'kernel' if leaf == 'weight' else leaf}"


def _branch(layer: str, index: int, layers: set[str]) -> str:
    """The layer of one branch: fc1 where the network has one branch, fc1_1, fc1_2, ... where it has several."""
    return layer if layer in layers and index == 0 else f"{layer}_{index + 1}"
