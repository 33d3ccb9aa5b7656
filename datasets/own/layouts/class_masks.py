"""One mask a class: Label Studio's PNGs for each tag, a folder a class, or the name of the class in the file's name.

task-1-annotation-7-by-1-tag-disc-0.png     Label Studio, also .npy
masks/disc/a.png, masks/box/a.png
masks/a_disc.png, masks/a_box.png
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ...messages import some
from .. import class_file as class_files
from ..layout import Item, Layout, Place, find_class_file, ids_of, split_lists, split_of
from ..pairing import fold
from ..roles import seat_of
from ..tree import MASK_SUFFIXES, File, Tree, list_tree
from .mask_pairs import unreadable

_TASK = re.compile(r"task-(?P<task>\d+)(-annotation-(?P<annotation>\d+))?(-by-.+?)?-tag-(?P<tag>.+)-\d+")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")


def recognise(place: Place) -> Layout | None:
    """Looks for several masks an image, each of one class."""
    tree = place.tree()
    masks_tree = list_tree(place.mask_dir) if place.mask_dir is not None else tree
    tagged = [file for file in masks_tree.files if file.suffix in MASK_SUFFIXES and _TASK.fullmatch(file.stem)]
    if tagged:
        return _label_studio(place, tree, tagged)
    if place.is_one_split and (place.image_dir is None or place.mask_dir is None):
        return None
    return _by_class(place, tree, masks_tree)


def _label_studio(place: Place, tree: Tree, tagged: Sequence[File]) -> Layout:
    """Label Studio numbers its tasks, and does not say in the files' names which image a task was."""
    by_task: dict[int, list[tuple[str, Path]]] = collections.defaultdict(list)
    annotations: dict[int, set[str]] = collections.defaultdict(set)
    for file in tagged:
        match = _TASK.fullmatch(file.stem)
        if match is not None:
            by_task[int(match["task"])].append((match["tag"], file.path))
            annotations[int(match["task"])].add(match["annotation"] or "")
    used = {file.path for file in tagged}
    images = [file for file in tree.images() if file.path not in used and seat_of(file.folders).kind != "mask"]
    names = _tag_names(place, tree, [tag for tags in by_task.values() for tag, _ in tags])
    problems: list[str] = []
    notes: list[str] = []
    several = sorted(task for task, found in annotations.items() if len(found) > 1)
    if several:
        problems.append(
            f"{by_task[several[0]][0][1]}: expected one annotation a task, got several for {some(several)}. Keep one of"
            " them."
        )
    owners = _owners_by_json(tree, images)
    tasks = sorted(by_task)
    if owners is None:
        if len(images) != len(tasks):
            problems.append(
                f"{tagged[0].path}: expected one image for each of Label Studio's {len(tasks)} tasks, got"
                f" {len(images)}:"
                " the files do not name their images. Put the JSON export of the same project beside them, or only the"
                " images of these tasks."
            )
            owners = {}
        else:
            owners = dict(zip(tasks, sorted(images, key=lambda file: _natural(str(file.path))), strict=True))
            notes.append(
                "Label Studio's files do not name their images, so the tasks were taken in the order of the images:"
                f" task {tasks[0]} is {owners[tasks[0]].name}, task {tasks[-1]} is {owners[tasks[-1]].name}. Look at"
                " the pictures of datasets.check, or put the JSON export of the project beside them."
            )
    else:
        missing = [task for task in tasks if task not in owners]
        if missing:
            problems.append(f"{tree.root}: expected the image of each task, found none for tasks {some(missing)}.")
    masks = {owners[task].path: by_task[task] for task in tasks if task in owners}
    return _layout(
        place,
        "Label Studio's masks, one for each tag",
        0.95,
        "task-N-...-tag-NAME-0 in the files' names",
        tree,
        [(file, file.folders) for file in images if file.path in masks],
        masks,
        names,
        problems,
        notes,
    )


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _owners_by_json(tree: Tree, images: Sequence[File]) -> dict[int, File] | None:
    """Returns the image of each task by Label Studio's JSON export; None where there is none."""
    by_name = {fold(file.name): file for file in images}
    for file in tree.files:
        if file.suffix != ".json":
            continue
        try:
            tasks = json.loads(file.path.read_text(encoding="utf-8"))
            owners = {}
            for task in tasks:
                for value in task["data"].values():
                    name = PurePosixPath(str(value).split("?")[0]).name
                    image = by_name.get(fold(name)) or by_name.get(fold(_UPLOAD.sub("", name)))
                    if image is not None:
                        owners[int(task["id"])] = image
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if owners:
            return owners
    return None


