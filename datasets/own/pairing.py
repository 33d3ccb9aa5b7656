"""Which mask belongs to which image, by their names, where that cannot be mistaken."""

from __future__ import annotations

import collections
import difflib
import re
import unicodedata
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from .tree import File

# Of so many masks the text before and after the image's name is tried on all others.
_TRIED = 5


class Named(NamedTuple):
    """A file and what it is compared by.

    Attributes:
        file: the file.
        place: the names of the folders it lies in, without those that only say "images" or "masks".
        stem: its name without the ending, and, for a mask, without --mask_suffix.
    """

    file: File
    place: tuple[str, ...]
    stem: str


class Pairing(NamedTuple):
    """What belongs together.

    Attributes:
        pairs: (image, mask), in the order of the images.
        images: images without a mask.
        masks: masks without an image.
        rule: how the names were compared, where they are not simply the same; ends a sentence. "" otherwise.
        doubt: why some of them cannot be paired, or "".
    """

    pairs: tuple[tuple[Named, Named], ...]
    images: tuple[Named, ...]
    masks: tuple[Named, ...]
    rule: str = ""
    doubt: str = ""


_Key = Callable[[Named], Hashable]


def pair(images: Sequence[Named], masks: Sequence[Named]) -> Pairing:
    """Pairs images with masks.

    The rules are tried one after the other, each on what the ones before have left: the same name; the same but for
    capital letters or the composition of letters such as u and its dots; the image's whole file name ("x.jpg.png"); the
    same text before or after the image's name in all masks; other text at the start and end of all images than of all
    masks; the same name in another folder.

    Args:
        images: each with a different place and stem.
        masks: see there.

    Returns:
        The pairs, and what is left over.
    """
    pairs: dict[int, int] = {}
    left_images = list(range(len(images)))
    left_masks = list(range(len(masks)))
    said: list[str] = []
    doubt = ""

    def take(image_key: _Key, mask_key: _Key, rule: str) -> None:
        by_image = _unique(images, left_images, image_key)
        by_mask = _unique(masks, left_masks, mask_key)
        found = {by_image[key]: by_mask[key] for key in by_image if key in by_mask}
        pairs.update(found)
        used = set(found.values())
        left_images[:] = [place for place in left_images if place not in found]
        left_masks[:] = [place for place in left_masks if place not in used]
        if found and rule and rule not in said:
            said.append(rule)

    take(lambda named: (named.place, named.stem), lambda named: (named.place, named.stem), "")
    take(_plain, _plain, "capital and composed letters aside")
    take(
        lambda named: (_folded(named.place), fold(named.file.name)),
        _plain,
        "a mask is named after its image's whole file name",
    )
    if left_images and left_masks:
        found = _affix([images[place] for place in left_images], [masks[place] for place in left_masks])
        if isinstance(found, str):
            doubt = found
        elif found is not None:
            before, after = found
            take(
                lambda named: (_folded(named.place), before + fold(named.stem) + after),
                _plain,
                f"a mask is named {before}NAME{after}",
            )
    if not pairs and left_images and left_masks and not doubt:
        image_core, mask_core = _core(images), _core(masks)
        take(
            lambda named: (_folded(named.place), image_core(named)),
            lambda named: (_folded(named.place), mask_core(named)),
            "names are compared without the text that all images, or all masks, share",
        )
    flat = any(
        all(not named[place].place for place in left) for named, left in ((images, left_images), (masks, left_masks))
    )
    if left_images and left_masks and not doubt and flat:
        take(lambda named: fold(named.stem), lambda named: fold(named.stem), "folders aside")
    return Pairing(
        tuple((images[place], masks[pairs[place]]) for place in sorted(pairs)),
        tuple(images[place] for place in left_images),
        tuple(masks[place] for place in left_masks),
        "; ".join(said),
        doubt,
    )


def fold(text: str) -> str:
    """Returns a name without the differences that file systems make: case, and composed or decomposed letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def nearest(name: str, others: Sequence[str]) -> str:
    """Returns the name that looks most like this one, "" where none does."""
    folded = {fold(other): other for other in others}
    found = difflib.get_close_matches(fold(name), list(folded), 1, 0.5)
    return folded[found[0]] if found else ""


def _plain(named: Named) -> Hashable:
    return _folded(named.place), fold(named.stem)


def _folded(place: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(fold(part) for part in place)


def _unique(named: Sequence[Named], places: Sequence[int], key: _Key) -> dict[Hashable, int]:
    """Returns the place of each key that only one file has."""
    found: dict[Hashable, list[int]] = collections.defaultdict(list)
    for place in places:
        found[key(named[place])].append(place)
    return {value: members[0] for value, members in found.items() if len(members) == 1}


def _affix(images: Sequence[Named], masks: Sequence[Named]) -> tuple[str, str] | str | None:
    """Finds the text that stands before and after the image's name in the masks' names.

    Returns:
        The two texts; None where there are none; a sentence where several would do.
    """
    stems = {(_folded(image.place), fold(image.stem)) for image in images}
    names = {stem for _, stem in stems}
    tried: set[tuple[str, str]] = set()
    for mask in masks[:_TRIED]:
        stem = fold(mask.stem)
        for start in range(len(stem)):
            for stop in range(len(stem), start, -1):
                inner, before, after = stem[start:stop], stem[:start], stem[stop:]
                # "img_12" is no "img_1" with a 2 behind it.
                touching = (inner[0].isdigit() and before[-1:].isdigit()) or (
                    inner[-1].isdigit() and after[:1].isdigit()
                )
                if inner in names and not touching:
                    tried.add((before, after))
    counts: dict[tuple[str, str], int] = {}
    for before, after in tried:
        matched = set()
        for mask in masks:
            stem = fold(mask.stem)
            if stem.startswith(before) and stem.endswith(after) and len(stem) > len(before) + len(after):
                key = (_folded(mask.place), stem[len(before) : len(stem) - len(after)])
                if key in stems:
                    matched.add(key)
        counts[before, after] = len(matched)
    if not counts:
        return None
    most = max(counts.values())
    best = sorted(affix for affix, count in counts.items() if count == most and count)
    if not best:
        return None
    if len(best) > 1 and (most > 1 or len(masks) > len(images)):
        shown = " or ".join(f"NAME{after}" if not before else f"{before}NAME{after}" for before, after in best[:3])
        endings = " or ".join(f"--mask_suffix={after}" for _, after in best[:3] if after)
        return f"several masks would fit an image: {shown}" + (f". Choose one with {endings}" if endings else "")
    return best[0]


def _common_start(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)
    same = next((place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), None)
    return first[:same] if same is not None else min(first, last, key=len)


def _core(named: Sequence[Named]) -> _Key:
    """Returns what is left of a name without the text that all of these names start and end with."""
    stems = [fold(each.stem) for each in named]
    if len(stems) < 2:
        return lambda each: object()
    start = _common_start(stems).rstrip("0123456789")
    end = _common_start([stem[len(start) :][::-1] for stem in stems])[::-1].lstrip("0123456789")

    def core(each: Named) -> Hashable:
        stem = fold(each.stem)
        inner = stem[len(start) : len(stem) - len(end)]
        # Numbers may be padded with zeros in one of the two.
        return re.sub(r"\d+", lambda match: str(int(match[0])), inner)

    return core
