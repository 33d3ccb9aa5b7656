"""OpenVINO files: a pair NAME.xml and NAME.bin, uint8 pixels in, labels and confidence out."""

from __future__ import annotations

import os
import shutil
import tempfile
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
from deeplab_tf.runtime import files, native_messages

FORMATS = {
    "openvino": Format(".xml", 1e-3, 0.0),
    "openvino_int8": Format("_int8.xml", 0.3, 0.05),
}
_RT_INFO = ["deeplab_tf", "description"]


def openvino_path(out_dir: str, config: Config, format_name: str) -> str:
    """Returns where `export_openvino` writes; the weights are beside it, with the ending .bin."""
    return os.path.join(out_dir, f"{config.experiment}{FORMATS[format_name].suffix}")


def export_openvino(
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

    Inputs, outputs and arguments are those of `export_onnx`, whose graph is converted: with the one that TensorFlow's
    converter leaves, softmax and argmax over few classes take OpenVINO several times as long. The weights of "openvino"
    are float32; OpenVINO computes in what the machine is fast in unless told otherwise.

    Yields:
        What was written, one after the other.

    Raises:
        UserError: a package is missing, a file exists or cannot be written, or the network loses too much in the
            conversion.
    """
    if not format_names:
        return
    openvino, onnx = require("openvino", format_names[0]), require("onnx", format_names[0])
    for name in format_names:
        path = openvino_path(out_dir, config, name)
        for one in (path, weights_path(path)):
            files.refuse_existing(one, overwrite)
    files.make_folder(out_dir, "--out")
    source = onnx_graph.Source(model, config, size)
    calibration = list(calibration)
    for name in format_names:
        path = openvino_path(out_dir, config, name)
        with tempfile.TemporaryDirectory() as folder:
            graph_path, written = os.path.join(folder, "network.onnx"), os.path.join(folder, "network.xml")
            int8 = name == "openvino_int8"
            onnx.save(onnx_graph.to_int8(source.graph, calibration, name) if int8 else source.graph, graph_path)
            with native_messages.held_back():
                converted = openvino.convert_model(graph_path)
            converted.set_rt_info(source.description.to_json(), _RT_INFO)
            openvino.save_model(converted, written, compress_to_fp16=False)
            agreement = source.agreement(_run(_compile(written, "f32")), pictures, name, FORMATS[name])
            # The weights first: an .xml is never without them.
            _move(weights_path(written), weights_path(path))
            _move(written, path)
        yield Written(path, os.path.getsize(path) + os.path.getsize(weights_path(path)), agreement)


def weights_path(path: str) -> str:
    """Returns the name of the weights that belong to NAME.xml."""
    return os.path.splitext(path)[0] + ".bin"


def is_openvino(path: str) -> bool:
    """Says whether a file looks like OpenVINO's."""
    return os.path.isfile(path) and path.endswith(".xml")


def load_openvino(path: str) -> Exported:
    """Loads files that `export_openvino` wrote.

    Returns:
        The model, for images of the file's size; it has labels only. It computes in what the network was trained in,
        bfloat16 where the processor has it, else float32.

    Raises:
        UserError: openvino is missing, not a file of this project, or damaged.
    """
    require("openvino", path)
    try:
        model = _core().read_model(path)
        if not model.has_rt_info(_RT_INFO):
            raise ValueError("it does not describe itself")
        description = Description.from_json(model.get_rt_info(_RT_INFO).astype(str))
        precision = "bf16" if description.config.train.precision == "bfloat16" else "f32"
        compiled = _compile(model, precision)
    except Exception as error:  # OpenVINO's errors have no class in common
        raise UserError(f"{path} is not an OpenVINO file of export.py, or is damaged: {in_short(error)}") from error
    return Exported(
        description,
        labels_by(lambda images: np.array(compiled({INPUT: images})[LABELS])),
        takes_batches=None in description.size,
    )


def _core() -> Any:
    return require("openvino", "OpenVINO").Core()


def _compile(model: Any, precision: str) -> Any:
    return _core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})


def _run(compiled: Any) -> Predict:
    def predict(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = compiled({INPUT: image[np.newaxis]})
        return np.array(found[LABELS][0]), np.array(found[CONFIDENCE][0])

    return predict


def _move(source: str, target: str) -> None:
    def write(temporary: str) -> None:
        shutil.copyfile(source, temporary)

    files.write_atomically(target, write)


def _check(format_names: Sequence[str], size: Size, size_multiple: int) -> None:
    for package in ("openvino", "tf2onnx", "onnxruntime"):
        require(package, format_names[0])


KIND = Kind("OpenVINO file", ".xml", _check, openvino_path, write_by(export_openvino), is_openvino, load_openvino)
