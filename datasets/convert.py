"""Writes a data set as TFRecords: reads the raw files, checks each, stores images, labels and a manifest.

    python -m datasets.convert --dataset=voc12 --root=DIR --out=data/voc12
    python -m datasets.convert --dataset=cityscapes --root=DIR --out=data/cityscapes --downsample=2
    python -m datasets.convert --dataset=folder --root=DIR --out=data/mine
    python -m datasets.convert --dataset=folder --image_dir=A --mask_dir=B --classes=c,d --splits=train --out=data/mine

The last form writes one split; a second call with --splits=val and other folders adds val to the same --out.
docs/datasets.md has the layout of DIR for each data set. For folder it holds images/*, masks/*.png (class indices,
same file stem), classes.txt (one name a line, index 0 first) and, optionally, splits/NAME.txt (stems); or what a
labelling tool exports (CVAT, labelme, Roboflow, Supervisely, Label Studio, COCO JSON). It says in a paragraph what it
understood before it converts; --dry_run stops there.

All cores work; with --runner the machines of an Apache Beam runner do. Interrupted, or after an error was mended, the
same command goes on where it stopped.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

from absl import flags

from deeplab_tf.dataset_info import IGNORE_LABEL, DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images.palettes import PALETTES
from deeplab_tf.runtime import beam, command_line
from deeplab_tf.runtime.gpus import has_nvidia_gpu

from . import DATASETS
from .messages import some
from .proposal import next_steps
from .raw import files as raw_files
from .source import Source
from .stored import conversion
from .stored.loader import Loader
from .stored.manifest import SplitManifest, read_manifest
from .stored.shards import Job, Shard

_MOST_SHARDS = 64
_EXAMPLES_PER_SHARD = 64


def convert(
    dataset: str,
    source: Source,
    out_dir: str,
    num_shards: int | None = None,
    keep_classes: Sequence[str] = (),
    id_file: str = "",
    downsample: int = 1,
    num_workers: int | None = None,
    make: Callable[[Sequence[Job]], dict[str, Shard]] | None = None,
    say: Callable[[str], object] = lambda _: None,
    dry_run: bool = False,
    palette: str = "own",
) -> list[SplitManifest]:
    """Converts the splits of a data set, all of them or none.

    The processes are spawned: a script that calls this needs `if __name__ == "__main__":`.

    Args:
        dataset: a name in `DATASETS`.
        source: where the raw files are; its `split_names` are written, or all splits where it names none.
        out_dir: folder for the shards and the manifest; splits of an earlier call stay.
        num_shards: files per split, at most one per example; None for up to 64 of 64 examples or more.
        keep_classes: all other classes become 255; the kept ones are renumbered in the data set's order.
        id_file: text file; only the ids that it lists are written.
        downsample: images and labels are made smaller by this factor; 1 keeps them as they are.
        num_workers: processes; None for one a core.
        make: makes the shards instead of these processes; see `conversion.write_splits`.
        say: gets the paragraph that says what was understood of a folder.
        dry_run: stops then, and writes nothing.
        palette: a name of `PALETTES`; "own" keeps the data set's colours.

    Returns:
        The splits that were written.

    Raises:
        UserError: anything about flags or files that the user can mend.
    """
    for flag, value in (("shards", num_shards), ("downsample", downsample), ("workers", num_workers)):
        if value is not None and value < 1:
            raise UserError(f"--{flag}: expected at least 1, got {value}.")
    if hasattr(DATASETS[dataset], "resolve"):
        dataset, source = DATASETS[dataset].resolve(source)
    module = DATASETS[dataset]
    if hasattr(module, "prepare"):
        source, paragraph = module.prepare(dataclasses.replace(source, id_file=id_file))
        if paragraph:
            say(paragraph)
    info, new_labels = _kept_classes(module.info(source), keep_classes)
    if palette != "own":
        info = dataclasses.replace(info, palette=PALETTES[palette](info.class_names))
    if dataset == "folder":
        info = dataclasses.replace(info, name=_own_name(source.root or out_dir))
    split_names = source.split_names or tuple(module.splits(source))
    if dry_run:
        for split in split_names:
            _check_ids(split, module.ids(source, split))
        return []
    with conversion.open_folder(out_dir) as staging:
        source = dataclasses.replace(source, split_names=tuple(split_names), scratch=str(staging))
        # All lists are checked before the first image is read: hours may lie between the two.
        ids = {split: module.ids(source, split) for split in split_names}
        if id_file and source.reading is None:
            ids = _listed_ids(ids, id_file)
        plans = []
        for split, listed in ids.items():
            _check_ids(split, listed)
            wanted = num_shards or min(_MOST_SHARDS, max(1, len(listed) // _EXAMPLES_PER_SHARD))
            loader = Loader(dataset, source, split, new_labels, downsample)
            plan = conversion.SplitPlan(split, tuple(listed), min(wanted, len(listed)), loader, loader.recipe())
            plans.append(plan)
        return conversion.write_splits(plans, info, staging, num_workers or len(os.sched_getaffinity(0)), make)


def _own_name(folder: str) -> str:
    """Names a data set of one's own after its folder; a name of `DATASETS` belongs to that data set."""
    name = os.path.basename(os.path.abspath(folder)).encode(errors="replace").decode() or "folder"
    return f"{name} (folder)" if name in DATASETS and name != "folder" else name


