"""Your own data: a folder of images and a folder of masks.

    ROOT/images/STEM.jpg        also jpeg, png, bmp, tif, tiff, webp
    ROOT/masks/STEM.png         class indices, palette or grey; or colours
    ROOT/classes.txt            one name a line, index 0 first
    ROOT/splits/NAME.txt        optional: the stems of a split, one a line; a split "test" may go without masks

Without split files a fixed share of the images becomes val. --image_dir, --mask_dir and --classes name other places;
then all images there form the one split that --splits names.

Masks of colours, RGB or palette, need the colour of each class in classes.txt: "road 128 64 128". A line "ignore 0 0
0" there is no class; pixels of its colour do not count.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from deeplab_tf.dataset_info import IGNORE_LABEL, DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import SUFFIXES

from ..raw import files as raw_files
from ..raw.masks import Colour
from ..source import Example, Source


class _Classes(NamedTuple):
    """What classes.txt says: names, and the label of each colour, in the order of the file; None without colours."""

    names: tuple[str, ...]
    colours: dict[Colour, int] | None


# A name, then red, green and blue.
_COLOURED = re.compile(r"(?P<name>.*?)[\s,:;]+(?P<red>\d+)[\s,]+(?P<green>\d+)[\s,]+(?P<blue>\d+)")
_IGNORE = "ignore"


def info(source: Source) -> DatasetInfo:
    """Returns the named classes, with the colours of classes.txt, else the masks' palette, else PASCAL's colours.

    Raises:
        UserError: no classes are named, one is named twice, there are more than 255, or only some have a colour.
    """
    names, colours = _classes(source)
    palette = pascal_palette(len(names))
    if colours is not None:
        palette = tuple(colour for colour, label in colours.items() if label != IGNORE_LABEL)
    else:
        own = _mask_palette(source)[: len(names)]
        if len(set(own)) == len(names):
            palette = own
    return DatasetInfo(name="folder", class_names=names, palette=palette)


def splits(source: Source) -> list[str]:
    """Returns the split files' names, or the one named split, or train and val.

    Raises:
        UserError: --image_dir or --mask_dir is given without the name of the one split to write.
    """
    if _is_one_split(source):
        if len(source.split_names) != 1:
            raise UserError(
                "--image_dir and --mask_dir hold one split: name it with --splits=NAME (such as train), got"
                f" {', '.join(source.split_names) or 'no name'}. A second call adds another split to the same --out."
            )
        return list(source.split_names)
    return sorted(path.stem for path in _split_files(source)) or ["train", "val"]


def ids(source: Source, split: str) -> list[str]:
    """Returns the stems of a split: in its list's order, or sorted where there is no list.

    Raises:
        UserError: no such split or no images; an image is missing, has no mask, or shares its stem with another.
    """
    available = splits(source)
    if split not in available:
        raise UserError(f"expected one of the splits {', '.join(available)}, got {split!r}. Correct --splits.")
    images = _images(source)
    if _is_one_split(source):
        stems = sorted(images)
    elif _split_files(source):
        path = _root(source) / "splits" / f"{split}.txt"
        stems = raw_files.read_list(path, "Write one stem a line (the image's file name without its extension).")
        for stem in stems:
            if stem not in images:
                raise UserError(
                    f"{path}: expected stems of images in {_image_dir(source)}, found none for {stem!r}."
                    " List file names without their extension."
                )
    else:
        stems = _hashed_split(sorted(images), split, source.val_fraction)
        _check_masks(source, images)
    if not _is_unlabelled(source, split, stems):
        for stem in stems:
            if not _mask_path(source, stem).is_file():
                raise UserError(
                    f"{images[stem]}: expected its mask at {_mask_path(source, stem)}, found none."
                    " Add the mask or remove the image."
                )
    return stems


def example(source: Source, split: str, image_id: str) -> Example:
    """Reads one image and its mask.

    Raises:
        UserError: a file is missing or not what it should be.
    """
    mask_path: Path | None = _mask_path(source, image_id)
    if _is_unlabelled(source, split, [image_id]):
        mask_path = None
    names, colours = _classes(source)
    example = raw_files.read_example(
        image_id,
        _images(source)[image_id],
        mask_path,
        len(names),
        source.ignore_label,
        palette=_mask_palette(source),
        colours=colours,
    )
    table = _classes_path(source)
    return example if table is None else example._replace(files=(*example.files, table))


def _classes(source: Source) -> _Classes:
    """Returns the classes that --classes or classes.txt name."""
    path = _classes_path(source)
    if path is None:
        return _Classes(_checked_names(source.classes, "--classes"), None)
    return _read_classes(path, os.stat(path).st_mtime_ns if path.is_file() else 0)


def _classes_path(source: Source) -> Path | None:
    """Returns the file that names the classes, None where --classes itself does."""
    if source.classes:
        named = Path(source.classes[0])
        if len(source.classes) == 1 and (named.is_file() or named.suffix == ".txt" or len(named.parts) > 1):
            return named  # reading it says where there is no such file
        return None
    if not source.root:
        raise UserError("folder needs the class names: --classes=a,b,c (index 0 first) or --root with classes.txt.")
    return _root(source) / "classes.txt"


@functools.lru_cache(maxsize=8)  # `example` asks for it each time
def _read_classes(path: Path, changed: int) -> _Classes:
    """Reads classes.txt; `changed` is when it was, so that the cache never answers with an older file."""
    del changed
    lines = raw_files.read_list(path, "Write one class name a line, index 0 first, or give --classes=a,b,c.")
    matches = [_COLOURED.fullmatch(line) for line in lines]
    if not any(matches):
        return _Classes(_checked_names(lines, str(path)), None)
    names: list[str] = []
    colours: dict[Colour, int] = {}
    for line, match in zip(lines, matches, strict=True):
        colour = tuple(int(match[channel]) for channel in ("red", "green", "blue")) if match else ()
        if match is None or len(colour) != 3 or max(colour) > 255:
            raise UserError(
                f"{path}: expected a colour for every class, or for none, such as 'road 128 64 128', got {line!r}."
            )
        if colour in colours:
            raise UserError(f"{path}: expected every colour once, got {line!r} again. Give each class its own.")
        if match["name"] == _IGNORE:
            colours[colour] = IGNORE_LABEL
        else:
            colours[colour] = len(names)
            names.append(match["name"])
    return _Classes(_checked_names(names, str(path)), colours)


def _checked_names(names: Sequence[str], origin: str) -> tuple[str, ...]:
    if not 1 <= len(set(names)) == len(names) <= 255 or not all(names):
        raise UserError(
            f"{origin}: expected 1 to 255 class names, each once, got {len(names)}: {', '.join(names)[:200]}."
        )
    return tuple(names)


def _is_one_split(source: Source) -> bool:
    return bool(source.image_dir or source.mask_dir)


def _is_unlabelled(source: Source, split: str, stems: list[str]) -> bool:
    """Says whether these images are test images: for any other split a missing mask is a mistake."""
    return split == "test" and not any(_mask_path(source, stem).is_file() for stem in stems)


def _hashed_split(stems: list[str], split: str, val_fraction: float) -> list[str]:
    """Returns train or val, at least one image each; an image's side hangs on its name and not on the order."""
    if not 0 < val_fraction < 1:
        raise UserError(f"--val_fraction: expected a share between 0 and 1, got {val_fraction}.")
    if len(stems) < 2:
        raise UserError(f"expected at least 2 images to split into train and val, got {len(stems)}. Add images.")
    by_hash = sorted(stems, key=lambda stem: hashlib.sha256(os.fsencode(stem)).hexdigest())
    num_val = min(max(round(len(stems) * val_fraction), 1), len(stems) - 1)
    chosen = by_hash[:num_val] if split == "val" else by_hash[num_val:]
    return sorted(chosen)


