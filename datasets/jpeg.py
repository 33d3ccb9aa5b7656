"""Finds damage in a JPEG as decoding it would, in a fraction of the time.

libjpeg, and with it Pillow and TensorFlow, refuses what is wrong between the markers of a file: headers, tables, an end
that is missing. It never refuses what is wrong in the compressed pixels: it warns, fills in grey and goes on. So the
compressed pixels, nearly all of the file, are searched for markers only; libjpeg gets the rest, the file without them.

Restarts are the exception: where one is missing, libjpeg skips markers that it would refuse elsewhere.
"""

from __future__ import annotations

import re

# In compressed pixels 0xFF is followed by 0; all else is the next marker. Repeated 0xFF before a marker are filling.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
# Markers without a length behind them (TEM, restarts, the start of an image), and the one that says that there are
# restarts.
_REFUSED = {0x01, *range(0xD0, 0xD9), 0xDD}


def without_pixels(data: bytes) -> bytes | None:
    """Takes the compressed pixels out of a JPEG.

    Args:
        data: a file.

    Returns:
        All its markers, up to the end of the image, with their headers and tables; None if the file does not reach the
        end of the image, does not consist of markers, or has restarts.
    """
    kept, start, position = [], 0, len(_START_OF_IMAGE)
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
            return b"".join(kept)
        if marker in _REFUSED:
            return None
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == _START_OF_SCAN:
            kept.append(data[start:position])
            found = _NEXT_MARKER.search(data, position)
            if found is None:
                return None
            start = position = found.start()
