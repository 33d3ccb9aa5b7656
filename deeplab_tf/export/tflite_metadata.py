"""TensorFlow Lite's own metadata: what the input and the output mean, for MediaPipe, Android Studio and the like.

A file may hold a second flatbuffer of the schema `metadata_schema.fbs` (of MediaPipe, earlier of TensorFlow Lite
Support), in a buffer that its list of metadata names. Its few fields are written here by their numbers in that schema,
which spares users the package that declares them. The file with the names of the classes is in an archive behind the
model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flatbuffers import Builder

_NAME, _FILE_IDENTIFIER, _MIN_PARSER_VERSION = b"TFLITE_METADATA", b"M001", "1.0.0"
_SEGMENTER, _SEGMENTER_IDENTIFIER = "SEGMENTER_METADATA", b"V001"
# Values of the schema's enumerations and unions.
_TENSOR_AXIS_LABELS, _TENSOR_VALUE_LABELS, _RGB, _IMAGE_PROPERTIES, _NORMALIZATION, _NO_ACTIVATION = 2, 3, 1, 2, 1, 0


def with_metadata(model: bytes, description: str, labels_file: str, probabilities: bool) -> bytes:
    """Returns the model with its metadata.

    Args:
        model: of TensorFlow Lite, with one input of uint8 pixels and one output.
        description: what the network is, for readers.
        labels_file: the name of the list of classes in the archive behind the model.
        probabilities: the output is probabilities, float32 [1, H, W, K], not labels, uint8 [1, H, W].
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_model_metadata(description, labels_file, probabilities))
    parsed.buffers.append(buffer)
    entry.name, entry.buffer = _NAME, len(parsed.buffers) - 1
    parsed.metadata = [*(parsed.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def _model_metadata(description: str, labels_file: str, probabilities: bool) -> bytes:
    b = Builder(0)
    image = _table(b, 2, [(0, "int8", _RGB)])
    content = _table(b, 2, [(0, "uint8", _IMAGE_PROPERTIES), (1, "table", image)])
    # Pixels go in as they are.
    normalization = _table(b, 2, [(0, "table", _floats(b, [0.0])), (1, "table", _floats(b, [1.0]))])
    unit = _table(b, 2, [(0, "uint8", _NORMALIZATION), (1, "table", normalization)])
    stats = _table(b, 2, [(0, "table", _floats(b, [255.0])), (1, "table", _floats(b, [0.0]))])
    taken = _tensor(b, "images", "RGB pixels, 0 to 255.", content=content, process_units=[unit], stats=stats)
    kind = _TENSOR_AXIS_LABELS if probabilities else _TENSOR_VALUE_LABELS
    listed = _table(
        b,
        5,
        [(0, "table", b.CreateString(labels_file)), (1, "table", b.CreateString("The classes.")), (2, "int8", kind)],
    )
    if probabilities:
        given = _tensor(b, "probabilities", "Of each class, for each pixel; they add up to 1.", files=[listed])
    else:
        given = _tensor(b, "labels", "The most probable class of each pixel.", files=[listed])
    options = _vector(b, _segmenter_options())
    custom = _table(b, 2, [(0, "table", b.CreateString(_SEGMENTER)), (1, "table", options)])
    graph = _table(
        b,
        10,
        [(2, "table", _tables(b, [taken])), (3, "table", _tables(b, [given])), (9, "table", _tables(b, [custom]))],
    )
    model = _table(
        b,
        8,
        [
            (0, "table", b.CreateString("DeepLabv2")),
            (1, "table", b.CreateString(description)),
            (3, "table", _tables(b, [graph])),
            (7, "table", b.CreateString(_MIN_PARSER_VERSION)),
        ],
    )
    b.Finish(model, _FILE_IDENTIFIER)
    return bytes(b.Output())


def _segmenter_options() -> bytes:
    """Tells MediaPipe that it need not compute a softmax."""
    b = Builder(0)
    b.Finish(_table(b, 2, [(0, "int8", _NO_ACTIVATION)]), _SEGMENTER_IDENTIFIER)
    return bytes(b.Output())


def _tensor(
    b: Builder,
    name: str,
    description: str,
    *,
    content: int = 0,
    process_units: Sequence[int] = (),
    stats: int = 0,
    files: Sequence[int] = (),
) -> int:
    fields = [(0, "table", b.CreateString(name)), (1, "table", b.CreateString(description))]
    fields += [(3, "table", content)] if content else []
    fields += [(4, "table", _tables(b, process_units))] if process_units else []
    fields += [(5, "table", stats)] if stats else []
    fields += [(6, "table", _tables(b, files))] if files else []
    return _table(b, 7, fields)


def _table(b: Builder, slots: int, fields: Sequence[tuple[int, str, int]]) -> int:
    """Writes a table: (number, type, value or offset) of each field that is not left out."""
    add: dict[str, Callable[[int, int, int], None]] = {
        "int8": b.PrependInt8Slot,
        "uint8": b.PrependUint8Slot,
        "table": b.PrependUOffsetTRelativeSlot,
    }
    b.StartObject(slots)
    for number, kind, value in fields:
        add[kind](number, value, 0)
    return b.EndObject()


def _tables(b: Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _floats(b: Builder, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return b.EndVector()


def _vector(b: Builder, content: bytes) -> int:
    """Bytes that begin at a multiple of 16, as the schema wants those of custom metadata."""
    b.StartVector(1, len(content), 16)
    for byte in reversed(content):
        b.PrependByte(byte)
    return b.EndVector()
