"""TensorFlow Lite files for phones: uint8 pixels of one size in, labels or probabilities out, built-in operations."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from deeplab_tf.config import Config
from deeplab_tf.errors import UserError, in_short
from deeplab_tf.export.compare import Format, Written, compare
from deeplab_tf.export.description import Description, Exported, Size
from deeplab_tf.export.kind import Job, Kind
from deeplab_tf.export.tflite_metadata import with_metadata
from deeplab_tf.inference.fold import fold_weights
from deeplab_tf.inference.labels import labels_in_graph, labels_of
from deeplab_tf.inference.probabilities import build_inference
from deeplab_tf.inference.scores import build_scores
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import files, native_messages

# Inside the file, as an archive behind the model. labels.txt is where TensorFlow Lite's tools look for names.
_LABELS_FILE, _DESCRIPTION_FILE = "labels.txt", "deeplab.json"
_LONGEST_DESCRIPTION = 1 << 20
# What reading a damaged file raises: the archive at its end, the description in it, and the interpreter.
_DAMAGE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, RuntimeError)


FORMATS = {
    "tflite": Format(".tflite", 1e-3, 0.0),
    "tflite_float16": Format("_float16.tflite", 0.02, 1e-3),
    "tflite_dynamic": Format("_dynamic.tflite", 0.2, 0.02),
    "tflite_int8": Format("_int8.tflite", 0.3, 0.05),
}


def tflite_path(out_dir: str, config: Config, format_name: str) -> str:
    """Returns where `export_tflite` writes."""
    return os.path.join(out_dir, f"{config.experiment}{FORMATS[format_name].suffix}")


def check_size(size: tuple[int | None, int | None], multiple: int) -> tuple[int, int]:
    """Returns a size that a file can have.

    Args:
        size: height and width.
        multiple: of the network, see `DeepLab.size_multiple`.

    Raises:
        UserError: none, or a side that the network would have to pad.
    """
    height, width = size
    if height is None or width is None:
        raise UserError("TensorFlow Lite needs the size of the images: add --size, such as --size=513.")
    for side in (height, width):
        if side <= multiple or side % multiple != 1:
            below = max((side - 1) // multiple, 1) * multiple + 1
            near = [str(below), str(below + multiple)] if side > below else [str(below)]
            raise UserError(
                f"--size: TensorFlow Lite takes sides of the form {multiple}k + 1 for this network, got {side}; "
                f"the nearest are {' and '.join(near)}."
            )
    return height, width


def export_tflite(
    model: DeepLab,
    config: Config,
    out_dir: str,
    format_name: str,
    *,
    size: tuple[int, int],
    pictures: Iterable[np.ndarray],
    calibration: Iterable[np.ndarray] = (),
    probabilities: bool = False,
    overwrite: bool = False,
) -> Written:
    """Converts the network, compares it with the original on some pictures, and writes it if it is the same.

    The file takes uint8 [1, H, W, 3], RGB, and gives labels, uint8 [1, H, W], or probabilities, float32 [1, H, W, K].
    The names of the classes and the configuration are in it as a zip archive, and TensorFlow Lite's own metadata.

    Args:
        model: trained, float32, its atrous convolutions by the implementation that the file is to have.
        config: of the training; `config.inference` says how the network is run.
        out_dir: the folder.
        format_name: of `FORMATS`: float32, float16 weights, int8 weights ("dynamic"), or int8 throughout.
        size: height and width, see `check_size`.
        pictures: what to compare on, uint8 [H, W, 3] of that size.
        calibration: for tflite_int8, pictures of that size which show what the network will see.
        probabilities: give these, as MediaPipe's ImageSegmenter takes them, and not labels.
        overwrite: replace an earlier file.

    Returns:
        What was written.

    Raises:
        UserError: the file exists, it cannot be written, or the network cannot be converted into this format.
    """
    path = tflite_path(out_dir, config, format_name)
    files.refuse_existing(path, overwrite)
    files.make_folder(out_dir, "--out")
    content = _convert(model, config, format_name, size, list(calibration), probabilities)
    info = config.info
    content = with_metadata(content, f"{config.experiment}, {info.num_classes} classes", _LABELS_FILE, probabilities)
    description = Description(config, model.mean_rgb, size=size)
    content += _archive(
        {
            _LABELS_FILE: "".join(f"{name}\n" for name in info.class_names),
            _DESCRIPTION_FILE: description.to_json(),
        }
    )
    predict = _interpret(tf_lite_interpreter(model_content=content))
    reference = build_inference(model, config.inference, size)
    agreement = compare(
        lambda image: _labels_and_confidence(predict(image)),
        lambda image: reference(image[np.newaxis])[0].numpy(),
        pictures,
        format_name,
        FORMATS[format_name],
    )
    files.write_bytes(path, content)
    return Written(path, len(content), agreement)


def is_tflite(path: str) -> bool:
    """Says whether a file looks like TensorFlow Lite's."""
    return os.path.isfile(path) and path.endswith(".tflite")


