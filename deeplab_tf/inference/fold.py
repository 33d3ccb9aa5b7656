"""Computes once what depends on the weights alone, and stores the results as the weights of a function.

A traced network computes some things from its weights at every call: kernels times the scale of their batch
normalisation, casts to the compute dtype, kernels of several branches side by side. None of it depends on the image.

A graph with loops is left as it is. The body of a loop is found by name, and belongs to the tf.function that was
traced: a copy of the graph would outlive it, and TensorFlow ends the process where it looks for a body that is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import tensorflow as tf


class FoldedFunction(tf.Module):
    """A function of one tensor with its weights folded; made by `fold_weights`.

    Attributes:
        weights: what it computes with: the folded weights, each once however often it is used.
        answer: the tf.function.
    """

    def __init__(self, function: tf.types.experimental.PolymorphicFunction) -> None:
        super().__init__()
        concrete = function.get_concrete_function()
        if concrete.graph.as_graph_def().library.function:
            self.weights, self.answer = list(concrete.variables), function
        else:
            self._fold(concrete.graph)

    def _fold(self, graph: tf.Graph) -> None:
        self._sources = {inner.name: outer for outer, inner in graph.captures}
        inputs = [tensor for tensor in graph.inputs if tensor.name not in self._sources]
        if len(inputs) != 1 or len(graph.outputs) != 1:
            raise ValueError(
                f"expected a function from one tensor to one, got {len(inputs)} inputs, {len(graph.outputs)} outputs."
            )
        self._input, self._output = inputs[0].name, graph.outputs[0].name
        self._shape = graph.outputs[0].shape
        varying = _reached(graph, {inputs[0].op.name})
        weighty = _reached(graph, {inner.op.name for _, inner in graph.captures}) - varying
        needed, edges = _needed(graph, graph.outputs[0].op, weighty)
        values = self._evaluate(graph, edges)
        # By position, because the names of tensors are not keys of a checkpoint.
        self.weights, self._positions = _store_each_once(edges, values)
        self._graph_def = _part_of(graph, needed)
        signature = [tf.TensorSpec(inputs[0].shape, inputs[0].dtype, name=inputs[0].op.name)]
        self.answer = tf.function(self._answer, input_signature=signature, autograph=False)

    def _evaluate(self, graph: tf.Graph, names: Sequence[str]) -> list[tf.Tensor]:
        if not names:
            return []
        needed = {op.name for name in names for op in _ancestors(graph.get_tensor_by_name(name).op)}
        part = _part_of(graph, needed - {name.split(":")[0] for name in self._sources})

        @tf.function(autograph=False)
        def evaluate() -> list[tf.Tensor]:
            return tf.graph_util.import_graph_def(part, _captured(part, self._sources), list(names), name="weights")

        # Traced by hand: as a call it would count as one of many retracings, of which TensorFlow warns.
        return evaluate.get_concrete_function()()

    def _answer(self, x: tf.Tensor) -> tf.Tensor:
        weights = {name: self.weights[i].read_value() for name, i in self._positions.items()}
        replaced = _captured(self._graph_def, {self._input: x, **weights})
        [y] = tf.graph_util.import_graph_def(self._graph_def, replaced, [self._output], name="network")
        return tf.ensure_shape(y, self._shape)


def fold_weights(function: tf.types.experimental.PolymorphicFunction) -> FoldedFunction:
    """Folds the weights of a function: the same numbers, bit for bit, from less work per call.

    Args:
        function: a tf.function with an input signature of one tensor and one tensor as its answer.

    Returns:
        The folded function. It has its own weights and does not follow changes of the network's; but one with loops
        is the function as it was.

    Raises:
        ValueError: several inputs or outputs.
    """
    return FoldedFunction(function)


def _reached(graph: tf.Graph, starts: set[str]) -> set[str]:
    """Names the operations that depend on some, these included."""
    reached = set(starts)
    for op in graph.get_operations():  # in topological order
        if any(tensor.op.name in reached for tensor in op.inputs):
            reached.add(op.name)
    return reached


def _needed(graph: tf.Graph, output: tf.Operation, weighty: set[str]) -> tuple[set[str], list[str]]:
    """Walks back from the output up to what depends on weights alone.

    Returns:
        The names of the operations on the way, and the names of the tensors where the walk ended.
    """
    needed: set[str] = set()
    edges: dict[str, None] = {}  # a set that keeps its order
    waiting = [output]
    while waiting:
        op = waiting.pop()
        if op.name in needed:
            continue
        needed.add(op.name)
        for tensor in op.inputs:
            if tensor.op.name in weighty:
                edges[tensor.name] = None
            elif tensor.op.type != "Placeholder":
                waiting.append(tensor.op)
        waiting += [before for before in op.control_inputs if before.name not in weighty]
    return needed, list(edges)


def _ancestors(op: tf.Operation) -> set[tf.Operation]:
    found, waiting = set(), [op]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting += [tensor.op for tensor in op.inputs]
    return found


def _part_of(graph: tf.Graph, names: set[str]) -> tf.compat.v1.GraphDef:
    """Returns some operations of a graph. Edges from others stay, as names to be replaced."""
    whole = graph.as_graph_def()
    part = tf.compat.v1.GraphDef(versions=whole.versions)
    for node in whole.node:
        if node.name in names:
            kept = [name for name in node.input if not name.startswith("^") or name[1:] in names]
            added = part.node.add()
            added.CopyFrom(node)
            del added.input[:]
            added.input.extend(kept)
    return part


def _captured(graph_def: tf.compat.v1.GraphDef, replaced: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Brings tensors into the graph that is being traced; without those that nothing refers to, which are refused."""
    referred = {_tensor_name(name) for node in graph_def.node for name in node.input}
    capture = tf.compat.v1.get_default_graph().capture
    return {name: capture(tensor) for name, tensor in replaced.items() if name in referred}


def _tensor_name(name: str) -> str:
    return name if ":" in name or name.startswith("^") else f"{name}:0"


def _store_each_once(names: Sequence[str], values: Sequence[tf.Tensor]) -> tuple[list[tf.Variable], dict[str, int]]:
    """Makes variables of values; the same values, as the scales of one network have them, become one."""
    variables: list[tf.Variable] = []
    positions: dict[str, int] = {}
    known: dict[tuple, int] = {}
    for name, value in zip(names, values, strict=True):
        array = value.numpy()
        key = (array.dtype.name, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in known:
            known[key] = len(variables)
            variables.append(tf.Variable(value, trainable=False, name=f"weight_{len(variables)}"))
        positions[name] = known[key]
    return variables, positions
