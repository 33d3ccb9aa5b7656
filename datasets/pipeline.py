"""TFRecord -> tf.data: training batches and evaluation examples.

Nothing random here is state. The order of the examples, their augmentation and the seeds that the network gets for
its dropout are pure functions of (seed, g), where g counts the examples of a training from 0. With B the global batch
of a micro-step and I = iter_size,

    step s = g // (B * I),  micro-step m = (g % (B * I)) // B,  row b = g % B.

Hence training resumes exactly at any step, and one device or several see the same examples: each reads only its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import tensorflow as tf

from deeplab_tf.errors import UserError

from .augmentation import MEAN_RGB, augment
from .stored import tfrecord


def train_batches(
    data_dir: str | os.PathLike[str],
    split: str,
    *,
    batch_size: int,
    crop_size: int,
    seed: int,
    iter_size: int = 1,
    scales: Sequence[float] = (),
    scale_range: Sequence[float] = (),
    foreground_crops: float = 0.0,
    colour_jitter: Sequence[float] = (),
    start_step: int = 0,
    mean_rgb: Sequence[float] = MEAN_RGB,
    mirror: bool = True,
    pipeline_index: int = 0,
    num_pipelines: int = 1,
    replicas: int = 1,
    skipped: Sequence[int] = (),
) -> tf.data.Dataset:
    """Reads, shuffles, augments and batches a split without end.

    Every example comes once an epoch, each epoch in another order, and is changed at random, see
    `augmentation.augment`.

    Args:
        data_dir: folder written by `datasets.convert`.
        split: its name.
        batch_size: B, examples of one micro-step on all devices together.
        crop_size: crop height and width in pixels.
        seed: any integer >= 0.
        iter_size: I, micro-steps whose gradients make one update.
        scales: see `augment`, like the next three.
        scale_range: smallest and largest factor.
        foreground_crops: share of the crops that are laid over some object.
        colour_jitter: strengths.
        start_step: the first update to give examples for.
        mean_rgb: what to pad images with, levels 0..255.
        mirror: whether to mirror.
        pipeline_index: which of the pipelines of a training this is.
        num_pipelines: one for each process; pipeline p of n reads rows p*B/n to (p+1)*B/n of each micro-step.
        replicas: devices that this pipeline feeds. Successive elements go to successive replicas.
        skipped: places in stored order of damaged records to leave out, see `tfrecord.skip_damaged`.

    Returns:
        An infinite dataset of dicts, one for each replica and step; with b = B / (num_pipelines * replicas):
        "image" float32 [b, I, crop_size, crop_size, 3] RGB 0..255,
        "labels" int32 [b, I, crop_size, crop_size] class indices and 255,
        "seeds" int32 [b, I, 2] one for each example, for what is random in the network.

    Raises:
        UserError: the data folder is not usable, the split is unknown, empty or without labels, or the batch does
            not divide evenly among the replicas.
        ValueError: a size, count or index out of range.
    """
    if min(batch_size, iter_size, crop_size, num_pipelines, replicas) < 1 or min(start_step, seed) < 0:
        raise ValueError("sizes and counts must be >= 1, start_step and seed >= 0.")
    if not 0 <= pipeline_index < num_pipelines:
        raise ValueError(f"pipeline_index must be in 0..{num_pipelines - 1}, got {pipeline_index}.")
    if batch_size % (num_pipelines * replicas):
        raise UserError(
            f"expected a batch size that divides by the {num_pipelines * replicas} replicas, got {batch_size}."
            " Change train.batch_size."
        )
    manifest = tfrecord.read_manifest(data_dir, check_sizes=not skipped)
    described = _labelled_split(manifest, split).without(skipped)
    count = described.count
    with tf.device("CPU:0"):  # what tf.data captures from a GPU it would copy back
        read = _record_reader(manifest, described)
        # Two words of 31 bits: stateless ops take int32, and so does the network.
        key = tf.constant([seed & 0x7FFFFFFF, (seed >> 31) & 0x7FFFFFFF], tf.int32)
        order_key, example_key = tf.unstack(tf.random.split(key, 2))

    rows = batch_size // (num_pipelines * replicas)
    per_element = rows * iter_size
    first_row = pipeline_index * rows * replicas

    def global_index(position: tf.Tensor) -> tf.Tensor:
        """Turns the position in this pipeline's stream, int64 [], into g: elements hold rows, rows hold micro-steps."""
        element, within = position // per_element, position % per_element
        step, replica = element // replicas, element % replicas
        row, micro_step = within // iter_size, within % iter_size
        return (step * iter_size + micro_step) * batch_size + first_row + replica * rows + row

    def load(position: tf.Tensor) -> dict[str, tf.Tensor]:
        index = global_index(position)
        epoch = tf.cast(index // count, tf.int32)
        record = tfrecord.parse(read(shuffled_place(index % count, count, epoch, order_key)))
        image, labels = tfrecord.decode_image(record["image"]), tfrecord.decode_labels(record["labels"])
        # Splitting scrambles what folding in only appends, so that neighbours get unrelated seeds.
        augment_key, network_key = tf.unstack(
            tf.random.split(tf.random.fold_in(example_key, tf.cast(index, tf.int32)), 2)
        )
        image, labels = augment(
            image,
            labels,
            augment_key,
            crop_size,
            scales=scales,
            scale_range=scale_range,
            foreground_crops=foreground_crops,
            background=manifest.info.background_label,
            colour_jitter=colour_jitter,
            mean_rgb=mean_rgb,
            mirror=mirror,
        )
        return {"image": image, "labels": labels, "seeds": network_key}

    options = tf.data.Options()
    options.deterministic = True
    # Each pipeline already reads its own rows only.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return (
        tf.data.Dataset.counter(start=start_step * replicas * per_element)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(iter_size, drop_remainder=True)
        .batch(rows, drop_remainder=True)
        .prefetch(2)
        .with_options(options)
    )


