"""What becomes of the tensors of a weights file: matched with a model's variables, checked, assigned, reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.errors import UserError
from deeplab_tf.networks.aspp import is_classifier
from deeplab_tf.networks.pretrained import Tensor

_PART_BYTES = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and every variable of the model.

    Attributes:
        source: the file.
        loaded: names of the model's variables that were set, "conv1_1/kernel" and so on.
        skipped: (name in the file, reason) of what was left out on purpose.
        missing: names of the model's variables that the file does not have; they keep their values.
        wrapper: what all names in the file begin with, and was left out.
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    wrapper: str = ""

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {len(self.loaded)} tensors loaded, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing"
        ]
        if self.wrapper:
            lines.append(f"  all names in the file begin with {self.wrapper}, which was left out")
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped:
            by_reason.setdefault(reason, []).append(name)
        lines += [f"  skipped, {reason}: {_enumerate(names)}" for reason, names in by_reason.items()]
        if self.missing:
            lines.append(f"  not in the file, left as they were: {_enumerate(list(self.missing))}")
        return "\n".join(lines)


def variables_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's variables as "layer/variable"; layer names are unique within a network."""
    return {"/".join(variable.path.split("/")[-2:]): variable for variable in model.variables}


def assign(model: keras.Model, source: str, tensors: Iterator[Tensor]) -> LoadReport:
    """Checks every tensor, then sets the model's variables.

    Args:
        model: from `build_model`.
        source: the file, for messages.
        tensors: of the file.

    Returns:
        What was loaded, skipped and missing.

    Raises:
        UserError: a name that matches nothing, another shape, a value that is not finite. The model is then
            unchanged.
    """
    variables = variables_by_name(model)
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
            # [kh, kw, C, K] or [K]; the kernels of two heads may differ in size too.
            same_inputs = array.ndim == len(shape) and array.shape[-2:-1] == shape[-2:-1]
            if is_classifier(target.split("/")[0]) and same_inputs and array.shape[-1] != shape[-1]:
                skipped.append((name, f"a classifier of {array.shape[-1]} classes, the network has {shape[-1]}"))
                continue
            raise UserError(f"{source}: {name} has shape {array.shape}, the network's {target} has {shape}.")
        if not _is_finite(array):
            raise UserError(
                f"{source}: {name} holds values that are not finite; the file is damaged or training diverged."
            )
        found[target] = array
    if not found:
        raise UserError(f"{source} holds no tensor that this network could take.")
    for target, array in found.items():
        _set(variables[target], array)
    missing = tuple(name for name in variables if name not in found)
    return LoadReport(source, tuple(found), tuple(skipped), missing)


def _is_finite(array: np.ndarray) -> bool:
    """Says whether all values are finite as float32, without a second array."""
    # A NaN is its own minimum, and says nothing on the way; a large double becomes infinite.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.float32(array.min())) and np.isfinite(np.float32(array.max())))


def _set(variable: keras.Variable, array: np.ndarray) -> None:
    """Assigns in parts where the array is large.

    It may be a transposed view of a mapped file. At once, a copy of the whole would lie beside the variable and the
    pages of the file; of the largest kernel that is most of the file's size.
    """
    parts = -(-array.nbytes // _PART_BYTES)
    # The variables of a mirrored strategy cannot be assigned in parts.
    if parts <= 1 or isinstance(variable.value, tf.distribute.DistributedValues):
        variable.assign(array)
        return
    step = -(-array.shape[-1] // parts)
    for start in range(0, array.shape[-1], step):
        part = array[..., start : start + step]
        variable.value[..., start : start + step].assign(np.ascontiguousarray(part, np.float32))


def _enumerate(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
