"""The network as an ONNX graph, float32, float16 or int8: what ONNX files hold, and what OpenVINO's are made of."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_tf.config import Config
from deeplab_tf.errors import UserError
from deeplab_tf.export.compare import Format, Predict, compare
from deeplab_tf.export.description import Description, Size
from deeplab_tf.export.interchange import CONFIDENCE, INPUT, LABELS, PortableNetwork
from deeplab_tf.export.onnx_conversion import onnx_of, quiet
from deeplab_tf.export.packages import require
from deeplab_tf.inference.probabilities import bytes_per_pixel, fold_inference
from deeplab_tf.networks.deeplab import DeepLab

# What is quantised; activations too, or what is before them is stored in steps for a range that they cut off. The first
# and the last steps, normalising and upsampling, are exact and cheap as they are.
_QUANTISED = ["Conv", "Relu", "Clip", "Add", "MaxPool", "AveragePool", "Pad"]


class Source:
    """A network as an ONNX graph, and what every file made of it says of itself and must compute.

    Args:
        model: trained, float32.
        config: of the training; `config.inference` says how the network is run.
        size: height and width of the images, or None for any.

    Attributes:
        graph: the onnx.ModelProto, float32.
        description: of the file.

    Raises:
        UserError: a package is missing, or the network cannot be converted.
    """

    def __init__(self, model: DeepLab, config: Config, size: Size) -> None:
        per_pixel = 0.0 if None not in size else bytes_per_pixel(model, config.inference)
        self.description = Description(config, model.mean_rgb, size=size, bytes_per_pixel=per_pixel)
        self.graph = convert(PortableNetwork(model, config.inference, size))
        self._network = fold_inference(model, config.inference, size)

    def agreement(self, predict: Predict, pictures: Sequence[np.ndarray], name: str, allowed: Format) -> float:
        """Compares a file with the network, see `compare`.

        Raises:
            UserError: the two do not compute the same.
        """
        return compare(
            predict, lambda image: self._network.answer(image[np.newaxis])[0].numpy(), pictures, name, allowed
        )


def convert(network: PortableNetwork) -> Any:
    """Returns the onnx.ModelProto, float32: input images, outputs labels and confidence.

    Raises:
        UserError: tf2onnx is missing, or a map has no size in the graph.
    """
    model = onnx_of(network.segment)
    _name(model.graph, network)
    for position, node in enumerate(model.graph.node):
        if node.op_type == "Resize":
            _resize_to_sizes(model, position)
    used = {name for node in model.graph.node for name in node.input}
    kept = [constant for constant in model.graph.initializer if constant.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _resize_to_sizes(model: Any, position: int) -> None:
    """Gives a Resize the sides of its result, not factors: 29 cells times 15.4827 may be 448 or 449 pixels."""
    onnx = require("onnx", "ONNX")
    node = model.graph.node[position]
    constants = {constant.name: constant for constant in model.graph.initializer}
    x, _, scales, *sizes = node.input
    if not sizes:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        [shape] = [value.type.tensor_type.shape.dim for value in inferred.value_info if value.name == x]
        factors = onnx.numpy_helper.to_array(constants[scales])
        result = np.round([side.dim_value * factor for side, factor in zip(shape, factors, strict=True)])
        if not all(result):
            raise UserError("the network cannot be converted to ONNX: a map has no size in the graph.")
        sizes = [f"{node.name}_sizes"]
        model.graph.initializer.append(onnx.numpy_helper.from_array(result.astype(np.int64), sizes[0]))
    # What is left out is an empty name. An empty tensor is the same to some readers, but not to all.
    node.input[:] = [x, "", "", *sizes]


def _name(graph: Any, network: PortableNetwork) -> None:
    """Gives the input and the outputs the names that are promised, and their shapes."""
    [taken] = graph.input
    by_type = {output.type.tensor_type.elem_type: output for output in graph.output}
    onnx = require("onnx", "ONNX")
    renamed = {
        taken.name: INPUT,
        by_type[onnx.TensorProto.UINT8].name: LABELS,
        by_type[onnx.TensorProto.FLOAT].name: CONFIDENCE,
    }
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    sides = network.segment.input_signature[0].shape
    for value in (taken, *graph.output):
        value.name = renamed[value.name]
        for dimension, side, name in zip(value.type.tensor_type.shape.dim, sides, "BHW", strict=False):
            dimension.Clear()
            if side is None:
                dimension.dim_param = name
            else:
                dimension.dim_value = side
    graph.output.sort(key=lambda output: (LABELS, CONFIDENCE).index(output.name))


def to_float16(model: Any) -> Any:
    """Returns a model with float16 weights and maps; the outputs stay what they are, and so does the argument.

    Raises:
        UserError: onnxruntime is missing.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    float16 = require("onnxruntime.transformers.float16", "onnx_float16")
    with quiet():
        return float16.convert_float_to_float16(copy, keep_io_types=True)


def to_int8(model: Any, calibration: Sequence[np.ndarray], format_name: str) -> Any:
    """Returns a model with int8 convolutions and maps; the argument stays what it is.

    Args:
        model: from `convert`.
        calibration: pictures which show what the network will see, uint8 [H, W, 3].
        format_name: for messages.

    Raises:
        UserError: onnxruntime is missing, or there are no pictures.
    """
    if not calibration:
        raise UserError(f"{format_name} needs images like those that the network will see, and got none.")
    onnx = require("onnx", format_name)
    quantization = require("onnxruntime.quantization", format_name)
    shape_inference = require("onnxruntime.quantization.shape_inference", format_name)

    class Pictures(quantization.CalibrationDataReader):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self._left, None)
            return None if picture is None else {INPUT: picture[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder, quiet():
        plain, ready, done = (os.path.join(folder, f"{name}.onnx") for name in ("plain", "ready", "done"))
        onnx.save(model, plain)
        # It joins convolutions and what follows them, so that nothing between them is rounded.
        shape_inference.quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready, done, Pictures(), op_types_to_quantize=_QUANTISED, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
        return onnx.load(done)