def shuffled_place(index: tf.Tensor, count: int, epoch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Looks up one entry of an epoch's random order, without the rest of it.

    Args:
        index: integer [] or [n], 0..count-1: how many examples of the epoch come before.
        count: the number of examples.
        epoch: int32 [].
        seed: int32 [2].

    Returns:
        Like index, 0..count-1: places in the stored order. Each epoch is a permutation.
    """
    # index_shuffle uses 16 bits of its seed (8 of one from fold_in), hence scrambled seeds, and two of them.
    for key in tf.unstack(tf.random.split(tf.random.fold_in(seed, epoch), 2)):
        index = tf.random.experimental.index_shuffle(index, key, count - 1)
    return index


def evaluation_examples(
    data_dir: str | os.PathLike[str], split: str, skipped: Sequence[int] = (), needs_labels: bool = True
) -> tf.data.Dataset:
    """Reads a split once, in stored order and at the stored sizes; nothing is dropped.

    Args:
        data_dir: folder written by `datasets.convert`.
        split: its name.
        skipped: places in stored order of damaged records to leave out, see `tfrecord.skip_damaged`.
        needs_labels: False also takes a split without labels, such as a test split.

    Returns:
        A dataset of (image_id string [], image uint8 [H, W, 3] RGB, labels int32 [H, W]), labels int32 [0, 0] where
        the split has none. It decodes a few examples ahead and holds no more than these.

    Raises:
        UserError: the data folder is not usable, or the split is unknown, empty or without labels.
    """
    manifest = tfrecord.read_manifest(data_dir, check_sizes=not skipped)
    stored = _labelled_split(manifest, split) if needs_labels else manifest.split(split)
    described = stored.without(skipped)
    read = _record_reader(manifest, described)
    ids = tf.constant(described.ids)  # as the manifest has them: it was checked, and files get these names

    def load(place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        record = tfrecord.parse(read(place))
        labels = tfrecord.decode_labels(record["labels"]) if described.has_labels else tf.zeros([0, 0], tf.int32)
        return tf.gather(ids, place), tfrecord.decode_image(record["image"]), labels

    return (
        tf.data.Dataset.range(described.count)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(2)
    )


def _labelled_split(manifest: tfrecord.Manifest, name: str) -> tfrecord.SplitManifest:
    split = manifest.split(name)
    if not split.has_labels:
        raise UserError(
            f"{manifest.data_dir}: expected a split with labels, {name!r} has none. Use python predict.py, or"
            " eval.py --submission, for images without labels."
        )
    return split


def _record_reader(manifest: tfrecord.Manifest, split: tfrecord.SplitManifest) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from a record's place in the split's ids, int64 [], to the record, string []."""
    paths = tf.constant([str(manifest.data_dir / file.name) for file in split.files])
    shard_of, offset_of, length_of = (tf.constant(places, tf.int64) for places in split.record_places())

    def read(place: tf.Tensor) -> tf.Tensor:
        # TFRecordDataset itself cannot start in the middle of a file; the op below it can. It checks the checksums.
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[tf.gather(paths, shard_of[place])],
            compression_type="",
            buffer_size=length_of[place],
            byte_offsets=[offset_of[place]],
        )
        records = tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))
        return records.take(1).get_single_element()

    return read
