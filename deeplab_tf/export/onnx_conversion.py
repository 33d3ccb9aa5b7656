"""From a tf.function to an ONNX model by tf2onnx, in the memory that large networks leave."""

from __future__ import annotations

import contextlib
import gc
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from deeplab_tf.export.packages import require

OPSET = 18
# Those of tf2onnx's optimisations that change our graphs, in its order. Each leaves one more copy of the weights.
_PASSES = (
    "TransposeOptimizer", "ConstFoldOptimizer", "MergeDuplicatedNodesOptimizer", "ReshapeOptimizer",
    "IdentityOptimizer", "BackToBackOptimizer",
)  # fmt: skip


def onnx_of(function: Any) -> Any:
    """Converts a function, with its weights as constants.

    `tf2onnx.convert.from_function` gives nearly the same graph, but copies all weights before each of its
    optimisations, and several times in TensorFlow's own optimiser: 260 MB of weights took more than 12 GB. Here the
    steps are called one by one, without these copies, and without TensorFlow's optimiser: tf2onnx folds constants too.
    A few operations more may be left: 2 of 484 in multi-scale ResNet-50.

    Args:
        function: a tf.function with an input signature.

    Returns:
        The onnx.ModelProto.

    Raises:
        UserError: tf2onnx is missing.
    """
    tf2onnx = require("tf2onnx", "ONNX")
    with quiet():
        frozen = convert_variables_to_constants_v2(
            function.get_concrete_function(), lower_control_flow=False, aggressive_inlining=True
        )
        with tf.device("/cpu:0"), tf.Graph().as_default() as plain:
            tf.import_graph_def(frozen.graph.as_graph_def(add_shapes=True), name="")
            graph = tf2onnx.tfonnx.process_tf_graph(
                plain,
                opset=OPSET,
                input_names=[tensor.name for tensor in frozen.inputs],
                output_names=[tensor.name for tensor in frozen.outputs],
            )
        del plain, frozen
        gc.collect()
        for name in _PASSES:
            graph = getattr(tf2onnx.optimizer, name)().optimize(graph, 0)
            gc.collect()
        graph.topological_sort(graph.get_nodes())
        return graph.make_model("segment")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the converters' remarks, which are for their makers, away from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
