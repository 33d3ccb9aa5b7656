"""The EXIF orientation of JPEGs as a TensorFlow graph, for exported models that take the bytes of photographs.

Plain operations on the first 64 kB: every index is kept inside them, every loop has an end, and bytes that make no
sense turn nothing.
"""

from __future__ import annotations

import tensorflow as tf

_MOST_BYTES = 65536
_MOST_SEGMENTS = 32
_MOST_ENTRIES = 128
_APP1, _START_OF_SCAN = 0xE1, 0xDA
_ORIENTATION, _SHORT = 274, 3


def orientation_in_graph(encoded: tf.Tensor) -> tf.Tensor:
    """Does for JPEGs what `orientation.orientation` does.

    Args:
        encoded: string [], an image file.

    Returns:
        int32 [], 1 to 8; 1 where there is no tag in the first 64 kB, for damaged EXIF data, and for all other formats.
    """
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, _MOST_BYTES), tf.uint8), tf.int32)
    size = tf.size(data)
    data = tf.concat([data, tf.zeros([1], tf.int32)], axis=0)  # what is outside is 0

    def byte(place: tf.Tensor) -> tf.Tensor:
        return tf.gather(data, tf.where((place >= 0) & (place < size), place, size))

    def number(place: tf.Tensor, count: int, little: tf.Tensor) -> tf.Tensor:
        """Of 2 or 4 bytes; those of 4 that are beyond the data anyway become as large as it."""
        parts = [byte(place + offset) for offset in range(count)]
        ends = [sum(part * 256**shift for shift, part in enumerate(order[:2])) for order in (parts, parts[::-1])]
        low = tf.where(little, ends[0], ends[1])
        if count == 2:
            return low
        high = tf.where(little, parts[2] + parts[3], parts[0] + parts[1])
        return tf.where(high > 0, size, low)

    big = tf.constant(False)

    def goes_on(count: tf.Tensor, place: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        """`found`: where the TIFF structure in a segment begins, or -1."""
        marker = byte(place + 1)
        return (found < 0) & (byte(place) == 0xFF) & (marker != _START_OF_SCAN) & (count < _MOST_SEGMENTS)

    def step(count: tf.Tensor, place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        header = tf.stack([byte(place + offset) for offset in range(4, 10)])
        is_exif = (byte(place + 1) == _APP1) & tf.reduce_all(header == tf.constant(list(b"Exif\0\0")))
        return count + 1, place + 2 + number(place + 2, 2, big), tf.where(is_exif, place + 10, found)

    is_jpeg = (byte(tf.constant(0)) == 0xFF) & (byte(tf.constant(1)) == 0xD8)
    start = tf.where(is_jpeg, 2, size)
    _, end, tiff = tf.while_loop(goes_on, step, [tf.constant(0), start, tf.constant(-1)])

    first, second = byte(tiff), byte(tiff + 1)
    little = (first == ord("I")) & (second == ord("I"))
    is_tiff = (
        (tiff >= 0) & (little | ((first == ord("M")) & (second == ord("M")))) & (number(tiff + 2, 2, little) == 42)
    )
    directory = tiff + number(tiff + 4, 4, little)
    entries = tf.minimum(number(directory, 2, little), _MOST_ENTRIES)
    places = directory + 2 + 12 * tf.range(entries)  # [entries]
    # One short number, inside the segment.
    is_sound = (number(places + 2, 2, little) == _SHORT) & (number(places + 4, 4, little) == 1) & (places + 12 <= end)
    values = tf.where(is_sound, number(places + 8, 2, little), 1)
    tags = number(places, 2, little)
    found = tf.reduce_max(tf.where(tags == _ORIENTATION, values, 0), axis=0)
    found = tf.where(entries > 0, found, 0)
    return tf.where(is_tiff & (found >= 1) & (found <= 8), found, 1)


def turned_in_graph(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Does what `orientation.turned` does: [H, W, C] to [H, W, C] or [W, H, C]."""

    def one_of(*numbers: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(numbers))

    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
    pixels = tf.cond(one_of(3, 4, 7, 8), lambda: tf.reverse(pixels, [0]), lambda: pixels)
    return tf.cond(one_of(2, 3, 6, 7), lambda: tf.reverse(pixels, [1]), lambda: pixels)
