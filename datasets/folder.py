"""Your own data: a folder of images and a folder of masks.

    ROOT/images/STEM.jpg        also jpeg, png, bmp, tif, tiff, webp
    ROOT/masks/STEM.png         class indices, palette or grey
    ROOT/classes.txt            one name a line, index 0 first
    ROOT/splits/NAME.txt        optional: the stems of a split, one a line; a split "test" may go without masks

Without split files a fixed share of the images becomes val. --image_dir, --mask_dir and --classes name other places;
then all images there form the one split that --splits names.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from datasets import raw_files
from datasets.source import Example, Source
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@functools.lru_cache(maxsize=8)  # `example` asks for it each time
def info(source: Source) -> DatasetInfo:
    """Returns the named classes, with the masks' own colours where these are palette PNGs, else PASCAL's.

    Raises:
        UserError: no classes are named, one is named twice, or there are more than 255.
    """
    names = source.classes
    if not names:
        if not source.root:
            raise UserError("folder needs the class names: --classes=a,b,c (index 0 first) or --root with classes.txt.")
        names = tuple(
            raw_files.read_list(
                _root(source) / "classes.txt", "Write one class name a line, index 0 first, or give --classes=a,b,c."
            )
        )
    if len(set(names)) != len(names) or len(names) > 255:
        raise UserError(f"expected up to 255 class names, each once, got {len(names)}: {', '.join(names)[:200]}.")
    return DatasetInfo(name="folder", class_names=names, palette=_palette(source, len(names)))


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
    image_path = _images(source)[image_id]
    return raw_files.read_example(image_id, image_path, mask_path, info(source).num_classes, source.ignore_label)


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
    by_hash = sorted(stems, key=lambda stem: hashlib.sha256(stem.encode()).hexdigest())
    num_val = min(max(round(len(stems) * val_fraction), 1), len(stems) - 1)
    chosen = by_hash[:num_val] if split == "val" else by_hash[num_val:]
    return sorted(chosen)


@functools.lru_cache(maxsize=8)
def _images(source: Source) -> MappingProxyType[str, Path]:
    """Returns the image file of each stem; listed once, not once an example."""
    folder = _image_dir(source)
    images: dict[str, Path] = {}
    for path in sorted(_existing_folder(folder, "images").iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in IMAGE_EXTENSIONS:
            continue  # such as .DS_Store, ._a.jpg, Thumbs.db
        if path.stem in images:
            raise UserError(
                f"{path}: expected one image for the stem {path.stem!r}, found {images[path.stem].name} too."
                " Remove or rename one."
            )
        images[path.stem] = path
    if not images:
        raise UserError(f"{folder}: expected images ({' '.join(IMAGE_EXTENSIONS)}), found none.")
    return MappingProxyType(images)


def _palette(source: Source, num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Returns the first mask's colours if it is a palette PNG with a colour of its own for each class."""
    mask_dir = _mask_dir(source)
    first = min(mask_dir.glob("*.png"), default=None) if mask_dir.is_dir() else None
    if first is not None:
        try:
            with Image.open(first) as mask:
                entries = mask.getpalette("RGB") if mask.mode == "P" else None
        except OSError:
            entries = None  # reading the examples says what is wrong with the file
        if entries is not None and len(entries) >= 3 * num_classes:
            triples = [entries[3 * index : 3 * index + 3] for index in range(num_classes)]
            colours = tuple((red, green, blue) for red, green, blue in triples)
            if len(set(colours)) == num_classes:
                return colours
    return pascal_palette(num_classes)


def _split_files(source: Source) -> list[Path]:
    return sorted((_root(source) / "splits").glob("*.txt"))


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