def _images(source: Source) -> MappingProxyType[str, Path]:
    """Returns the image file of each stem."""
    folder = _existing_folder(_image_dir(source), "images")
    return _listed_images(folder, os.stat(folder).st_mtime_ns)


@functools.lru_cache(maxsize=8)  # `example` asks for it each time
def _listed_images(folder: Path, changed: int) -> MappingProxyType[str, Path]:
    """Lists a folder of images; `changed` is when it was, so that the cache never answers with an older list."""
    del changed
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
            continue  # such as .DS_Store, ._a.jpg, Thumbs.db
        if path.stem in images:
            raise UserError(
                f"{path}: expected one image for the stem {path.stem!r}, found {images[path.stem].name} too."
                " Remove or rename one."
            )
        images[path.stem] = path
    if not images:
        raise UserError(f"{folder}: expected images ({' '.join(SUFFIXES)}), found none.")
    return MappingProxyType(images)


def _check_masks(source: Source, images: Mapping[str, Path]) -> None:
    """Raises UserError for a mask without an image: without lists, all that is there belongs to the data set."""
    for path in sorted(_mask_dir(source).glob("*.png")) if _mask_dir(source).is_dir() else ():
        if path.stem not in images and not path.name.startswith("."):
            raise UserError(
                f"{path}: expected its image in {_image_dir(source)}, found none. Add the image"
                f" ({' '.join(SUFFIXES)}) or remove the mask."
            )


def _mask_palette(source: Source) -> tuple[Colour, ...]:
    """Returns the palette of the first mask, () where it has none."""
    folder = _mask_dir(source)
    return _first_palette(folder, os.stat(folder).st_mtime_ns) if folder.is_dir() else ()


@functools.lru_cache(maxsize=8)  # `example` asks for it each time
def _first_palette(folder: Path, changed: int) -> tuple[Colour, ...]:
    """Reads a palette; `changed` is when the folder was, so that the cache never answers for an older one."""
    del changed
    first = min((path for path in folder.glob("*.png") if not path.name.startswith(".")), default=None)
    try:
        return raw_files.read_palette(first) if first is not None else ()
    except UserError:
        return ()  # reading the examples says what is wrong with the file


def _split_files(source: Source) -> list[Path]:
    found = sorted((_root(source) / "splits").glob("*.txt"))
    return [path for path in found if not path.name.startswith(".")]


def _mask_path(source: Source, stem: str) -> Path:
    return _mask_dir(source) / f"{stem}.png"


def _image_dir(source: Source) -> Path:
    return Path(source.image_dir) if source.image_dir else _root(source) / "images"


def _mask_dir(source: Source) -> Path:
    return Path(source.mask_dir) if source.mask_dir else _root(source) / "masks"


def _root(source: Source) -> Path:
    if not source.root:
        raise UserError(
            "folder needs --root=FOLDER with images/, masks/ and classes.txt, or --image_dir and --mask_dir."
        )
    return _existing_folder(Path(source.root), "images/, masks/ and classes.txt")


def _existing_folder(path: Path, content: str) -> Path:
    if not path.is_dir():
        raise UserError(f"{path}: expected a folder with {content}, found no such folder. Correct the path.")
    return path
