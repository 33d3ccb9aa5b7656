"""What in a data set will hurt its training, in plain words, and what to do about it."""

from __future__ import annotations

import collections
from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np

from deeplab_tf.dataset_info import DatasetInfo

from ..messages import some
from .overlap import Overlap
from .pictures import MARGIN, NEAR, distances
from .statistics import SplitStatistics

# A class in fewer images than this, or with a smaller share of the labelled pixels, is rare.
_FEW_IMAGES = 10
_SMALL_SHARE = 1e-4
# A class with a larger share of the labelled pixels drowns the others.
_LARGE_SHARE = 0.9
# Shares of ignored pixels that are worth a word: in one image, in the whole split.
_IMAGE_IGNORED = 0.9
_SPLIT_IGNORED = 0.5
# Of a class that is only ever the seam between two others, few pixels have four neighbours of the class.
_THIN_INTERIOR = 0.1
# Labels that a person or a nearest-neighbour resize made have next to no pixels that differ from all neighbours.
_LONELY = 0.005
# Images whose brightest pixels stay below this level, if at least this share of them does.
_DARK = 24
_MANY_DARK = 0.5
# Labels that fit turned images: such a share of the images, or two.
_FEW_TURNED = 0.02
# Of two exports that were mixed, the smaller has at least such a share of the masks.
_MIXED_SHARE = 0.2
# A crop that shows a smaller share of the median image hides what an object stands in.
_CROP_SHARE = 0.1
_FEW_TO_TRAIN = 50


class Finding(NamedTuple):
    """One thing to know.

    Attributes:
        text: a sentence or two: what is there, what it does to the training, what to do.
        image_ids: the images to look at, where it is about some.
    """

    text: str
    image_ids: tuple[str, ...] = ()


def find(
    info: DatasetInfo, split: SplitStatistics, crop_size: int, image_hashes: Sequence[str] | None = None
) -> list[Finding]:
    """Looks at the split that is trained on.

    Args:
        info: the classes.
        split: its statistics.
        crop_size: side of the training crops in pixels.
        image_hashes: `overlap.image_hash` of each of its images; None where they are not known.

    Returns:
        What will hurt, the worst first; nothing where nothing was found.
    """
    found = _damage(split) + _dark(split)
    if split.has_labels:
        found += _turned(split) + _ignored_for_a_class(info, split)
        found += _missing_classes(info, split) + _odd_labels(info, split)
        found += _repeated_images(split, image_hashes) + _ignored(split)
        found += _balance(info, split)
    return found + _sizes(split, crop_size)


def trained_before(other: SplitStatistics, hashes: Sequence[str], trained: Set[str], workdir: str) -> list[Finding]:
    """Looks for images of the split that is evaluated on that a network was trained on.

    Args:
        other: the split.
        hashes: `overlap.image_hash` of each of its images.
        trained: those of the images that were trained on.
        workdir: the network's, for messages.
    """
    known = tuple(image_id for image_id, digest in zip(other.ids, hashes, strict=False) if digest in trained)
    if not known:
        return []
    return [
        Finding(
            f"{len(known)} of the {other.count} images of {other.name} are among those that {workdir} was trained on"
            f" ({some(known, 4)}), now or before the data were split anew: its scores on them say how well it"
            " remembers. Train anew in another --workdir, or move these images back to the training.",
            known,
        )
    ]


def compare(info: DatasetInfo, train: SplitStatistics, other: SplitStatistics, overlap: Overlap) -> list[Finding]:
    """Looks at the split that is evaluated on beside the one that is trained on.

    Args:
        info: the classes.
        train: statistics of the one.
        other: statistics of the other.
        overlap: what they share.

    Returns:
        What makes scores on `other` mean less than they seem to.
    """
    found = []
    images = overlap.images()
    if images:
        same = "" if overlap.contents is None else f", {len(overlap.contents)} of them with the same bytes"
        found.append(
            Finding(
                f"{len(images)} images of {other.name}, which has {other.count}, are in {train.name} too{same}:"
                f" {some(images, 4)}. Scores on them say how well the network remembers. Leave them out of one of the"
                " two (--ids of datasets.convert).",
                images,
            )
        )
    found += _near_duplicates(train, other, set(images))
    if overlap.contents is None:
        found.append(
            Finding(
                f"{train.name} and {other.name} were compared by id only: an older version of this project wrote one of"
                " them, without hashes of its images. Convert it again to compare by content too."
            )
        )
    if train.has_labels and other.has_labels:
        unseen = np.flatnonzero((train.class_pixels == 0) & (other.class_pixels > 0))
        if unseen.size:
            found.append(
                Finding(
                    f"{other.name} has pixels of {_names(info, unseen)}, {train.name} has none: their IoU will be 0 and"
                    " lower the mean. Add training images, or leave the classes out with --keep_classes of"
                    " datasets.convert."
                )
            )
    return found


