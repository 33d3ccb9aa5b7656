"""Images and masks in folders of their own, or side by side: the plainest layouts, and those of many downloads.

images/a.jpg        masks/a.png
images/train/a.jpg  masks/train/a.png       or train/images/, train/masks/
train/a.jpg         train_masks/a.png
a.jpg               a_mask.png              or a.jpg and a.png
"""

from __future__ import annotations

import collections
from pathlib import Path

from deeplab_tf.errors import UserError

from ...raw import files as raw_files
from ..layout import Layout, LeftOut, Place, find_class_file, split_lists
from ..pairing import Named, fold
from ..roles import LOOK_ENDINGS, MASK_ENDINGS, Seat, seat_of
from ..tree import IMAGE_SUFFIXES, MASK_SUFFIXES, File, list_tree
from .mask_pairs import build, named, unreadable, with_suffix

_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")


def recognise(place: Place) -> Layout | None:
    """Looks for images and masks that pair by their names."""
    return _named_folders(place) if place.is_one_split else _folders(place) or _one_folder(place)


def _named_folders(place: Place) -> Layout | None:
    """Takes what --image_dir and --mask_dir name."""
    image_dir = place.image_dir or _below(place, "images")
    mask_dir = place.mask_dir or _below(place, "masks")
    if image_dir is None or mask_dir is None:
        return None
    images, masks = list_tree(image_dir), list_tree(mask_dir)
    lists = split_lists(list_tree(place.root).files) if place.root is not None else {}
    more = {"class_file": place.class_file or (find_class_file(list_tree(place.root)) if place.root else None)}
    if image_dir.resolve() == mask_dir.resolve():
        files = [file for file in images.files if seat_of(file.folders).kind != "look"]
        found = _split_by_name(place, files, {file.path: file.folders for file in files})
        if found is None:
            return None
        return build(
            place,
            "images and masks in one folder",
            0.9,
            found[2],
            found[0],
            found[1],
            lists=lists,
            left_out=unreadable(files),
            **more,
        )
    return build(
        place,
        "a folder of images and a folder of masks",
        0.9,
        "--image_dir and --mask_dir say so",
        [named(file, file.folders) for file in images.images()],
        [named(file, file.folders) for file in masks.files if file.suffix in MASK_SUFFIXES],
        lists=lists,
        left_out=unreadable(images.files),
        **more,
    )


def _below(place: Place, name: str) -> Path | None:
    return place.root / name if place.root is not None else None


def _folders(place: Place) -> Layout | None:
    """Looks for folders whose names say what they hold."""
    tree = place.tree()
    seats = {file.path: seat_of(file.folders) for file in tree.files}
    masks = [file for file in tree.files if seats[file.path].kind == "mask" and file.suffix in MASK_SUFFIXES]
    if not masks:
        return None
    masks, pictures = _without_pictures(masks)
    masks, other_masks = _one_folder_of_masks(masks, seats)
    images = [file for file in tree.files if seats[file.path].kind == "image" and file.suffix in IMAGE_SUFFIXES]
    strays: list[File] = []
    plain = [file for file in tree.files if seats[file.path].kind == "" and file.suffix in IMAGE_SUFFIXES]
    if images:
        strays = plain
    else:
        # Folders whose names do not say what they hold: those beside the masks.
        places = {seats[mask.path].place for mask in masks}
        images = [file for file in plain if seats[file.path].place in places]
        strays = [file for file in plain if seats[file.path].place not in places]
        if not images and len({file.folders[-1:] for file in plain}) == 1:
            # The only other folder, whatever it is called: raw/ beside seg/, train/raw/ beside train/seg/.
            images, strays = plain, []
            for file in plain:
                seat = seats[file.path]
                seats[file.path] = seat._replace(place=seat.place[:-1], folder=file.folders)
    if not images:
        return None
    left_out = [
        LeftOut("not in a folder of images or masks", tuple(file.path for file in strays)),
        LeftOut(
            "pictures of masks, to look at",
            tuple(
                file.path
                for file in tree.files
                if seats[file.path].kind == "look" and file.suffix in (*MASK_SUFFIXES, *IMAGE_SUFFIXES)
            )
            + tuple(file.path for file in pictures),
        ),
        *other_masks,
        *unreadable(tree.files),
    ]
    image_folders = sorted({"/".join(seats[file.path].folder or file.folders) or "." for file in images})
    mask_folders = sorted({"/".join(seats[file.path].folder) for file in masks})
    documented = "images" in image_folders and "masks" in mask_folders
    return build(
        place,
        "images and masks in folders of their own",
        0.82 if documented else 0.8,
        f"{_some(image_folders)} beside {_some(mask_folders)}",
        [named(file, seats[file.path].place) for file in images],
        [named(file, seats[file.path].place) for file in masks],
        class_file=place.class_file or find_class_file(tree),
        lists=split_lists(tree.files),
        left_out=tuple(each for each in left_out if each.paths),
    )


def _some(folders: list[str]) -> str:
    return " and ".join(f"{folder}/" for folder in folders[:2]) + (" and more" if len(folders) > 2 else "")


