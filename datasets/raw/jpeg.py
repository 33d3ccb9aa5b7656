"""Finds damage in a JPEG as decoding it would, in a fraction of the time.

libjpeg, and with it Pillow and TensorFlow, refuses what is wrong between the markers of a file: headers, tables, an end
that is missing. It never refuses what is wrong in the compressed pixels: it warns, fills in grey and goes on. So the
compressed pixels, nearly all of the file, are searched for markers only; libjpeg gets the rest, the file without them.

Restarts are the exception: where one is missing, libjpeg skips markers that it would refuse elsewhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# In compressed pixels 0xFF is followed by 0; all else is the next marker. Repeated 0xFF before a marker are filling.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_RESTART_INTERVAL = 0xDD
_RESTARTS = range(0xD0, 0xD8)
# No markers, or (TEM, the start of an image) such as have no length and no place here.
_REFUSED = {0x00, 0x01, 0xD8}


class Markers(NamedTuple):
    """What a JPEG has beside its compressed pixels.

    Attributes:
        data: its markers, up to the end of the image, with their headers and tables.
        restarts: whether there are any among the pixels.
    """

    data: bytes
    restarts: bool


def without_pixels(data: bytes) -> Markers | None:
    """Takes the compressed pixels out of a JPEG.

    Args:
        data: a file.

    Returns:
        The rest of it; None if the file does not reach the end of the image or does not consist of markers. libjpeg
        skips some of what is there instead; TensorFlow may refuse it then where Pillow does not.
    """
    kept, start, position = [], 0, len(_START_OF_IMAGE)
    restarts = in_scan = False
    if not data.startswith(_START_OF_IMAGE):
        return None
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if len(data) < position + 2 or data[position] != 0xFF:
            return None
        marker = data[position + 1]
        position += 2
        if marker == _END_OF_IMAGE:
            kept.append(data[start:position])
            return Markers(b"".join(kept), restarts)
        if marker in _REFUSED:
            return None
        if marker in _RESTARTS:
            if not (restarts and in_scan):
                return None
        else:
            restarts |= marker == _RESTART_INTERVAL
            in_scan = marker == _START_OF_SCAN
            position += int.from_bytes(data[position : position + 2], "big")
            if not in_scan:
                continue
        kept.append(data[start:position])
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            return None
        start = position = found.start()