def median_frequency_weights(split: SplitStatistics) -> tuple[float, ...]:
    """Suggests weights for the classes in the loss, by median frequency balancing (Eigen and Fergus, ICCV 2015).

    The frequency of a class is its share of the pixels in the images where it occurs; its weight is the median of the
    frequencies by its own.

    Args:
        split: a split with labels.

    Returns:
        K weights with three digits; 1 for a class that is never seen.
    """
    present = split.pixels[:, :-1] > 0  # [N, K]
    labelled = split.pixels[:, :-1].sum(axis=1, keepdims=True)  # [N, 1]
    frequency = split.class_pixels / np.maximum((present * labelled).sum(axis=0), 1)  # [K]
    seen = frequency > 0
    weights = np.ones(len(frequency))
    if seen.any():
        weights[seen] = np.median(frequency[seen]) / frequency[seen]
    return tuple(float(f"{weight:.3g}") for weight in weights)


def _damage(split: SplitStatistics) -> list[Finding]:
    if not split.damaged:
        return []
    return [
        Finding(
            f"{len(split.damaged)} records of {split.name} are damaged: {some(split.damaged, 2)}. Training stops at"
            f" them. Copy the files again, convert {split.name} again, or train without them with --skip_damaged."
        )
    ]


def _dark(split: SplitStatistics) -> list[Finding]:
    dark = [place for place, each in enumerate(split.looks) if each.brightest < _DARK]
    if not dark or len(dark) < max(2, _MANY_DARK * split.count):
        return []
    most = max(split.looks[place].brightest for place in dark)
    return [
        Finding(
            f"{len(dark)} of {split.count} images are nearly black: no level above {most} of 255"
            f" ({some([split.ids[place] for place in dark], 4)}). Pictures of 12 bits in files of 16 look like this,"
            " darker"
            " by a factor of 16: convert them to 8 bits (level divided by 16) before datasets.convert, and the images"
            " to predict on too.",
            tuple(split.ids[place] for place in dark[:8]),
        )
    ]


def _turned(split: SplitStatistics) -> list[Finding]:
    places = [place for place, each in enumerate(split.looks) if each.turn and each.gain > MARGIN]
    if len(places) < max(2, _FEW_TURNED * split.count):
        return []
    counts = collections.Counter(split.looks[place].turn for place in places)
    turns = ", ".join(f"{turn} in {count}" for turn, count in counts.most_common(2))
    places.sort(key=lambda place: -split.looks[place].gain)
    return [
        Finding(
            f"the labels of {len(places)} of {split.count} images fit the edges of the image better when they are"
            " turned or"
            f" mirrored ({turns}; {some([split.ids[place] for place in places], 4)}). Masks of photographs with an EXIF"
            " orientation that were drawn on the pixels as stored look like this (--mask_frame=stored of"
            " datasets.convert), and so does augmentation of images without their masks. Look at suspicious.jpg.",
            tuple(split.ids[place] for place in places[:8]),
        )
    ]


def _ignored_for_a_class(info: DatasetInfo, split: SplitStatistics) -> list[Finding]:
    """Two exports were mixed: in one a class has its index, in the other it is 255."""
    ignored = split.pixels[:, -1] > 0  # [N]
    found = []
    for label in range(1, info.num_classes):
        has = split.pixels[:, label] > 0
        instead, without = ignored & ~has, has & ~ignored
        least = max(2, _MIXED_SHARE * split.count)
        alone = not (split.pixels[instead, 1:-1] > 0).any()
        if min(instead.sum(), without.sum()) >= least and (instead | without).sum() > 0.9 * split.count and alone:
            ids = [split.ids[place] for place in np.flatnonzero(instead)]
            found.append(
                Finding(
                    f"{len(ids)} of {split.count} masks hold ignored pixels (255) and no {info.class_names[label]},"
                    " the others"
                    f" {info.class_names[label]} and nothing ignored ({some(ids, 4)}): two exports were mixed, and"
                    " 255 means"
                    f" {info.class_names[label]} in one of them. Write its index, {label}, into these masks, and"
                    " convert again.",
                    tuple(ids[:8]),
                )
            )
    return found[:1]


