"""The graph that leaves TensorFlow: uint8 pixels in, labels and confidence out, in operations that others have too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.config import InferenceConfig
from deeplab_tf.errors import UserError
from deeplab_tf.export.compare import Written
from deeplab_tf.export.description import Size
from deeplab_tf.export.kind import Job
from deeplab_tf.inference.fold import fold_weights
from deeplab_tf.inference.labels import labels_in_graph
from deeplab_tf.inference.probabilities import build_inference
from deeplab_tf.layers import portable
from deeplab_tf.networks.deeplab import DeepLab

INPUT, LABELS, CONFIDENCE = "images", "labels", "confidence"
"""The names of what goes in and comes out."""


class PortableNetwork(tf.Module):
    """The function that is converted, with its weights folded.

    Args:
        model: trained, float32.
        options: how the network is run.
        size: height and width of the images, or None for any.

    Attributes:
        segment: the tf.function, from images uint8 [B, H, W, 3] to labels uint8 [B, H, W] and confidence float32
            [B, H, W]. B is 1 where there is a size: every shape is a number then.

    Raises:
        UserError: tiles are wanted inside.
    """

    def __init__(self, model: DeepLab, options: InferenceConfig, size: Size) -> None:
        super().__init__()
        if options.tile:
            raise UserError("ONNX and OpenVINO files have no tiles inside: leave --tile out.")
        with portable.wanted(odd_sizes=options.align_corners):
            self._network = fold_weights(build_inference(model, options, size))
        spec = tf.TensorSpec([None if None in size else 1, *size, 3], tf.uint8, name=INPUT)
        self.segment = tf.function(self._segment, input_signature=[spec], autograph=False)

    def _segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = self._network.answer(images)  # [B, H, W, K]
        confidence = tf.reduce_max(probabilities, axis=-1, name=CONFIDENCE)
        return {LABELS: labels_in_graph(probabilities, name=LABELS), CONFIDENCE: confidence}


def labels_by(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Makes what runs a file take one image as well.

    Args:
        run: from images uint8 [B, H, W, 3] to labels uint8 [B, H, W].

    Returns:
        From images, or from one, [H, W, 3], to its labels [H, W].
    """

    def labels(images: np.ndarray) -> np.ndarray:
        return run(images) if images.ndim == 4 else run(images[np.newaxis])[0]

    return labels


def write_by(export: Callable[..., Iterator[Written]]) -> Callable[[Job, Sequence[str]], Iterator[str]]:
    """Makes the `write` of a `Kind` of a function with the arguments of `export_onnx`."""

    def write(job: Job, format_names: Sequence[str]) -> Iterator[str]:
        yield f"converting to {', '.join(format_names)} ..."
        for written in export(
            job.dilated,
            job.config,
            job.out_dir,
            format_names,
            size=job.size,
            pictures=job.tried(),
            calibration=job.pictures,
            overwrite=job.overwrite,
        ):
            yield job.describe(written)

    return write
