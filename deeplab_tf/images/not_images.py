"""What a file is that claims to be an image and is not, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple


class NotAnImage(NamedTuple):
    """What a file is instead of an image.

    Attributes:
        what: ends "no known image format: ".
        remedy: what to do, a sentence.
    """

    what: str
    remedy: str


_EXPORT = "Export it as an 8-bit PNG or as a JPEG."
_KINDS = {
    b"version https://git-lfs": NotAnImage("a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    b"<!doctype html": NotAnImage("a web page, as a failed download leaves it", "Download it again."),
    b"<html": NotAnImage("a web page, as a failed download leaves it", "Download it again."),
    b"<svg": NotAnImage("an SVG drawing", _EXPORT),
    b"<?xml": NotAnImage("XML, such as an SVG drawing or an error page", "Export it as PNG, or download it again."),
    b"%pdf": NotAnImage("a PDF document", _EXPORT),
    b"%!ps": NotAnImage("a PostScript document", _EXPORT),
    b"8bps": NotAnImage("a Photoshop document", _EXPORT),
    b"pk\x03\x04": NotAnImage("a ZIP archive", "Unpack it."),
    b"\x1f\x8b": NotAnImage("a gzip archive", "Unpack it."),
    b"\x76\x2f\x31\x01": NotAnImage("an OpenEXR image, whose values have no fixed range", _EXPORT),
    b"#?radiance": NotAnImage("a Radiance HDR image, whose values have no fixed range", _EXPORT),
    b"\x93numpy": NotAnImage("a NumPy array", "Save it as a PNG: Image.fromarray(array).save(path)."),
}
_TIFF = NotAnImage(
    "a damaged TIFF, or of a kind that is not read here, such as floating-point colours or a camera's raw picture",
    _EXPORT,
)
_VIDEO = NotAnImage("a video", "Give it the ending .mp4, or leave it out.")


def recognise(data: bytes) -> NotAnImage | None:
    """Says what a file is that no reader of images knows; None where it is not recognised.

    Args:
        data: of the file, its first 1,000 bytes at least.
    """
    head = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, found in _KINDS.items():
        if head.startswith(beginning):
            return found
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _TIFF
    is_mp4 = data[4:8] == b"ftyp" and data[8:12] in (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  ")
    return _VIDEO if is_mp4 or head.startswith(b"\x1a\x45\xdf\xa3") else None