def _near_duplicates(train: SplitStatistics, other: SplitStatistics, known: Set[str]) -> list[Finding]:
    """Looks for pictures of the other split that are in the training too, compressed or resized anew."""
    owners = [place for place, each in enumerate(train.looks) if each.fingerprint]
    if not owners:
        return []
    table = np.frombuffer(b"".join(train.looks[place].fingerprint for place in owners), np.uint8).reshape(-1, 32)
    pairs = []
    for image_id, each in zip(other.ids, other.looks, strict=False):
        if each.fingerprint and image_id not in known:
            apart = distances(np.frombuffer(each.fingerprint, np.uint8), table)
            nearest = int(np.argmin(apart))
            if apart[nearest] <= NEAR:
                pairs.append((image_id, train.ids[owners[nearest]]))
    if not pairs:
        return []
    shown = some([f"{mine} like {theirs}" for mine, theirs in pairs], 3)
    return [
        Finding(
            f"{len(pairs)} of the {other.count} images of {other.name} look like images of {train.name} ({shown}):"
            " the same"
            " picture compressed or resized anew, or the next frame of a video. Scores on them say how well the network"
            " remembers. Keep such images on one side: give --splits lists, or a folder for each split.",
            tuple(dict.fromkeys(image_id for pair in pairs for image_id in pair)),
        )
    ]


def _missing_classes(info: DatasetInfo, split: SplitStatistics) -> list[Finding]:
    missing = np.flatnonzero(split.class_pixels == 0)
    if not missing.size:
        return []
    hint = "Add images of them, or leave them out with --keep_classes of datasets.convert."
    if missing.tolist() == [0] and info.num_classes > 2:
        hint = f"Do the indices in your masks start at 1? Index 0 is {info.class_names[0]}. {hint}"
    return [
        Finding(f"no pixel of {split.name} is labelled {_names(info, missing)}: the network cannot learn that. {hint}")
    ]


def _odd_labels(info: DatasetInfo, split: SplitStatistics) -> list[Finding]:
    found = []
    pixels = np.maximum(split.class_pixels, 1)
    thin = np.flatnonzero((split.class_images >= 3) & (split.interior < _THIN_INTERIOR * pixels))
    if thin.size:
        shares = ", ".join(f"{info.class_names[k]} {1 - split.interior[k] / pixels[k]:.0%}" for k in thin[:4])
        owners = np.flatnonzero(split.pixels[:, thin].sum(axis=1))[:8]
        found.append(
            Finding(
                f"some classes are lines of a pixel or two nearly everywhere (pixels at their edge: {shares}). Masks"
                " that were resized with interpolation get such seams between other classes: resize masks by nearest"
                " neighbour. Lines that are meant so are too thin for scores at an eighth of the resolution.",
                tuple(split.ids[place] for place in owners),
            )
        )
    noisy = np.flatnonzero(split.lonely > _LONELY * np.maximum(split.heights * split.widths, 1))
    if noisy.size:
        worst = noisy[np.argsort(-split.lonely[noisy] / (split.heights * split.widths)[noisy], kind="stable")]
        found.append(
            Finding(
                f"the labels of {len(noisy)} of {split.count} images are noisy: more than {_LONELY:.1%} of the pixels"
                f" differ from all their neighbours ({some([split.ids[place] for place in worst], 4)}). Masks that went"
                " through JPEG or were dithered look like this: export them again as PNG.",
                tuple(split.ids[place] for place in worst[:8]),
            )
        )
    return found


def _repeated_images(split: SplitStatistics, image_hashes: Sequence[str] | None) -> list[Finding]:
    if image_hashes is None:
        return []
    owners: dict[str, int] = {}
    again, other_labels = [], []
    for place, digest in enumerate(image_hashes):
        first = owners.setdefault(digest, place)
        if first != place:
            again.append(place)
            if split.labels_crc[first] != split.labels_crc[place]:
                other_labels += [first, place]
    found = []
    if other_labels:
        names = [split.ids[place] for place in other_labels]
        found.append(
            Finding(
                f"{len(other_labels) // 2} images of {split.name} come again with other labels:"
                f" {' and '.join(names[:2])} are the same picture. One of the masks belongs to another image.",
                tuple(dict.fromkeys(names)),
            )
        )
    if len(again) > len(other_labels) // 2:
        found.append(
            Finding(
                f"{len(again)} of the {split.count} images of {split.name} repeat another one"
                f" ({some([split.ids[place] for place in again], 4)}): they count twice, and a split made at random"
                " has put such images on both sides."
            )
        )
    return found


