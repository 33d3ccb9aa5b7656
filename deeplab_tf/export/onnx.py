"""ONNX files: uint8 pixels in, labels and confidence out, for onnxruntime and whatever else reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deeplab_tf.config import Config
from deeplab_tf.errors import UserError, in_short
from deeplab_tf.export import onnx_graph
from deeplab_tf.export.compare import Format, Predict, Written
from deeplab_tf.export.description import Description, Exported, Size
from deeplab_tf.export.interchange import CONFIDENCE, INPUT, LABELS, labels_by, write_by
from deeplab_tf.export.kind import Kind
from deeplab_tf.export.packages import require
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import files

FORMATS = {
    "onnx": Format(".onnx", 1e-3, 0.0),
    "onnx_float16": Format("_float16.onnx", 0.02, 1e-3),
    "onnx_int8": Format("_int8.onnx", 0.3, 0.05),
}
# Of the file's metadata.
_DESCRIPTION, _NAMES = "deeplab_tf", "class_names"
_ERRORS_ONLY = 3


def onnx_path(out_dir: str, config: Config, format_name: str) -> str:
    """Returns where `export_onnx` writes."""
    return os.path.join(out_dir, f"{config.experiment}{FORMATS[format_name].suffix}")


def export_onnx(
    model: DeepLab,
    config: Config,
    out_dir: str,
    format_names: Sequence[str],
    *,
    size: Size,
    pictures: Sequence[np.ndarray],
    calibration: Iterable[np.ndarray] = (),
    overwrite: bool = False,
) -> Iterator[Written]:
    """Converts the network, compares each file with the original on some pictures, and writes it if it is the same.

    A file takes `images`, uint8 [B, H, W, 3], RGB, and gives `labels`, uint8 [B, H, W], and `confidence`, float32
    [B, H, W], the probability of that label. With a size B is 1. Its metadata holds the configuration and the names.

    Args:
        model: trained, float32.
        config: of the training; `config.inference` says how the network is asked.
        out_dir: the folder.
        format_names: of `FORMATS`: float32, float16 inside, or int8 convolutions.
        size: height and width, or None for any.
        pictures: what to compare on, uint8 [H, W, 3], of that size; of two sizes that are not clean for any size.
        calibration: for onnx_int8, pictures which show what the network will see.
        overwrite: replace earlier files.

    Yields:
        What was written, one after the other.

    Raises:
        UserError: a package is missing, a file exists or cannot be written, or the network loses too much in the
            conversion.
    """
    if not format_names:
        return
    for name in format_names:
        require("onnxruntime", name)
        files.refuse_existing(onnx_path(out_dir, config, name), overwrite)
    files.make_folder(out_dir, "--out")
    source = onnx_graph.Source(model, config, size)
    calibration = list(calibration)
    for name in format_names:
        path = onnx_path(out_dir, config, name)
        content = _described(_stored(source.graph, name, calibration), source.description)
        agreement = source.agreement(_run(_session(content)), pictures, name, FORMATS[name])
        files.write_bytes(path, content)
        yield Written(path, len(content), agreement)


def is_onnx(path: str) -> bool:
    """Says whether a file looks like ONNX."""
    return os.path.isfile(path) and path.endswith(".onnx")


def load_onnx(path: str) -> Exported:
    """Loads a file that `export_onnx` wrote.

    Returns:
        The model, for images of the file's size; it has labels only.

    Raises:
        UserError: onnxruntime is missing, not a file of this project, or damaged.
    """
    require("onnxruntime", path)
    try:
        session = _session(path)
        description = Description.from_json(session.get_modelmeta().custom_metadata_map[_DESCRIPTION])
    except Exception as error:  # onnxruntime's errors have no class in common
        raise UserError(f"{path} is not an ONNX file of export.py, or is damaged: {in_short(error)}") from error
    return Exported(
        description,
        labels_by(lambda images: session.run([LABELS], {INPUT: images})[0]),
        takes_batches=None in description.size,
    )


def _stored(model: Any, format_name: str, calibration: Sequence[np.ndarray]) -> Any:
    """Returns the model as a format stores it; the float32 model stays as it is."""
    if format_name == "onnx_float16":
        return onnx_graph.to_float16(model)
    if format_name == "onnx_int8":
        return onnx_graph.to_int8(model, calibration, format_name)
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _described(model: Any, description: Description) -> bytes:
    model.producer_name = "deeplab_tf"
    values = {_DESCRIPTION: description.to_json(), _NAMES: "\n".join(description.config.info.class_names)}
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString(deterministic=True)


def _session(source: str | bytes) -> Any:
    onnxruntime = require("onnxruntime", "ONNX")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(source, options, providers=onnxruntime.get_available_providers())


def _run(session: Any) -> Predict:
    def predict(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, confidence = session.run([LABELS, CONFIDENCE], {INPUT: image[np.newaxis]})
        return labels[0], confidence[0]

    return predict


def _check(format_names: Sequence[str], size: Size, size_multiple: int) -> None:
    require("tf2onnx", format_names[0])
    require("onnxruntime", format_names[0])


KIND = Kind("ONNX file", ".onnx", _check, onnx_path, write_by(export_onnx), is_onnx, load_onnx)