def _without_pictures(files: list[File]) -> tuple[list[File], list[File]]:
    """Returns the files without pictures of masks, such as a_color.png beside a_mask.png, and these."""
    maybe = {file.path: fold(file.stem).rsplit("_", 1)[0] for file in files if fold(file.stem).endswith(LOOK_ENDINGS)}
    others = [fold(file.stem) for file in files if file.path not in maybe]
    starts = {stem.rsplit("_", 1)[0] for stem in others}
    known = starts | set(others)
    pictures = [  # a file that has a mask is an image, whatever it is called
        file for file in files if file.path in maybe and maybe[file.path] in known and fold(file.stem) not in starts
    ]
    left = set(pictures)
    return [file for file in files if file not in left], pictures


def _one_folder_of_masks(masks: list[File], seats: dict) -> tuple[list[File], list[LeftOut]]:
    """Where several folders have masks for the same images, returns those of the folder that is called "masks"."""
    owners: dict[tuple[tuple[str, ...], str], set[tuple[str, ...]]] = collections.defaultdict(set)
    for mask in masks:
        seat: Seat = seats[mask.path]
        owners[seat.place, fold(mask.stem)].add(seat.folder)
    rivals = {folder for folders in owners.values() if len(folders) > 1 for folder in folders}
    if not rivals:
        return masks, []
    best = min(rivals, key=lambda folder: (folder[-1].casefold() not in ("masks", "mask"), folder))
    others = [mask for mask in masks if seats[mask.path].folder in rivals - {best}]
    kept = [mask for mask in masks if mask not in others]
    said = f"masks of {'/'.join(best)}/ are used instead (--mask_dir names others)"
    return kept, [LeftOut(said, tuple(mask.path for mask in others))]


def _one_folder(place: Place) -> Layout | None:
    """Looks for images and masks side by side."""
    tree = place.tree()
    files, pictures = _without_pictures([file for file in tree.files if seat_of(file.folders).kind != "look"])
    shown = (LeftOut("pictures of masks, to look at", tuple(file.path for file in pictures)),) if pictures else ()
    places = {file.path: tuple(part for part in seat_of(file.folders).place if part) for file in files}
    found = _split_by_name(place, files, places)
    if found is None:
        return None
    return build(
        place,
        "images and masks side by side",
        0.7,
        found[2],
        found[0],
        found[1],
        class_file=place.class_file or find_class_file(tree),
        lists=split_lists(tree.files),
        left_out=(*shown, *unreadable(tree.files)),
    )


def _split_by_name(place: Place, files: list[File], places: dict) -> tuple[list[Named], list[Named], str] | None:
    """Tells images from masks that lie in the same folders.

    Returns:
        The images, the masks, and by what; None where nothing says which is which.
    """
    candidates = [named(file, places[file.path]) for file in files if file.suffix in (*IMAGE_SUFFIXES, ".npy")]
    if place.mask_suffix:
        kept, others = with_suffix(candidates, place.mask_suffix)
        ends = {each.file.path for each in kept}
        masks = [each for each in candidates if each.file.path in ends]
        return others, masks, f"masks end in {place.mask_suffix}"
    stems = {(each.place, fold(each.stem)) for each in candidates}
    stems |= {(each.place, fold(each.file.name)) for each in candidates}
    counts = {
        ending: [
            each
            for each in candidates
            if fold(each.stem).endswith(ending) and (each.place, fold(each.stem).removesuffix(ending)) in stems
        ]
        for ending in MASK_ENDINGS
    }
    ending = max(counts, key=lambda each: len(counts[each]))
    if counts[ending]:
        ends = {each.file.path for each in candidates if fold(each.stem).endswith(ending)}
        images = [each for each in candidates if each.file.path not in ends]
        return images, [each for each in candidates if each.file.path in ends], f"masks end in {ending}"
    by_stem: dict[tuple[tuple[str, ...], str], list[Named]] = collections.defaultdict(list)
    for each in candidates:
        by_stem[each.place, fold(each.stem)].append(each)
    images, masks = [], []
    for group in by_stem.values():
        parts = _image_and_mask(group)
        if parts is None:
            images += group
        else:
            images.append(parts[0])
            masks.append(parts[1])
    return (images, masks, "an image and its mask have the same name with another ending") if masks else None


def _image_and_mask(group: list[Named]) -> tuple[Named, Named] | None:
    """Returns which of two files of one name is the image and which the mask; None where that is not clear."""
    if len(group) != 2:
        return None
    lossy = [each for each in group if each.file.suffix in _LOSSY]
    if len(lossy) == 1:
        image = lossy[0]
    else:
        coloured = [each for each in group if _is_coloured(each)]
        if len(coloured) != 1:
            return None
        image = coloured[0]
    return image, next(each for each in group if each is not image)


def _is_coloured(each: Named) -> bool:
    if each.file.suffix == ".npy":
        return False
    try:
        return raw_files.read_mode(each.file.path).startswith(("RGB", "CMYK", "YCbCr"))
    except UserError:
        return False