def _ignored(split: SplitStatistics) -> list[Finding]:
    found = []
    share = split.pixels[:, -1].sum() / max(split.pixels.sum(), 1)
    if share > _SPLIT_IGNORED:
        found.append(
            Finding(
                f"{share:.0%} of all pixels are ignored (255): most of every crop teaches nothing. If these pixels are"
                " really a class, such as background, give them its index."
            )
        )
    mostly = np.flatnonzero(split.ignored_shares > _IMAGE_IGNORED)
    if mostly.size:
        found.append(
            Finding(
                f"more than {_IMAGE_IGNORED:.0%} of the pixels are ignored in {len(mostly)} of {split.count} images"
                f" ({some([split.ids[place] for place in mostly], 4)}): a crop of them often has no label at all. Leave"
                " them out, or label more of them.",
                tuple(split.ids[place] for place in mostly),
            )
        )
    return found


def _balance(info: DatasetInfo, split: SplitStatistics) -> list[Finding]:
    found = []
    if info.num_classes == 1:
        found.append(
            Finding(
                f"there is one class only, {info.class_names[0]}: every answer is right, and nothing is learned. Name"
                " what is not it, such as background, as a class too."
            )
        )
    shares, images = split.class_shares, split.class_images
    seen = split.class_pixels > 0
    few_images = images < min(_FEW_IMAGES, split.count / 4)
    rare = np.flatnonzero(seen & (few_images | (shares < _SMALL_SHARE)))
    if rare.size:
        listed = [f"{info.class_names[k]} ({images[k]} images, {_percent(shares[k])} of the pixels)" for k in rare]
        found.append(
            Finding(
                f"rare in {split.name}: {some(listed)}. The network will hardly learn them. Add images, or try"
                " --set=train.foreground_crops=0.5 or train.class_weights of train.py."
            )
        )
    largest = int(np.argmax(shares))
    if info.num_classes > 1 and shares[largest] > _LARGE_SHARE:
        found.append(
            Finding(
                f"{shares[largest]:.0%} of the labelled pixels are {info.class_names[largest]}: a network that always"
                " says so is right that often, and training may stop there. Look at the mean IoU and not at the"
                " accuracy, and try --set=train.foreground_crops=0.5 or train.class_weights of train.py."
            )
        )
    alone = np.flatnonzero(np.count_nonzero(split.pixels[:, :-1], axis=1) == 1)
    if info.num_classes > 1 and alone.size > split.count / 2:
        found.append(
            Finding(
                f"{len(alone)} of {split.count} images have labels of one class only"
                f" ({some([split.ids[place] for place in alone], 4)}): they teach little about how the classes differ.",
                tuple(split.ids[place] for place in alone[:8]),
            )
        )
    if split.count < _FEW_TO_TRAIN:
        found.append(
            Finding(
                f"{split.name} has {split.count} images, so the network may overfit. More images help most;"
                " --set=train.scale_range=0.5,2 helps too, and --eval_split=val keeps the best weights for --best."
            )
        )
    return found


def _sizes(split: SplitStatistics, crop_size: int) -> list[Finding]:
    found = []
    small = np.flatnonzero((split.heights < crop_size) | (split.widths < crop_size))
    shown = np.minimum(split.heights, crop_size) * np.minimum(split.widths, crop_size)
    if small.size > split.count / 4:
        padding = 1 - shown.mean() / crop_size**2
        fitting = _clean_size_below(int(np.median(np.minimum(split.heights, split.widths))))
        found.append(
            Finding(
                f"{small.size} of {split.count} images are lower or narrower than the crop of {crop_size}:"
                f" {padding:.0%} of what the network sees is padding without labels. Crops that fit cost less and teach"
                f" the same: --set=train.crop_size={fitting}."
            )
        )
    share = float(np.median(shown / (split.heights * split.widths)))
    if share < _CROP_SHARE:
        height, width = int(np.median(split.heights)), int(np.median(split.widths))
        found.append(
            Finding(
                f"a crop of {crop_size} shows {share:.1%} of an image of {width}x{height} (width x height), the median:"
                " the network never sees what large objects stand in. Larger crops, smaller images (--downsample=2 of"
                " datasets.convert) or --set=train.scale_range=0.25,1 show more."
            )
        )
    return found


def _clean_size_below(side: int) -> int:
    """Returns the largest crop of the form 32k + 1, which fits every network, of at most `side` pixels."""
    return max((side - 1) // 32, 1) * 32 + 1


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 5e-5 else "less than 0.01%"


def _names(info: DatasetInfo, classes: np.ndarray) -> str:
    return some([info.class_names[k] for k in classes], 12)
