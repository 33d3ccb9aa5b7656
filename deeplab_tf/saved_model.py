"""SavedModels with the preprocessing inside: uint8 RGB in, labels or probabilities out; only TensorFlow is needed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from deeplab_tf import files
from deeplab_tf.config import Config
from deeplab_tf.errors import UserError
from deeplab_tf.inference import build_inference
from deeplab_tf.model import DeepLab

VERSION = "1"
SAVED_MODEL_FILE = "saved_model.pb"


class _Servable(tf.Module):
    """The functions that a SavedModel holds."""

    def __init__(self, model: DeepLab, config: Config, size: int | None) -> None:
        super().__init__()
        self.model = model
        self._inference = build_inference(model, config.inference)
        images = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
        self.segment = tf.function(self._segment, input_signature=[images])
        self.probabilities = tf.function(self._probabilities, input_signature=[images])
        described = json.dumps(config.to_json())
        self.metadata = tf.function(lambda: {"config": tf.constant(described)}, input_signature=[])

    def _segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = self._inference(images)  # [B, H, W, K]
        labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {"labels": tf.cast(labels, tf.uint8), "confidence": tf.reduce_max(probabilities, axis=-1)}

    def _probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self._inference(images)}


def export_saved_model(
    model: DeepLab,
    config: Config,
    out_dir: str,
    *,
    size: int | None = None,
    overwrite: bool = False,
) -> str:
    """Writes OUT/saved_model/1, the layout that TensorFlow Serving watches.

    Signatures: `serving_default`, images uint8 [B, H, W, 3] (RGB) -> labels uint8 [B, H, W] and confidence
    float32 [B, H, W], the probability of that label; `probabilities`, the same input -> float32
    [B, H, W, K]; `metadata`, nothing -> config, a JSON string with the network, the classes and the palette.

    Args:
        model: trained.
        config: of the training, with its data set; `config.inference` says how the network is asked.
        out_dir: the folder.
        size: side of the images, or None for any height and width.
        overwrite: replace an earlier export.

    Returns:
        The path of the SavedModel.

    Raises:
        UserError: there is one already, or the folder cannot be written.
    """
    parent = os.path.join(out_dir, "saved_model")
    path = os.path.join(parent, VERSION)
    if os.path.exists(path) and not overwrite:
        raise UserError(f"{path} exists; add --overwrite to replace it, or name another --out.")
    files.make_folder(parent, "--out")
    servable = _Servable(model, config, size)
    signatures = {
        "serving_default": servable.segment,
        "probabilities": servable.probabilities,
        "metadata": servable.metadata,
    }
    temporary = os.path.join(out_dir, ".writing.saved_model")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        tf.saved_model.save(servable, temporary, signatures)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(temporary, path)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"cannot write {path}: {str(error).splitlines()[0]}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def is_saved_model(path: str) -> bool:
    """Says whether a folder is a SavedModel."""
    return os.path.isfile(os.path.join(path, SAVED_MODEL_FILE))


def load_saved_model(path: str) -> tuple[Callable[[np.ndarray], np.ndarray], Config]:
    """Loads a SavedModel that `export_saved_model` wrote.

    Args:
        path: the folder that holds saved_model.pb.

    Returns:
        A function from an image uint8 [H, W, 3] to probabilities float32 [H, W, K], and the configuration.

    Raises:
        UserError: not a SavedModel of this project, or damaged.
    """
    try:
        loaded = tf.saved_model.load(path)
        described = loaded.signatures["metadata"]()["config"].numpy().decode()
        config = Config.from_json(json.loads(described))
        signature = loaded.signatures["probabilities"]
    except (tf.errors.OpError, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not a SavedModel of export.py, or is damaged: {str(error).splitlines()[0]}"
        ) from error

    def predict(image: np.ndarray) -> np.ndarray:
        return signature(images=tf.constant(image[np.newaxis]))["probabilities"][0].numpy()

    # The signature does not keep the object that owns its variables alive.
    predict.loaded = loaded  # type: ignore[attr-defined]
    return predict, config
