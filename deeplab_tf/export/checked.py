"""Checks in graphs: a request that cannot be answered is refused with one sentence, by whatever runs the model."""

from __future__ import annotations

import tensorflow as tf

from deeplab_tf.export.description import Size

# How a file begins.
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def checked_images(images: tf.Tensor, size: Size) -> tf.Tensor:
    """Returns images, with an error in the graph if they are not images of one size.

    Args:
        images: uint8; declared as [B, H, W, 3], and whatever a request holds when the graph runs.
        size: the only height and width that is taken, or None for any.

    Returns:
        The same, uint8 [B, H, W, 3].
    """
    shape = _shape_that_came(images)
    rank = tf.size(shape)
    sides = tf.concat([shape, [-1, -1, -1, -1]], axis=0)[:4]
    wanted = tf.constant([-1, *(-1 if side is None else side for side in size), 3])
    right = (rank == 4) & tf.reduce_all((wanted == -1) | (sides == wanted)) & tf.reduce_all(sides[:3] > 0)
    height, width = ("any" if side is None else side for side in size)
    expected = f"images: expected uint8 [batch, height, width, 3], RGB, height {height} and width {width}; got shape"
    harmless = tf.zeros([1, *(side or 1 for side in size), 3], images.dtype)
    return _unless(right, images, harmless, [expected, shape])


def checked_files(files: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of image files, string [B], with an error in the graph where they have another shape."""
    shape = _shape_that_came(files)
    expected = "images: expected string [batch], the bytes of JPEG or PNG files; got shape"
    return _unless(tf.size(shape) == 1, files, tf.zeros([0], tf.string), [expected, shape])


def checked_encoded(encoded: tf.Tensor) -> tf.Tensor:
    """Returns the bytes of an image file, string [], with an error in the graph if they are not JPEG or PNG."""
    begins = [tf.strings.substr(encoded, 0, len(some)) == some for some in (_JPEG, _PNG)]
    expected = "images: expected the bytes of a JPEG or PNG file; got other bytes, this many:"
    return _unless(begins[0] | begins[1], encoded, tf.constant(b""), [expected, tf.strings.length(encoded)])


def _shape_that_came(x: tf.Tensor) -> tf.Tensor:
    """Returns the shape, int32 [rank], of what a request holds, whatever the signature declares."""
    # TensorFlow takes for granted what a signature declares, and would leave a comparison out.
    return tf.shape(tf.raw_ops.PlaceholderWithDefault(input=x, shape=tf.TensorShape(None)))


def _unless(right: tf.Tensor, value: tf.Tensor, harmless: tf.Tensor, says: list[str | tf.Tensor]) -> tf.Tensor:
    """Returns the value, after an error with what is said where it is not right.

    By a branch: what only waits for an assertion may be computed before it, and fail first.
    """

    def refuse() -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.Assert(False, says, summarize=8)]):
            return tf.identity(harmless)

    return tf.ensure_shape(tf.cond(right, lambda: tf.identity(value), refuse), value.shape)