def _kept_classes(info: DatasetInfo, keep_classes: Sequence[str]) -> tuple[DatasetInfo, tuple[int, ...]]:
    """Returns the info of the kept classes and the new label of each of 256 old ones, () where all are kept."""
    if not keep_classes:
        return info, ()
    keep_classes = _joined_names(keep_classes, info.class_names)
    unknown = [name for name in keep_classes if name not in info.class_names]
    if unknown:
        raise UserError(
            f"--keep_classes: expected names of classes, got {', '.join(unknown)}. {info.name} has:"
            f" {', '.join(info.class_names)}."
        )
    kept = [index for index, name in enumerate(info.class_names) if name in keep_classes]
    new_labels = [IGNORE_LABEL] * 256
    for new, old in enumerate(kept):
        new_labels[old] = new
    names = tuple(info.class_names[index] for index in kept)
    palette = tuple(info.palette[index] for index in kept)
    return dataclasses.replace(info, class_names=names, palette=palette), tuple(new_labels)


def _joined_names(parts: Sequence[str], names: Sequence[str]) -> list[str]:
    """Puts names that have a comma together again: a flag that is a list takes them apart."""
    whole = {tuple(part.strip() for part in name.split(",")): name for name in names}
    joined = []
    start = 0
    while start < len(parts):
        for stop in range(len(parts), start, -1):
            name = whole.get(tuple(part.strip() for part in parts[start:stop]))
            if name is not None:
                break
        else:
            name, stop = parts[start], start + 1
        joined.append(name)
        start = stop
    return joined


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


def _check_ids(split: str, ids: Sequence[str]) -> None:
    """Raises UserError where the ids of a split cannot be stored."""
    if not ids:
        raise UserError(f"expected at least one image in split {split!r}, got none. Leave it out of --splits.")
    twice = [image_id for image_id, times in collections.Counter(ids).items() if times > 1]
    if twice:
        raise UserError(f"split {split!r}: expected every image once, got {some(twice)} twice.")
    for image_id in ids:
        try:
            image_id.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"split {split!r}: expected file names in UTF-8, got {os.fsencode(image_id)!r}. Rename the file."
            ) from None


def _define_flags() -> None:
    # Inside a function, because absl's flags are global and other commands have some of the same names.
    flags.DEFINE_enum("dataset", None, list(DATASETS), "Which raw layout to read.", required=True)
    flags.DEFINE_string("root", "", "Folder of the raw files. synthetic needs none.")
    flags.DEFINE_string("out", None, "Folder for the TFRecords and manifest.json; made where missing.", required=True)
    flags.DEFINE_list("splits", [], "Splits to write, such as train,val. Default: all that the raw files have.")
    flags.DEFINE_integer("shards", None, "Files per split. Default: up to 64, of 64 images or more.")
    flags.DEFINE_integer("workers", None, "Processes. Default: one a core. The files do not depend on it.")
    flags.DEFINE_string(
        "runner",
        "",
        "Convert with Apache Beam (requirements-beam.txt) on this runner, such as DirectRunner or FlinkRunner, with all"
        " of Beam's flags. The files do not depend on it. All machines have to see --root and --out (docs/scale.md).",
    )
    flags.DEFINE_list(
        "keep_classes",
        [],
        "Classes to keep; all others become the ignore label 255. The kept ones are renumbered from 0 in the data"
        " set's own order, whatever the order here. Name background too if it is to stay a class.",
    )
    flags.DEFINE_enum(
        "palette",
        "own",
        ["own", *PALETTES],
        "Colours of the classes in masks, overlays and reports. own: those of the data set; distinct where it has none."
        " distinct: easy to distinguish, with red-green colour blindness too. pascal: the colours of PASCAL VOC.",
    )
    flags.DEFINE_string("ids", "", "Text file of one image id a line: only these images of each split are written.")
    flags.DEFINE_integer(
        "downsample",
        1,
        "Makes images and labels smaller by this factor: images by the mean of squares, labels by their nearest"
        " pixel. 2 is the half resolution of the paper's Table 9.",
    )
    flags.DEFINE_string("sbd_root", "", "voc12: where SBD's benchmark.tgz was unpacked, instead of below ROOT.")
    flags.DEFINE_integer("year", 0, "coco: 2014 or 2017, where ROOT has the annotations of both.")
    flags.DEFINE_string("image_dir", "", "folder: where the images are, instead of ROOT/images.")
    flags.DEFINE_string("mask_dir", "", "folder: where the masks are (same stem, .png), instead of ROOT/masks.")
    flags.DEFINE_list(
        "classes", [], "folder: class names, index 0 first, or a file of them, instead of ROOT/classes.txt."
    )
    flags.DEFINE_integer(
        "ignore_label",
        None,
        "folder: the mask value of pixels that do not count (void, unlabelled). It is stored as 255; 255 itself never"
        " counts.",
        lower_bound=0,
        upper_bound=65535,
    )
    flags.DEFINE_list("values", [], "folder: the mask value of each class in their order, such as 0,255 or 1,2,3.")
    flags.DEFINE_integer(
        "threshold",
        0,
        "folder: for soft masks of two classes; levels from here on, such as 128, are the second class.",
        lower_bound=0,
        upper_bound=65535,
    )
    flags.DEFINE_string(
        "mask_suffix", "", "folder: what follows an image's name in its mask's name, such as _mask. Default: found out."
    )
    flags.DEFINE_enum(
        "mask_frame",
        "auto",
        ["auto", "upright", "stored"],
        "folder: what masks of photographs with an EXIF orientation were drawn on: the upright picture or the pixels as"
        " stored. auto: the size says it, and where it does not, upright.",
    )
    flags.DEFINE_float(
        "val_fraction",
        0.1,
        "folder without split files: share of the images that becomes val, by a hash of their content: an image stays"
        " where it is when others are added.",
    )
    flags.DEFINE_bool("dry_run", False, "folder: say what was understood, or all that is wrong, and write nothing.")