def load_tflite(path: str) -> Exported:
    """Loads a file that `export_tflite` wrote.

    Returns:
        The model, for images of the file's size; it has labels only where the file has.

    Raises:
        UserError: not a file of this project, or damaged.
    """
    with native_messages.held_back():  # the interpreter names its delegates
        try:
            description = _read_description(path)
            interpreter = tf_lite_interpreter(model_path=path)
            predict = _interpret(interpreter)
            if len(interpreter.get_output_details()[0]["shape"]) == 4:
                return Exported(description, lambda image: labels_of(predict(image)), predict)
            return Exported(description, predict)
        except _DAMAGE as error:
            raise UserError(
                f"{path} is not a TensorFlow Lite file of export.py, or is damaged: {in_short(error)}"
            ) from error


def _read_description(path: str) -> Description:
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(_DESCRIPTION_FILE)
        # An archive may unpack to a thousand times its size.
        if member.file_size > _LONGEST_DESCRIPTION:
            raise ValueError(f"its {_DESCRIPTION_FILE} has {member.file_size} bytes")
        return Description.from_json(archive.read(member).decode())


def tf_lite_interpreter(**source: Any) -> Any:
    """Builds TensorFlow's own interpreter, which says that it will move to another package (ai-edge-litert)."""
    with warnings.catch_warnings(), native_messages.held_back():  # the latter of the XNNPACK delegate
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(num_threads=os.cpu_count(), **source)
        interpreter.allocate_tensors()
    return interpreter


def _convert(
    model: DeepLab,
    config: Config,
    format_name: str,
    size: tuple[int, int],
    calibration: list[np.ndarray],
    probabilities: bool,
) -> bytes:
    options = config.inference
    if options.tile:
        raise UserError("TensorFlow Lite files have no tiles inside: leave --tile out.")
    # The order of the probabilities is that of the scores, but for an average over mirrored images.
    averaged = options.flip or probabilities
    ranked = build_inference(model, options, size).python_function if averaged else build_scores(model, options)
    int8 = format_name == "tflite_int8"
    # A quantised file takes uint8 where the network takes float32.
    spec = tf.TensorSpec([1, *size, 3], tf.float32 if int8 else tf.uint8, name="images")

    @tf.function(input_signature=[spec], autograph=False)
    def result(images: tf.Tensor) -> tf.Tensor:
        found = ranked(_of_one_size(images, size))
        return tf.identity(found, name="probabilities") if probabilities else labels_in_graph(found, name="labels")

    folded = fold_weights(result)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([folded.answer.get_concrete_function()], folded)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if format_name != "tflite":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if format_name == "tflite_float16":
        converter.target_spec.supported_types = [tf.float16]
    if int8:
        if not calibration:
            raise UserError("tflite_int8 needs images like those that the network will see, and got none.")
        converter.representative_dataset = lambda: _representative(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    with _quiet():
        return converter.convert()


def _of_one_size(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns the images as float32, in a graph that an interpreter cannot resize: it would answer at the old size.

    TensorFlow Lite lets users resize any input. A reshape to a number of pixels refuses another one. Between the two
    reshapes, which the converter would leave out, is something that changes no pixel: a cast, or where there is nothing
    to cast the maximum of one. (The converter moves sums and the like out of there.)
    """
    flat = tf.reshape(images, [1, 1, size[0] * size[1], 3])
    flat = tf.nn.max_pool2d(flat, 1, 1, "VALID") if images.dtype == tf.float32 else tf.cast(flat, tf.float32)
    return tf.reshape(flat, [1, *size, 3])


def _representative(pictures: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for picture in tqdm.tqdm(pictures, desc="calibrating", unit="picture", dynamic_ncols=True):
        shown = picture[np.newaxis].astype(np.float32)
        # With the whole range in every picture, a level of the uint8 input is a level of the picture.
        shown[0, -1, -1], shown[0, -1, -2] = 0, 255
        yield [shown]


def _archive(texts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # without the time: the same network gives the same file
    return buffer.getvalue()


def _labels_and_confidence(found: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Splits what a file gives: labels [H, W], or probabilities [H, W, K]."""
    return (found, None) if found.ndim == 2 else (labels_of(found), found.max(axis=-1))


def _interpret(interpreter: Any) -> Callable[[np.ndarray], np.ndarray]:
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    if taken["dtype"] != np.uint8 or len(taken["shape"]) != 4:
        raise ValueError(f"expected an input uint8 [1, H, W, 3], got {taken['dtype'].__name__} {taken['shape']}.")

    def predict(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], image[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(given["index"])[0]

    return predict


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the converter's remarks, which are for its makers, away from the terminal."""
    import logging

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _check(format_names: Sequence[str], size: Size, size_multiple: int) -> None:
    check_size(size, size_multiple)


def _write(job: Job, format_names: Sequence[str]) -> Iterator[str]:
    size = check_size(job.size, job.model.size_multiple)
    for name in format_names:
        yield f"converting to {name} ..."
        written = export_tflite(
            job.dilated,
            job.config,
            job.out_dir,
            name,
            size=size,
            pictures=job.tried(size),
            calibration=job.pictures if name == "tflite_int8" else (),
            probabilities=job.probabilities,
            overwrite=job.overwrite,
        )
        yield job.describe(written)


KIND = Kind("TensorFlow Lite file", ".tflite", _check, tflite_path, _write, is_tflite, load_tflite)
