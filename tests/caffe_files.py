"""Writes `.caffemodel` files with Google's protobuf library, from Caffe's own message definitions in short."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

V1_TYPES = {"Convolution": 4, "InnerProduct": 14, "ReLU": 18, "Data": 5}

# name: fields as (name, number, type, packed); a type that is no protobuf type is one of these messages.
_MESSAGES = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("num", 1, "int32", None),
        ("channels", 2, "int32", None),
        ("height", 3, "int32", None),
        ("width", 4, "int32", None),
        ("data", 5, "float", True),
        ("diff", 6, "float", True),
        ("shape", 7, "BlobShape", None),
        ("double_data", 8, "double", True),
    ],
    "ParamSpec": [("name", 1, "string", None), ("lr_mult", 3, "float", None)],
    "LayerParameter": [
        ("name", 1, "string", None),
        ("type", 2, "string", None),
        ("bottom", 3, "string", False),
        ("top", 4, "string", False),
        ("param", 6, "ParamSpec", False),
        ("blobs", 7, "BlobProto", False),
        ("phase", 10, "int32", None),
        ("propagate_down", 11, "bool", False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, "string", False),
        ("top", 3, "string", False),
        ("name", 4, "string", None),
        ("type", 5, "int32", None),
        ("blobs", 6, "BlobProto", False),
        ("blobs_lr", 7, "float", False),
        ("weight_decay", 8, "float", False),
    ],
    "NetParameter": [
        ("name", 1, "string", None),
        ("layers", 2, "V1LayerParameter", False),
        ("input", 3, "string", False),
        ("input_dim", 4, "int32", False),
        ("force_backward", 5, "bool", None),
        ("layer", 100, "LayerParameter", False),
    ],
}


class Layer(NamedTuple):
    """A layer as Caffe saves it."""

    name: str
    type: str
    blobs: tuple[np.ndarray, ...] = ()


def _build(packed_numbers):
    """Message classes by name; `packed` of None marks an optional field, of a boolean a repeated one."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for name, number, type_name, packed in fields:
            field = message.field.add(name=name, number=number)
            field.label = kind.LABEL_OPTIONAL if packed is None else kind.LABEL_REPEATED
            if type_name in _MESSAGES:
                field.type, field.type_name = kind.TYPE_MESSAGE, f".caffe.{type_name}"
            else:
                field.type = kind.Type.Value(f"TYPE_{type_name.upper()}")
                if packed:
                    field.options.packed = packed_numbers
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in _MESSAGES}


_CLASSES = {packed: _build(packed) for packed in (True, False)}


def write(path, layers, v1=False, legacy_shapes=None, packed=True, double=False):
    """Writes layers to a file.

    Args:
        path: the file.
        layers: iterable of `Layer`.
        v1: as V1LayerParameter in the field `layers`, as files before 2015.
        legacy_shapes: shapes as num, channels, height, width; None for those of V1 files only.
        packed: repeated numbers in one value. Files of 2013 have each number with its own key.
        double: numbers as doubles.
    """
    classes = _CLASSES[packed]
    with open(path, "wb") as file:
        # Messages one after the other are the message of all their fields, so one layer at a time is in memory.
        net = {"name": "net", "input": ["data"], "input_dim": [1, 3, 321, 321], "force_backward": True}
        file.write(classes["NetParameter"](**net).SerializeToString())
        for layer in layers:
            net = classes["NetParameter"]()
            _add(net, layer, v1, v1 if legacy_shapes is None else legacy_shapes, double)
            file.write(net.SerializeToString())


def _add(net, layer, v1, legacy_shapes, double):
    ends = {"bottom": ["x"], "top": [layer.name]}
    if v1:
        message = net.layers.add(name=layer.name, type=V1_TYPES[layer.type], **ends)
        message.blobs_lr.extend([1.0, 2.0])
        message.weight_decay.extend([1.0, 0.0])
    else:
        message = net.layer.add(name=layer.name, type=layer.type, phase=1, propagate_down=[True], **ends)
        for suffix in ("w", "b"):
            message.param.add(name=f"{layer.name}_{suffix}", lr_mult=1.0)
    for array in layer.blobs:
        blob = message.blobs.add()
        (blob.double_data if double else blob.data).extend(memoryview(array.reshape(-1)))
        if legacy_shapes:
            blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
        else:
            blob.shape.dim.extend(array.shape)