def _numbers(flag: str, parts: Sequence[str]) -> tuple[int, ...]:
    if not all(part.strip().isdigit() and len(part) < 10 for part in parts):
        raise UserError(
            f"{flag}: expected whole numbers with commas between them, such as 0,255, got {','.join(parts)}."
        )
    return tuple(int(part) for part in parts)


def _maker(runner: str, arguments: list[str]) -> Callable[[Sequence[Job]], dict[str, Shard]] | None:
    """Returns what makes shards with Beam; None without a runner."""
    if not runner:
        command_line.refuse_unknown(arguments)
        return None
    if flags.FLAGS.workers is not None:
        raise UserError("--workers is for conversions without --runner; DirectRunner has --direct_num_workers.")
    beam.require_beam()
    from .stored.beam_shards import make_shards

    return functools.partial(make_shards, options=beam.pipeline_options(runner, arguments))


def main(arguments: list[str]) -> None:
    """Converts as the flags say, then prints what was written and the next command."""
    values = flags.FLAGS
    make = _maker(values.runner, arguments)
    source = Source(
        root=values.root,
        image_dir=values.image_dir,
        mask_dir=values.mask_dir,
        classes=tuple(values.classes),
        ignore_label=values.ignore_label,
        values=_numbers("--values", values["values"].value or ()),
        threshold=values.threshold,
        mask_suffix=values.mask_suffix,
        mask_frame=values.mask_frame,
        val_fraction=values.val_fraction,
        split_names=tuple(values.splits),
        sbd_root=values.sbd_root,
        year=values.year,
    )
    written = convert(
        values.dataset,
        source,
        values.out,
        num_shards=values.shards,
        keep_classes=values.keep_classes,
        id_file=values.ids,
        downsample=values.downsample,
        num_workers=values.workers,
        make=make,
        say=lambda paragraph: print(f"{paragraph}\n"),
        dry_run=values.dry_run,
        palette=values.palette,
    )
    if values.dry_run:
        print("--dry_run: nothing was written.")
        return
    complete = dict(read_manifest(values.out).info.split_sizes)
    print(f"{'split':<14}{'images':>8}{'shards':>8}{'bytes':>18}")
    for split in written:
        size = sum(file.size for file in split.files)
        print(f"{split.name:<14}{split.count:>8}{len(split.files):>8}{size:>18,}")
    for split in written:
        if not values.ids and complete.get(split.name, split.count) != split.count:
            print(f"note: the complete {split.name} of {values.dataset} has {complete[split.name]} images.")
    lines = next_steps(read_manifest(values.out), values.out, has_nvidia_gpu())
    print(command_line.as_typed("\n".join(lines)))


def command() -> None:
    """Runs the command: what `python -m datasets.convert` and `deeplab-convert` call."""
    _define_flags()
    command_line.run(main, needs_tensorflow=False, takes_other_flags=True)


if __name__ == "__main__":
    command()
