"""COCO's instance annotations by image, as a small database on disk.

The JSON of COCO's train set has 450 MB and lists its annotations in no order that helps. It is read once, as a
stream, into an SQLite file that several processes can look images up in; memory stays small.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from deeplab_tf.errors import UserError, in_short

from ..messages import some

# What is known of an image is checked here; what an annotation says is checked when it is drawn.
_SCHEMA = """
CREATE TABLE images (id INTEGER PRIMARY KEY, stem TEXT UNIQUE, file_name TEXT, width INTEGER, height INTEGER);
CREATE TABLE annotations (image_id INTEGER, label INTEGER, crowd INTEGER, content TEXT);
"""


class Picture(NamedTuple):
    """An image that the annotations describe: its file's name and its size in pixels."""

    file_name: str
    width: int
    height: int


class Annotation(NamedTuple):
    """One annotated object.

    Attributes:
        label: its class.
        crowd: whether it is a region of many objects.
        content: what the JSON says of it, "id" and "segmentation".
    """

    label: int
    crowd: bool
    content: dict[str, Any]


class Index:
    """An annotation file, opened for looking images up."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f"file:{path.absolute().as_posix().replace('?', '%3f')}?mode=ro", uri=True)
        # Python 3.13 warns of connections that nobody closed.
        weakref.finalize(self, self._database.close)

    def labelled_stems(self) -> list[str]:
        """Returns the images that show an object, crowds aside: file names without ending, sorted."""
        rows = self._database.execute(
            "SELECT DISTINCT stem FROM images JOIN annotations ON image_id = images.id WHERE NOT crowd ORDER BY stem"
        )
        return [stem for (stem,) in rows]

    def picture(self, stem: str) -> Picture:
        """Returns an image.

        Raises:
            KeyError: there is no such image.
        """
        row = self._database.execute("SELECT file_name, width, height FROM images WHERE stem = ?", (stem,)).fetchone()
        if row is None:
            raise KeyError(stem)
        return Picture(*row)

    def annotations(self, stem: str) -> list[Annotation]:
        """Returns what is annotated in an image, in the order of the file."""
        rows = self._database.execute(
            "SELECT label, crowd, content FROM annotations JOIN images ON image_id = images.id WHERE stem = ?"
            " ORDER BY annotations.rowid",
            (stem,),
        )
        return [Annotation(label, bool(crowd), json.loads(content)) for label, crowd, content in rows]


def open_index(path: Path, labels: tuple[tuple[str, int], ...], scratch: str) -> Index:
    """Opens the index of an annotation file, and makes it where the folder has none.

    Args:
        path: the JSON file.
        labels: (name of a category, its label) of the categories that count; other annotations are left out.
        scratch: folder for the index, or "" for a temporary one.

    Raises:
        UserError: the file is missing, no JSON, or not COCO's instance annotations.
    """
    try:
        import ijson  # noqa: F401
    except ImportError:
        raise UserError(
            f"{path}: expected the package ijson, which reads large JSON files, found none."
            " Install it: pip install -r requirements.txt -c constraints.txt"
        ) from None
    try:
        state = os.stat(path)
    except OSError as error:
        raise UserError(
            f"{path}: expected COCO's instance annotations, got: {error.strerror or error}. Unpack them there."
        ) from None
    key = json.dumps([str(path.absolute()), state.st_size, state.st_mtime_ns, labels])
    folder = Path(scratch or _temporary_folder())
    index = folder / f"coco-{hashlib.sha256(key.encode()).hexdigest()[:16]}.sqlite"
    if not index.is_file():
        temporary = index.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        _build(path, dict(labels), temporary)
        os.replace(temporary, index)
    return _opened(index)


@functools.lru_cache(maxsize=4)
def _opened(index: Path) -> Index:
    return Index(index)


@functools.lru_cache(maxsize=1)
def _temporary_folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="coco-index-")
    # Kept alive until the process ends, which removes it.
    _temporary_folder.kept = folder  # type: ignore[attr-defined]
    return folder.name


def _build(path: Path, labels: Mapping[str, int], index: Path) -> None:
    """Writes the index of an annotation file."""
    with contextlib.closing(sqlite3.connect(index)) as database, _complaining(path):
        database.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;" + _SCHEMA)
        wanted = _wanted_categories(path, labels)
        database.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", _image_rows(path))
        known = {image_id for (image_id,) in database.execute("SELECT id FROM images")}
        database.executemany("INSERT INTO annotations VALUES (?, ?, ?, ?)", _annotation_rows(path, wanted, known))
        database.execute("CREATE INDEX annotations_by_image ON annotations (image_id)")
        database.commit()


def _wanted_categories(path: Path, labels: Mapping[str, int]) -> dict[int, int | None]:
    """Returns the label of each category by its number, None for those that do not count."""
    categories = {int(category["id"]): str(category["name"]) for category in _items(path, "categories")}
    missing = sorted(set(labels) - set(categories.values()))
    if missing:
        raise UserError(
            f"{path}: expected COCO's categories, found none named {some(missing)}. Give the file instances_NAME.json."
        )
    return {number: labels.get(name) for number, name in categories.items()}


def _image_rows(path: Path) -> Iterator[tuple[int, str, str, int, int]]:
    stems: set[str] = set()
    numbers: set[int] = set()
    for image in _items(path, "images"):
        number, name = int(image["id"]), str(image["file_name"])
        stem = Path(name).stem
        if number in numbers or stem in stems:
            raise UserError(f"{path}: expected every image once, got {name} (id {number}) twice. Remove one of them.")
        if Path(name).name != name or not stem:
            raise UserError(f"{path}: expected file names without folders, got {name!r}. Correct the file.")
        stems.add(stem)
        numbers.add(number)
        yield number, stem, name, int(image["width"]), int(image["height"])


def _annotation_rows(
    path: Path, wanted: Mapping[int, int | None], known: set[int]
) -> Iterator[tuple[int, int, int, str]]:
    for annotation in _items(path, "annotations"):
        category, image = int(annotation["category_id"]), int(annotation["image_id"])
        if category not in wanted or image not in known:
            kind, number = ("a category", category) if category not in wanted else ("an image", image)
            raise UserError(
                f"{path}: annotation {annotation['id']}: expected {kind} of the file, got {number}, which it does not"
                " list. Give the file as COCO released it, or remove the annotation."
            )
        label = wanted[category]
        if label is not None:
            # An annotation of a box alone has none: drawing it says so.
            content = json.dumps({"id": annotation["id"], "segmentation": annotation.get("segmentation")})
            yield image, label, int(bool(annotation.get("iscrowd", 0))), content


def _items(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Gives the entries of one of the lists of the file, one in memory at a time."""
    import ijson

    found = False
    described = {"desc": f"{path.name}: {name}", "total": path.stat().st_size, "disable": None}
    with open(path, "rb") as opened, tqdm.wrapattr(opened, "read", **described) as file:
        for item in ijson.items(file, f"{name}.item", use_float=True):
            found = True
            yield item
    if not found:
        raise UserError(
            f"{path}: expected COCO's instance annotations, found no list {name!r} in it, or an empty one."
            " Give the file instances_NAME.json."
        )


@contextlib.contextmanager
def _complaining(path: Path) -> Iterator[None]:
    """Turns what is wrong with the file's form into one line."""
    import ijson

    try:
        yield
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: expected a whole JSON file, cannot read it ({in_short(error)}). Copy it again."
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: expected COCO's instance annotations, cannot read them ({error!r})."
            " Give the file instances_NAME.json."
        ) from None
