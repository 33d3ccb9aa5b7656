"""What `DeepLab.fit` and `DeepLab.evaluate` do with a batch: the update of train.py, and its losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from deeplab_tf.layers import rgb
from deeplab_tf.layers.resize import label_map, next_clean_size, pad_images, resize_bilinear, spatial_shape
from deeplab_tf.networks.update import Batch, LossOfScales, Terms, sum_over_replicas, update_weights

if TYPE_CHECKING:
    from deeplab_tf.networks.deeplab import DeepLab

IGNORED = 255
"""The label of what images are padded with, where the loss does not say it."""


@contextlib.contextmanager
def explaining_images(model: DeepLab, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[None]:
    """Checks the shape of images where they are given, and turns what a graph says of their levels into one line.

    Args:
        model: the network.
        args: of `keras.Model.fit`, `evaluate` or `predict`; the images, or a data set of them, come first or are x.
        kwargs: of the same.

    Raises:
        ValueError: see `rgb.check_shape` and `rgb.check_levels`; or batches of `datasets.pipeline` for a model of a
            `tf.distribute.Strategy`, which Keras calls with images once before it trains.
    """
    given = args[0] if args else kwargs.get("x")
    if isinstance(given, tf.data.Dataset):
        if isinstance(given.element_spec, dict) and model._distribute_strategy is not None:
            raise ValueError(
                "under a tf.distribute.Strategy fit and evaluate need (images, labels), not batches of "
                "datasets.pipeline; with these, train.py --strategy=mirrored makes the same updates."
            )
        given = given.element_spec[0] if isinstance(given.element_spec, tuple) else given.element_spec
    shape = getattr(given, "shape", None)  # a batch of datasets.pipeline is a dict
    if isinstance(shape, tuple) or (isinstance(shape, tf.TensorShape) and shape.rank is not None):
        rgb.check_shape(shape)
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if reason := rgb.reason(error):
            raise ValueError(reason) from None
        raise


def train_step(model: DeepLab, data: Any) -> dict[str, Any]:
    """Updates the weights once and returns the metrics, as `keras.Model.train_step` does.

    Args:
        model: compiled.
        data: a batch of `datasets.pipeline`, or (images, labels), see `batch_of`.
    """
    batch = batch_of(model, data)
    if isinstance(model.loss, LossOfScales):

        def observe(labels: tf.Tensor, scores: tf.Tensor) -> None:
            model.compute_metrics(None, labels, scores)

        means = update_weights(model, model.optimizer, model.loss, batch, observe=observe)
        return _tracked(model, tf.reduce_sum(means), batch)
    images, labels = _one_micro_batch(batch)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        scores = model.fuse(model.score_maps(images, batch["seeds"][:, 0]), images)[0]
        loss = model.compute_loss(images, labels, scores, training=True)
        scaled = model.optimizer.scale_loss(loss)
    model.optimizer.apply(tape.gradient(scaled, variables), variables)
    model.compute_metrics(images, labels, scores)
    return _tracked(model, loss, batch)


def test_step(model: DeepLab, data: Any) -> dict[str, Any]:
    """Returns loss and metrics of a batch, without dropout, as `keras.Model.test_step` does; see `train_step`."""
    batch = batch_of(model, data)
    images, labels = _one_micro_batch(batch)
    if isinstance(model.loss, LossOfScales):
        terms = Terms(model, model.loss)
        totals, scores = terms.totals(images, labels, None)
        counts = sum_over_replicas(terms.counts(labels))
        loss = tf.reduce_sum(tf.math.divide_no_nan(tf.stack(totals), counts))
    else:
        scores = model.fuse(model.score_maps(images), images)[0]
        loss = model.compute_loss(images, labels, scores, training=False) if model.loss else tf.constant(0.0)
    model.compute_metrics(images, labels, scores)
    return _tracked(model, loss, batch)


def batch_of(model: DeepLab, data: Any) -> Batch:
    """Brings what a data set gives into the form of `datasets.pipeline`, with sides that the network takes exactly.

    Images are padded with the mean and labels with the ignore label, at the bottom and right, to the next sides of the
    form `size_multiple`*k + 1.

    Args:
        model: compiled.
        data: {"image": [b, I, H, W, 3], "labels": [b, I, H, W], "seeds": int32 [b, I, 2]}, or (images, labels):
            [b, H, W, 3] RGB levels 0..255 of any type, integers [b, H, W] or [b, H, W, 1]. Without seeds, they are
            drawn from the generator that `keras.utils.set_random_seed` sets.

    Raises:
        ValueError: other shapes, or sample weights.
    """
    if isinstance(data, dict) and {"image", "labels"} <= set(data):
        images, labels, seeds = data["image"], data["labels"], data.get("seeds")
    else:
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if labels is None:
            raise ValueError("fit and evaluate need labels: give (images, labels), or batches of datasets.pipeline.")
        if sample_weight is not None:
            raise ValueError(
                "a segmentation is weighted by class, SegmentationLoss(class_weights=...), or by pixel, with the "
                "label 255 where nothing is to be learned; leave sample_weight and class_weight out."
            )
        rgb.check_shape(images.shape)
        labels = _indices(labels, images)[:, tf.newaxis]
        images, seeds = images[:, tf.newaxis], None
    rgb.check_levels(images)
    images, labels = tf.cast(images, tf.float32), tf.cast(labels, tf.int32)
    rows, micro_batches = tf.shape(labels)[0], labels.shape[1]
    if seeds is None:
        seeds = tf.random.uniform([rows, micro_batches, 2], maxval=tf.int32.max, dtype=tf.int32)
    height, width = (labels.shape[axis] or tf.shape(labels)[axis] for axis in (2, 3))
    clean = [next_clean_size(side, model.size_multiple) for side in (height, width)]
    if tf.is_tensor(height) or tf.is_tensor(width) or clean != [height, width]:
        flat = tf.reshape(images, [-1, height, width, 3])
        flat_labels = tf.reshape(labels, [-1, height, width])
        below, beside = clean[0] - height, clean[1] - width
        ignored = getattr(model.loss, "ignore_label", IGNORED)
        flat_labels = tf.pad(flat_labels, [[0, 0], [0, below], [0, beside]], constant_values=ignored)
        images = tf.reshape(pad_images(flat, clean[0], clean[1], model.mean_rgb), [rows, micro_batches, *clean, 3])
        labels = tf.reshape(flat_labels, [rows, micro_batches, *clean])
    return {"image": images, "labels": labels, "seeds": seeds}


def _indices(labels: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Returns labels as [b, H, W], those of images [b, H, W, 3]."""
    if labels.shape.rank is None:  # Keras was given both forms, one after the other
        labels = tf.reshape(labels, tf.shape(images)[:3])
    if labels.shape.rank == 4 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.shape.rank != 3:
        raise ValueError(
            f"expected labels [B, H, W], one class index for each pixel, got {list(labels.shape)}; of one-hot labels "
            "that is labels.argmax(-1)."
        )
    return labels


def _one_micro_batch(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns images [b*I, H, W, 3] and labels [b*I, H, W]."""

    def joined(x: tf.Tensor) -> tf.Tensor:
        return x[:, 0] if x.shape[1] == 1 else tf.reshape(x, [-1, *tf.unstack(tf.shape(x)[2:])])

    return joined(batch["image"]), joined(batch["labels"])


def at_labels(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Resizes scores [b, h, w, K] to the size of labels [b, H, W] or [b, H, W, 1]."""
    return resize_bilinear(scores, spatial_shape(label_map(labels)[..., tf.newaxis]))


def _tracked(model: DeepLab, loss: tf.Tensor, batch: Batch) -> dict[str, Any]:
    """Adds this replica's share of a loss to the mean over the epoch, and returns all metrics."""
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    model._loss_tracker.update_state(loss * replicas, sample_weight=tf.shape(batch["labels"])[0])
    return model.get_metrics_result()
