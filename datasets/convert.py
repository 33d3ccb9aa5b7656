"""Writes a data set as TFRecords: reads the raw files, checks each, stores images, labels and a manifest.

    python -m datasets.convert --dataset=voc12 --root=DIR --out=data/voc12
    python -m datasets.convert --dataset=folder --root=DIR --out=data/mine
    python -m datasets.convert --dataset=folder --image_dir=A --mask_dir=B --classes=c,d --splits=train --out=data/mine

The last form writes one split; a second call with --splits=val and other folders adds val to the same --out.
DIR for voc12 is the folder that holds VOCdevkit. For folder it holds images/*, masks/*.png (class indices, same file
stem), classes.txt (one name a line, index 0 first) and, optionally, splits/NAME.txt (stems).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from datasets import DATASETS, raw_files
from datasets.source import Example, Source
from deeplab_tf import command_line
from deeplab_tf.dataset_info import IGNORE_LABEL, DatasetInfo
from deeplab_tf.errors import UserError

if TYPE_CHECKING:
    from datasets.tfrecord import SplitManifest

_DEFAULT_SHARDS = 16
_EXAMPLES_PER_SHARD = 64


def convert(
    dataset: str,
    source: Source,
    out_dir: str,
    num_shards: int | None = None,
    keep_classes: Sequence[str] = (),
    id_file: str = "",
) -> list[SplitManifest]:
    """Converts the splits of a data set.

    Args:
        dataset: a name in `DATASETS`.
        source: where the raw files are; its `split_names` are written, or all splits where it names none.
        out_dir: folder for the shards and the manifest; splits of an earlier call stay.
        num_shards: files per split, at most one per example; None for up to 16 of 64 examples or more.
        keep_classes: all other classes become 255; the kept ones are renumbered in the data set's order.
        id_file: text file; only the ids that it lists are written.

    Returns:
        The splits that were written.

    Raises:
        UserError: anything about flags or files that the user can mend.
    """
    module = DATASETS[dataset]
    if num_shards is not None and num_shards < 1:
        raise UserError(f"--shards: expected at least 1, got {num_shards}.")
    info, new_index = _kept_classes(module.info(source), keep_classes)
    split_names = source.split_names or module.splits(source)
    # All lists are checked before the first image is read: hours may lie between the two.
    ids = {split: module.ids(source, split) for split in split_names}
    if id_file:
        ids = _listed_ids(ids, id_file)
    for split, listed in ids.items():
        if not listed:
            raise UserError(f"expected at least one image in split {split!r}, got none. Leave it out of --splits.")

    from datasets import tfrecord  # TensorFlow takes seconds to import: wrong flags are told at once

    written = []
    for split, listed in ids.items():
        shards = num_shards or min(_DEFAULT_SHARDS, max(1, len(listed) // _EXAMPLES_PER_SHARD))
        examples = _examples(module, source, split, listed, new_index)
        written.append(
            tfrecord.write_shards(examples, len(listed), info, split, out_dir, num_shards=min(shards, len(listed)))
        )
    return written


def _kept_classes(info: DatasetInfo, keep_classes: Sequence[str]) -> tuple[DatasetInfo, np.ndarray | None]:
    """Returns the info of the kept classes and uint8 [256], the new label of each old one (None: all are kept)."""
    if not keep_classes:
        return info, None
    unknown = [name for name in keep_classes if name not in info.class_names]
    if unknown:
        raise UserError(
            f"--keep_classes: expected names of classes, got {', '.join(unknown)}. {info.name} has:"
            f" {', '.join(info.class_names)}."
        )
    kept = [index for index, name in enumerate(info.class_names) if name in keep_classes]
    new_index = np.full(256, IGNORE_LABEL, np.uint8)
    new_index[kept] = np.arange(len(kept))
    names = tuple(info.class_names[index] for index in kept)
    palette = tuple(info.palette[index] for index in kept)
    return dataclasses.replace(info, class_names=names, palette=palette), new_index


def _listed_ids(ids: dict[str, list[str]], id_file: str) -> dict[str, list[str]]:
    """Keeps the ids that the file lists, in the order of their split."""
    listed = raw_files.read_list(id_file, "--ids takes a text file of one image id a line.")
    known = {image_id for split_ids in ids.values() for image_id in split_ids}
    unknown = [image_id for image_id in listed if image_id not in known]
    if unknown:
        raise UserError(
            f"{id_file}: expected ids of the splits {', '.join(ids)}, got {len(unknown)} that are in none of them, such"
            f" as {', '.join(unknown[:5])}. Correct the file or --splits."
        )
    chosen = set(listed)
    kept = {split: [image_id for image_id in split_ids if image_id in chosen] for split, split_ids in ids.items()}
    for split, split_ids in kept.items():
        if not split_ids:
            raise UserError(f"{id_file}: expected ids of split {split!r} too, got none. Leave {split} out of --splits.")
    return kept


def _examples(
    module: ModuleType, source: Source, split: str, ids: Sequence[str], new_index: np.ndarray | None
) -> Iterator[Example]:
    for image_id in ids:
        example = module.example(source, split, image_id)
        if new_index is not None and example.labels is not None:
            example = example._replace(labels=new_index[example.labels])
        yield example


def _define_flags() -> None:
    # Inside a function, because absl's flags are global and other commands have some of the same names.
    flags.DEFINE_enum("dataset", None, list(DATASETS), "Which raw layout to read.", required=True)
    flags.DEFINE_string("root", "", "Folder of the raw files. synthetic needs none.")
    flags.DEFINE_string("out", None, "Folder for the TFRecords and manifest.json; made where missing.", required=True)
    flags.DEFINE_list("splits", [], "Splits to write, such as train,val. Default: all that the raw files have.")
    flags.DEFINE_integer("shards", None, "Files per split. Default: up to 16, of 64 images or more.")
    flags.DEFINE_list(
        "keep_classes",
        [],
        "Classes to keep; all others become the ignore label 255. The kept ones are renumbered from 0 in the data"
        " set's own order, whatever the order here. Name background too if it is to stay a class.",
    )
    flags.DEFINE_string("ids", "", "Text file of one image id a line: only these images of each split are written.")
    flags.DEFINE_string("image_dir", "", "folder: where the images are, instead of ROOT/images.")
    flags.DEFINE_string("mask_dir", "", "folder: where the masks are (same stem, .png), instead of ROOT/masks.")
    flags.DEFINE_list("classes", [], "folder: class names, index 0 first, instead of ROOT/classes.txt.")
    flags.DEFINE_integer(
        "ignore_label",
        IGNORE_LABEL,
        "folder: the mask value of pixels that do not count (void, unlabelled). It is stored as 255; 255 itself never"
        " counts.",
        lower_bound=0,
        upper_bound=65535,
    )
    flags.DEFINE_float("val_fraction", 0.1, "folder without split files: share of the images that becomes val.")


def main() -> None:
    """Converts as the flags say, then prints what was written and the next command."""
    values = flags.FLAGS
    source = Source(
        root=values.root,
        image_dir=values.image_dir,
        mask_dir=values.mask_dir,
        classes=tuple(values.classes),
        ignore_label=values.ignore_label,
        val_fraction=values.val_fraction,
        split_names=tuple(values.splits),
    )
    written = convert(values.dataset, source, values.out, values.shards, values.keep_classes, values.ids)
    print(f"{'split':<12}{'images':>8}{'shards':>8}{'bytes':>16}")
    for split in written:
        size = sum(file.size for file in split.files)
        print(f"{split.name:<12}{split.count:>8}{len(split.files):>8}{size:>16,}")
    print(f"next: python train.py --experiment=vgg16_large_fov --data_dir={values.out} --workdir=runs/{values.dataset}")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
