"""SavedModels with everything inside, from uint8 pixels or JPEG bytes to labels; only TensorFlow is needed."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.config import Config
from deeplab_tf.crf.mean_field import refine
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError, in_short
from deeplab_tf.export.checked import checked_encoded, checked_files, checked_images
from deeplab_tf.export.description import Description, Exported, Size
from deeplab_tf.export.kind import Job, Kind
from deeplab_tf.export.warm_up import write_warm_up
from deeplab_tf.images.decode import decode_image
from deeplab_tf.images.orientation_graph import orientation_in_graph, turned_in_graph
from deeplab_tf.inference.labels import labels_and_confidence_in_graph, labels_of
from deeplab_tf.inference.probabilities import bytes_per_pixel, fold_inference
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import files

VERSION = "1"
SAVED_MODEL_FILE = "saved_model.pb"
# In OUT/saved_model/1/assets.
CLASS_NAMES_FILE = "class_names.txt"
PALETTE_FILE = "palette.csv"


class _Servable(tf.Module):
    """The functions that a SavedModel holds."""

    def __init__(self, model: DeepLab, description: Description) -> None:
        super().__init__()
        config, size = description.config, description.size
        self._size = size
        self._crf = config.crf if description.crf else None
        self._palette = config.info.palette
        self._names = config.info.class_names
        self._network = fold_inference(model, config.inference, size)
        images = tf.TensorSpec([None, *size, 3], tf.uint8, name="images")
        encoded = tf.TensorSpec([None], tf.string, name="images")
        # The same function in all signatures, so that the graph is stored once.
        self._answer = tf.function(self._refine, [images], autograph=False)
        self.segment = tf.function(self._segment, [images], autograph=False)
        self.probabilities = tf.function(self._probabilities, [images], autograph=False)
        self.encoded = tf.function(self._encoded, [encoded], autograph=False)
        self.encoded_rest = tf.function(self._encoded_rest, [encoded], autograph=False)
        described = description.to_json()
        self.metadata = tf.function(lambda: self._metadata(described), [], autograph=False)

    def _refine(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the final probabilities, float32 [B, H, W, K]."""
        images = checked_images(images, self._size)
        probabilities = self._network.answer(images)
        if self._crf is None:
            return probabilities
        crf = self._crf
        # One image after the other: each has a lattice of its own.
        return tf.map_fn(
            lambda pair: refine_one(pair[0], pair[1], crf),
            (images, probabilities),
            fn_output_signature=tf.TensorSpec(probabilities.shape[1:], tf.float32),
            parallel_iterations=1,
        )

    def _segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = self._answer(images)  # [B, H, W, K]
        labels, confidence = labels_and_confidence_in_graph(probabilities)
        return {"labels": labels, "confidence": confidence}

    def _probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self._answer(images)}

    def _encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        palette = tf.constant(self._palette, tf.uint8)

        def segment(one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            file = checked_encoded(one)
            images = turned_in_graph(decode_image(file), orientation_in_graph(file))[tf.newaxis]
            images.set_shape([1, *self._size, 3])  # checked where it is answered
            labels = labels_and_confidence_in_graph(self._answer(images))[0][0]  # [H, W]
            colours = tf.gather(palette, tf.cast(labels, tf.int32))
            return tf.io.encode_png(labels[..., tf.newaxis]), tf.io.encode_png(colours)

        text = tf.TensorSpec([], tf.string)
        # Sizes may differ, so there is no batch.
        labels, colours = tf.map_fn(
            segment, checked_files(encoded), fn_output_signature=(text, text), parallel_iterations=1
        )
        return {"labels_png": labels, "colour_png": colours}

    def _encoded_rest(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        # TensorFlow Serving writes bytes into JSON as base64 where the name ends so, and as they are otherwise.
        return {f"{name}_bytes": values for name, values in self._encoded(encoded).items()}

    def _metadata(self, described: str) -> dict[str, tf.Tensor]:
        return {
            "config": tf.constant(described),
            "class_names": tf.constant(self._names),
            "palette": tf.constant(self._palette, tf.uint8),
        }


def refine_one(image: tf.Tensor, probabilities: tf.Tensor, crf: CrfParams) -> tf.Tensor:
    """Refines as `dense_crf` does by default: uint8 [H, W, 3] and float32 [H, W, K] -> float32 [H, W, K]."""
    if crf.iterations == 0:
        return probabilities
    return refine(image, probabilities, **dataclasses.asdict(crf), min_probability=None)


def export_saved_model(
    model: DeepLab,
    config: Config,
    out_dir: str,
    *,
    crf: bool = False,
    size: Size = (None, None),
    overwrite: bool = False,
) -> str:
    """Writes OUT/saved_model/1, the layout that TensorFlow Serving watches.

    Signatures: `serving_default`, images uint8 [B, H, W, 3] (RGB) -> labels uint8 [B, H, W] and confidence
    float32 [B, H, W], the probability of that label; `probabilities`, the same input -> float32
    [B, H, W, K]; `encoded`, images string [B], JPEG or PNG bytes of any sizes -> labels_png, 8-bit grey PNGs whose
    values are the classes, and colour_png, RGB PNGs, both string [B]; `encoded_rest`, the same under names that
    TensorFlow Serving's REST interface knows for bytes; `metadata`, nothing -> config, a JSON string with the
    network, the classes and the palette, class_names string [K] and palette uint8 [K, 3].

    Args:
        model: trained.
        config: of the training, with its data set; `config.inference` says how the network is asked.
        out_dir: the folder.
        crf: refine every answer with the dense CRF and `config.crf`, in all signatures.
        size: height and width of the images, or None for any.
        overwrite: replace an earlier export.

    Returns:
        The path of the SavedModel.

    Raises:
        UserError: there is one already, or the folder cannot be written.
    """
    path = saved_model_path(out_dir)
    files.refuse_existing(path, overwrite)
    files.make_folder(os.path.dirname(path), "--out")
    fits_always = None not in size
    per_pixel = 0.0 if fits_always else bytes_per_pixel(model, config.inference)
    servable = _Servable(model, Description(config, model.mean_rgb, crf, size, per_pixel))
    signatures = {
        "serving_default": servable.segment,
        "probabilities": servable.probabilities,
        "encoded": servable.encoded,
        "encoded_rest": servable.encoded_rest,
        "metadata": servable.metadata,
    }

    def write(temporary: str) -> None:
        with tempfile.TemporaryDirectory() as assets:
            servable.assets = [
                tf.saved_model.Asset(_write_lines(os.path.join(assets, CLASS_NAMES_FILE), config.info.class_names)),
                tf.saved_model.Asset(
                    _write_lines(
                        os.path.join(assets, PALETTE_FILE),
                        ["red,green,blue", *(",".join(map(str, colour)) for colour in config.info.palette)],
                    )
                ),
            ]
            try:
                # Nothing here is differentiated, and gradients in Python cannot be saved.
                options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
                tf.saved_model.save(servable, temporary, signatures, options)
            except tf.errors.OpError as error:
                raise UserError(f"cannot write {path}: {files.reason(error)}") from error
        write_warm_up(temporary, size)

    files.write_folder_atomically(path, write)
    return path


def saved_model_path(out_dir: str) -> str:
    """Returns where `export_saved_model` writes."""
    return os.path.join(out_dir, "saved_model", VERSION)


def is_saved_model(path: str) -> bool:
    """Says whether a folder is a SavedModel."""
    return os.path.isfile(os.path.join(path, SAVED_MODEL_FILE))


def load_saved_model(path: str) -> Exported:
    """Loads a SavedModel that `export_saved_model` wrote.

    Args:
        path: the folder that holds saved_model.pb.

    Returns:
        The model, for images of the size that it takes; several at once too.

    Raises:
        UserError: not a SavedModel of this project, or damaged.
    """
    damaged = f"{path} is not a SavedModel of export.py, or is damaged"
    try:
        loaded = tf.saved_model.load(path)
    except Exception as error:  # TensorFlow believes what the file says, and fails wherever that leads it
        raise UserError(f"{damaged}: {in_short(error)}") from error
    if "metadata" not in loaded.signatures:
        raise UserError(
            f"{path} is not a SavedModel of export.py: it does not name its classes. Export the network with export.py."
        )
    try:
        description = Description.from_json(loaded.signatures["metadata"]()["config"].numpy().decode())
        signature = loaded.signatures["probabilities"]
    except (tf.errors.OpError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{damaged}: {in_short(error)}") from error

    def probabilities_of(image: np.ndarray) -> np.ndarray:
        images = image if image.ndim == 4 else image[np.newaxis]
        probabilities = signature(images=tf.constant(images))["probabilities"].numpy()
        return probabilities if image.ndim == 4 else probabilities[0]

    # The signature does not keep the object that owns its variables alive.
    probabilities_of.loaded = loaded  # type: ignore[attr-defined]
    return Exported(description, lambda image: labels_of(probabilities_of(image)), probabilities_of, takes_batches=True)


def _write_lines(path: str, lines: list[str] | tuple[str, ...]) -> str:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def _write(job: Job, format_names: Sequence[str]) -> Iterator[str]:
    path = export_saved_model(job.model, job.config, job.out_dir, crf=job.crf, size=job.size, overwrite=job.overwrite)
    inside = f"{job.model.backbone.compute_dtype}, {'with' if job.crf else 'without'} the CRF"
    yield f"exported {job.config.experiment} for {job.config.info.num_classes} classes, {inside}: {path}"


KIND = Kind(
    "SavedModel",
    "",
    lambda format_names, size, size_multiple: None,
    lambda out_dir, config, _: saved_model_path(out_dir),
    _write,
    is_saved_model,
    load_saved_model,
    has_tiles=True,
)
