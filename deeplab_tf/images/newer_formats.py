"""HEIC and AVIF: formats of photographs that Pillow reads by plug-ins, which are switched on when a file needs one."""

from __future__ import annotations

import functools
import importlib
from typing import NamedTuple

from PIL import Image

from deeplab_tf.errors import UserError


class _Reader(NamedTuple):
    """What reads a format: a plug-in of Pillow, and how it is switched on."""

    files: str
    package: str
    module: str
    register: str


_READERS = {
    "HEIF": _Reader("HEIC photographs, as iPhones take them,", "pillow-heif", "pillow_heif", "register_heif_opener"),
    "AVIF": _Reader("AVIF images", "pillow-avif-plugin", "pillow_avif", ""),
}


def require_reader(data: bytes, name: object) -> None:
    """Switches the plug-in on that an image file needs; nothing for files that need none.

    Args:
        data: of the file.
        name: what messages call it.

    Raises:
        UserError: it is not installed.
    """
    file_format = _newer_format(data)
    if file_format and not registered((file_format,)) and not _register(file_format):
        reader = _READERS[file_format]
        raise UserError(
            f"{name}: {reader.files} need a plug-in of Pillow: `pip install {reader.package}`. Or save it as JPEG."
        )


def registered(formats: tuple[str, ...]) -> list[str]:
    """Returns those of Pillow's formats that it can read here."""
    Image.init()
    return [file_format for file_format in formats if file_format in Image.OPEN]


def _newer_format(data: bytes) -> str:
    """Returns "HEIF" or "AVIF" as the brands at the beginning of a file say, "" for all others."""
    if data[4:8] != b"ftyp":
        return ""
    brands = data[8 : max(12, min(int.from_bytes(data[:4], "big"), 256))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIF" if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"heim", b"mif1")) else ""


@functools.cache
def _register(file_format: str) -> bool:
    reader = _READERS[file_format]
    try:
        module = importlib.import_module(reader.module)
    except ImportError:
        return False
    if reader.register:
        getattr(module, reader.register)()
    return True