def _tag_names(place: Place, tree: Tree, tags: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the classes where no file has them: background and the tags."""
    if place.class_names or place.class_file or find_class_file(tree):
        return ()
    found = sorted(set(tags), key=_natural)
    return tuple(found) if any(map(class_files.is_background, found)) else ("background", *found)


def _by_class(place: Place, tree: Tree, masks_tree: Tree) -> Layout | None:
    """Looks for folders, or endings of names, that are names of classes."""
    known = _known_names(place, tree)
    masks = [file for file in masks_tree.files if file.suffix in MASK_SUFFIXES]
    images = [file for file in tree.images()]
    if not place.is_one_split:
        masks = [file for file in masks if seat_of(file.folders).kind == "mask"]
        images = [file for file in images if seat_of(file.folders).kind == "image"]
    if not images or not masks:
        return None
    by_stem: dict[str, list[File]] = collections.defaultdict(list)
    for file in images:
        by_stem[fold(file.stem)].append(file)
    found: dict[Path, list[tuple[str, Path]]] = collections.defaultdict(list)
    seen: set[str] = set()
    for file in masks:
        tag, stem = _tag_of(file, known, by_stem)
        if tag and len(by_stem.get(stem, [])) == 1:
            found[by_stem[stem][0].path].append((tag, file.path))
            seen.add(tag)
    claimed = sum(len(tags) for tags in found.values())
    if len(seen) < 2 or claimed < 0.8 * len(masks) or all(len(tags) == 1 for tags in found.values()):
        return None
    names = () if known else _tag_names(place, tree, sorted(seen))
    lone = [file.path for file in masks if all(file.path != path for tags in found.values() for _, path in tags)]
    return _layout(
        place,
        "one mask for each class",
        0.87,
        f"masks are named after {some(sorted(seen), 4)}",
        tree,
        [(file, _without_roles(file)) for file in images],
        found,
        names,
        [],
        [],
        tuple(lone),
    )


def _known_names(place: Place, tree: Tree) -> list[str]:
    if place.class_names:
        return list(place.class_names)
    path = place.class_file or find_class_file(tree)
    return list(class_files.read(path).names) if path is not None else []


def _tag_of(file: File, known: Sequence[str], by_stem: Any) -> tuple[str, str]:
    """Returns the class that a mask's folder or name says, and the stem of its image; "" where neither does."""
    folded = {fold(name): name for name in known}
    for folder in reversed(file.folders):
        if fold(folder) in folded:
            return folded[fold(folder)], fold(file.stem)
    stem = fold(file.stem)
    for name in sorted(folded, key=len, reverse=True):
        for sign in ("_", "-", ".", " "):
            if stem.endswith(sign + name):
                return folded[name], stem.removesuffix(sign + name)
            if stem.startswith(name + sign):
                return folded[name], stem.removeprefix(name + sign)
    if not known and file.folders and seat_of((file.folders[-1],)).kind == "":
        return file.folders[-1], stem
    return "", stem


def _without_roles(file: File) -> tuple[str, ...]:
    return seat_of(file.folders).place


def _layout(
    place: Place,
    name: str,
    confidence: float,
    reason: str,
    tree: Tree,
    images: Sequence[tuple[File, tuple[str, ...]]],
    masks: Mapping[Path, Sequence[tuple[str, Path]]],
    names: tuple[str, ...],
    problems: Sequence[str],
    notes: Sequence[str],
    lone: tuple[Path, ...] = (),
) -> Layout:
    ids = ids_of([(where, file.stem) for file, where in images])
    items = tuple(
        Item(
            image_id,
            file.path,
            tuple(path for _, path in sorted(masks.get(file.path, ()))),
            split_of((*where, *file.folders)),
            tuple(tag for tag, _ in sorted(masks.get(file.path, ()))),
        )
        for image_id, (file, where) in zip(ids, images, strict=True)
    )
    return Layout(
        name=name,
        confidence=confidence,
        reason=reason,
        items=tuple(sorted(items)),
        form="class_masks",
        class_file=place.class_file or find_class_file(list_tree(place.root) if place.root else tree),
        class_names=names,
        lists=split_lists(tree.files),
        left_out=unreadable(tree.files),
        notes=(*notes, "Where the masks of two classes overlap, the smaller region is in front."),
        problems=tuple(problems),
        lone_labels=lone,
        num_images=len(images),
        num_labels=sum(len(tags) for tags in masks.values()),
    )
