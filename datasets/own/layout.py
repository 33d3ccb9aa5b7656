"""What a recogniser says of a folder: which tool's export it takes it for, and which files belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .tree import IMAGE_SUFFIXES, File, Tree, list_tree

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LIST_FOLDERS = ("splits", "split", "lists", "list", "filelists", "imagesets")


class Item(NamedTuple):
    """An image and what its labels are read from.

    Attributes:
        image_id: its name in the data set, unique.
        image: its file; None where the label file holds it.
        labels: a mask or an annotation file; several, where each shows one class; empty where the image has no labels.
        split: "train", "val" or "test" where a folder says so, else "".
        classes: where each of `labels` shows one class, the class of each; where a label file numbers the classes, the
            names of the numbers.
    """

    image_id: str
    image: Path | None
    labels: tuple[Path, ...]
    split: str = ""
    classes: tuple[str, ...] = ()


class LeftOut(NamedTuple):
    """Files that are not used, and why: a reason that fits "3 files are left out: REASON (a.jpg, ...)"."""

    reason: str
    paths: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a folder was taken for.

    Attributes:
        name: such as "labelme's JSON files".
        confidence: 0 to 1; of several layouts the surest one counts.
        reason: what says so, such as "default/ and defaultannot/ lie side by side".
        items: the images, sorted by id.
        form: what the label files are: "masks", "class_masks" (one file a class), or the name of a module of `forms`.
        class_file: names the classes; None where there is none.
        class_names: of the classes, background first, where files other than a class file name them.
        lists: the split lists, by the names of the splits.
        left_out: what is not used, and why.
        notes: assumptions that were made, a sentence each.
        problems: what has to be mended first, a line each.
        lone_labels: masks without an image.
        first_mask: the mask whose palette says what the indices of all of them mean; None where there are no masks.
        num_images: images that were found, paired or not.
        num_labels: masks or annotation files that were found.
    """

    name: str
    confidence: float
    reason: str
    items: tuple[Item, ...]
    form: str = "masks"
    class_file: Path | None = None
    class_names: tuple[str, ...] = ()
    lists: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    lone_labels: tuple[Path, ...] = ()
    first_mask: Path | None = None
    num_images: int = 0
    num_labels: int = 0


@dataclasses.dataclass(frozen=True)
class Place:
    """Where to look.

    Attributes:
        root: the folder; None where images and masks are named instead.
        image_dir: the folder of the images, where it is named.
        mask_dir: the folder of the masks, where it is named.
        mask_suffix: what follows an image's name in its mask's name; "" to find out.
        class_file: the file of classes that was named, None to look for one.
        class_names: names that were given.
    """

    root: Path | None
    image_dir: Path | None = None
    mask_dir: Path | None = None
    mask_suffix: str = ""
    class_file: Path | None = None
    class_names: tuple[str, ...] = ()

    @property
    def is_one_split(self) -> bool:
        """Says whether the folders of images and masks are named, so that what is there is one split."""
        return self.image_dir is not None or self.mask_dir is not None

    def tree(self) -> Tree:
        """Lists the root, or the named folder of images."""
        folder = self.image_dir if self.image_dir is not None else self.root
        return list_tree(folder if folder is not None else Path())


def split_of(folders: Sequence[str]) -> str:
    """Returns the split that one of these folders' names says, "" where none does."""
    return next((_SPLIT_FOLDERS[name.casefold()] for name in folders if name.casefold() in _SPLIT_FOLDERS), "")


def ids_of(files: Sequence[tuple[tuple[str, ...], str]]) -> list[str]:
    """Returns an id for each (place, stem): the stem, with its folders before it where another file has the same."""
    counts: dict[str, int] = {}
    for _, stem in files:
        counts[stem] = counts.get(stem, 0) + 1
    return [stem if counts[stem] == 1 else "__".join((*place, stem)) for place, stem in files]


def shown(path: Path, root: Path | None) -> str:
    """Returns a path for messages: below the root where it lies there."""
    try:
        return str(path.relative_to(root)) if root is not None else str(path)
    except ValueError:
        return str(path)


def find_class_file(tree: Tree) -> Path | None:
    """Returns the file that names the classes, None where there is none; the one nearest to the root counts."""
    for names in (
        ("classes.txt",),
        ("class_names.txt", "labelmap.txt", "label_colors.txt", "_classes.csv"),
        ("classes.csv", "labels.txt", "label_names.txt", "class_dict.csv", "obj.names", "codes.txt", "names.txt"),
        ("classes.json", "classes.yaml", "classes.yml", "class_names.json", "labels.json", "labelmap.json"),
        ("label_map.json", "data.yaml", "dataset.yaml"),
    ):
        found = tree.named(*names)
        if found:
            return found[0].path
    return None


def split_lists(files: Sequence[File]) -> dict[str, Path]:
    """Returns the lists of the splits' images, by the names of the splits.

    They are the .txt files of a folder called splits or alike, or else train.txt, val.txt and test.txt at the root, if
    the first line of each names an image.
    """
    texts = [file for file in files if file.suffix == ".txt"]
    found = lists_in(files, *_LIST_FOLDERS)
    if found:
        return found
    stems = {file.stem.casefold() for file in files if file.suffix in IMAGE_SUFFIXES}
    named = [(split_of([file.stem]), file.path) for file in texts if not file.folders and split_of([file.stem])]
    return {split: path for split, path in named if _first_name(path) in stems}


def lists_in(files: Sequence[File], *folders: str) -> dict[str, Path]:
    """Returns the .txt files in folders of these names, in small letters, by their stems."""
    return {
        file.stem: file.path
        for file in files
        if file.folders and file.folders[-1].casefold() in folders and file.suffix == ".txt"
    }


def _first_name(path: Path) -> str:
    """Returns what may be an image's name in the first line of a list, without its folders and ending."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        words = next((line.split() for line in file if line.strip()), [""])
    name = PurePosixPath(words[0].replace("\\", "/")).name.casefold()
    ending = PurePosixPath(name).suffix
    return name.removesuffix(ending) if ending in IMAGE_SUFFIXES else name
