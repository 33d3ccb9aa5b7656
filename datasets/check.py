"""Looks at a converted data set before a training, and says what will hurt it.

    python -m datasets.check --data_dir=data/voc12
    python -m datasets.check --data_dir=data/mine --augmented --experiment=resnet101_aspp --set=train.crop_size=225

The first form reads all records of the split that is trained on and of the one that is evaluated on, and verifies
their checksums. It prints sizes, the classes and what it found, and writes to OUT

    check.json       the same, for programs
    classes.png      the share of each class
    images.jpg       images beside their labels; every class is shown
    suspicious.jpg   the images that a finding is about, if there are any

The second form writes OUT/augmented.jpg: the first examples that train.py sees with these flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.runtime import command_line, files

from .quality import findings, sheets, statistics
from .quality.findings import Finding
from .quality.overlap import shared_images
from .quality.statistics import SplitStatistics
from .quality.trained_before import trained_hashes
from .stored.manifest import Manifest, read_manifest

_MOST_SUSPICIOUS = 24


def check(
    data_dir: str,
    out_dir: str,
    split: str = "",
    against: str = "val",
    crop_size: int = 321,
    num_images: int = 24,
    workdir: str = "",
) -> list[Finding]:
    """Checks a data set, prints the results and writes the pictures.

    Args:
        data_dir: folder written by `datasets.convert`.
        out_dir: folder for the results; made where missing.
        split: the split to train on; "" for the one that training takes by default.
        against: the split to evaluate on; left out where there is none of that name, or where it is `split` itself.
        crop_size: side of the training crops in pixels.
        num_images: how many images to show.
        workdir: of a network that was trained earlier: images of `against` that it has seen are found; "" for none.

    Returns:
        What was found.

    Raises:
        UserError: the data folder is not usable, there is no such split, or the results cannot be written.
    """
    manifest = read_manifest(data_dir)
    info = manifest.info
    described = manifest.split(split or info.train_split)
    files.make_folder(out_dir, "--out")
    measured = [statistics.measure(manifest, described.name)]
    hashes = _hashes(manifest, measured[0])
    found = findings.find(info, measured[0], crop_size, hashes)
    if against in manifest.splits and against != described.name:
        other = statistics.measure(manifest, against)
        found += findings.compare(info, measured[0], other, shared_images(described, manifest.split(against)))
        measured.append(other)
        if workdir:
            found += findings.trained_before(other, _hashes(manifest, other) or (), trained_hashes(workdir), workdir)
    for text in _report(info, measured, found):
        print(text)
    _write(manifest, measured, found, Path(out_dir), num_images)
    return found


def _hashes(manifest: Manifest, split: SplitStatistics) -> tuple[str, ...] | None:
    """Returns the hash of each image of a split that is not damaged; None where the manifest has none."""
    described = manifest.split(split.name)
    hashes = described.image_hashes()
    if hashes is not None and split.damaged:
        known = set(split.ids)
        hashes = tuple(digest for digest, image_id in zip(hashes, described.ids, strict=True) if image_id in known)
    return hashes


def _report(info: DatasetInfo, measured: Sequence[SplitStatistics], found: Sequence[Finding]) -> Iterator[str]:
    """Yields the lines to print."""
    for split in measured:
        sizes = f"{_range(split.widths)} x {_range(split.heights)}"
        ignored = split.pixels[:, -1].sum() / max(split.pixels.sum(), 1)
        labels = f"{ignored:.1%} of the pixels ignored" if split.has_labels else "no labels"
        yield f"{split.name}: {split.count} images of {info.name}, {sizes} (width x height), {labels}"
    labelled = [split for split in measured if split.has_labels]
    if labelled:
        width = max(len("class"), *map(len, info.class_names))
        yield ""
        yield " " * (width + 4) + "".join(f"{split.name:>36}" for split in labelled)
        yield f"{'':>4}{'class':<{width}}" + f"{'pixels':>18}{'share':>9}{'images':>9}" * len(labelled)
        for label, name in enumerate(info.class_names):
            columns = [
                f"{split.class_pixels[label]:>18,}{split.class_shares[label]:>9.2%}{split.class_images[label]:>9,}"
                for split in labelled
            ]
            yield f"{label:>3} {name:<{width}}" + "".join(columns)
    yield ""
    yield "what will hurt training:" if found else "nothing found that will hurt training."
    for number, finding in enumerate(found, 1):
        yield f"{number:>3}. {finding.text}"
    yield ""


def _range(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low}..{high} (median {int(np.median(values))})"


def _write(
    manifest: Manifest, measured: Sequence[SplitStatistics], found: Sequence[Finding], out_dir: Path, num_images: int
) -> None:
    info, split = manifest.info, measured[0]
    weights = findings.median_frequency_weights(split) if split.has_labels else ()
    fields = {
        "data_dir": str(manifest.data_dir),
        "splits": {each.name: _numbers(info, each) for each in measured},
        "findings": [{"text": finding.text, "image_ids": list(finding.image_ids)} for finding in found],
        "median_frequency_weights": list(weights),
    }
    files.write_json(str(out_dir / "check.json"), fields)
    written = ["check.json"]
    if split.has_labels:
        sheets.save_histogram(out_dir / "classes.png", info, [each for each in measured if each.has_labels])
        chosen = [(split.name, split.ids[place]) for place in sheets.choose(split, num_images)]
        sheets.save_sheet(out_dir / "images.jpg", info, _examples(manifest, chosen))
        written += ["classes.png", "images.jpg"]
        owners = {image_id: each.name for each in reversed(measured) for image_id in each.ids}
        shown = [image_id for finding in found for image_id in finding.image_ids[:_MOST_SUSPICIOUS]]
        suspicious = [(owners[image_id], image_id) for image_id in dict.fromkeys(shown) if image_id in owners]
        (out_dir / "suspicious.jpg").unlink(missing_ok=True)  # of an earlier call
        if suspicious:
            sheets.save_sheet(out_dir / "suspicious.jpg", info, _examples(manifest, suspicious[:_MOST_SUSPICIOUS]))
            written.append("suspicious.jpg")
        print(f"--set=train.class_weights={','.join(f'{weight:g}' for weight in weights)}")
        print("  would give every class the same weight in the loss (median frequency balancing); off in the paper.")
    print(f"see {out_dir}: {', '.join(written)}")


def _numbers(info: DatasetInfo, split: SplitStatistics) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "num_images": split.count,
        "damaged": list(split.damaged),
        "width": {"min": int(split.widths.min()), "max": int(split.widths.max())},
        "height": {"min": int(split.heights.min()), "max": int(split.heights.max())},
    }
    if split.has_labels:
        fields["ignored_pixels"] = int(split.pixels[:, -1].sum())
        fields["classes"] = {
            name: {"pixels": int(split.class_pixels[label]), "images": int(split.class_images[label])}
            for label, name in enumerate(info.class_names)
        }
    return fields


def _examples(manifest: Manifest, chosen: Sequence[tuple[str, str]]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    places: dict[str, dict[str, int]] = {}
    for split, image_id in chosen:
        if split not in places:
            places[split] = {each: place for place, each in enumerate(manifest.split(split).ids)}
        yield image_id, *statistics.read_example(manifest, split, places[split][image_id])


def show_augmented(
    data_dir: str, out_dir: str, split: str, seed: int, augmentation: Mapping[str, Any], num_images: int = 24
) -> Path:
    """Writes the first examples of a training, scaled, cropped and so on.

    Args:
        data_dir: folder written by `datasets.convert`.
        out_dir: folder for the picture; made where missing.
        split: the split to train on; "" for the one that training takes by default.
        seed: of the training.
        augmentation: arguments of `augmentation.augment`, crop_size at least.
        num_images: how many.

    Returns:
        The picture.

    Raises:
        UserError: the data folder is not usable, there is no such split, a record is damaged, or the picture cannot be
            written.
    """
    from . import pipeline
    from .stored import tfrecord  # TensorFlow

    manifest = read_manifest(data_dir)
    split = split or manifest.info.train_split
    batches = pipeline.train_batches(data_dir, split, batch_size=1, seed=seed, **augmentation)
    files.make_folder(out_dir, "--out")

    def examples() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for number, batch in enumerate(batches.take(num_images).as_numpy_iterator()):
            image = np.clip(np.rint(batch["image"][0, 0]), 0, 255).astype(np.uint8)
            yield f"example {number}", image, batch["labels"][0, 0]

    path = Path(out_dir) / "augmented.jpg"
    with tfrecord.naming_damage(manifest, split):
        sheets.save_sheet(path, manifest.info, examples())
    return path


def _define_flags() -> None:
    flags.DEFINE_string("data_dir", None, "Folder written by datasets.convert.", required=True)
    flags.DEFINE_string("split", "", "Split to train on. Default: trainaug where there is one, else train.")
    flags.DEFINE_string("against", "val", "Split to evaluate on, compared with the first one where it exists.")
    flags.DEFINE_bool("augmented", False, "Show examples as the training sees them, and do nothing else.")
    flags.DEFINE_string("experiment", "vgg16_large_fov", "The experiment to train, for its crops and augmentation.")
    flags.DEFINE_multi_string("set", [], "section.field=value, as for train.py. Example: --set=train.crop_size=225")
    flags.DEFINE_integer("images", 24, "How many images to show.", lower_bound=1, upper_bound=300)
    flags.DEFINE_string(
        "workdir", "", "Of a network trained earlier: says which images of --against it was trained on."
    )
    flags.DEFINE_string("out", "", "Folder for the results. Default: DATA_DIR/check.")


def main() -> None:
    """Checks as the flags say."""
    from deeplab_tf import config as configs
    from deeplab_tf.experiments import experiment_config

    values = flags.FLAGS
    out_dir = values.out or str(Path(values.data_dir) / "check")
    settings = configs.override(experiment_config(values.experiment), values["set"].value or ()).train
    if values.augmented:
        augmentation = settings.augmentation()
        path = show_augmented(
            values.data_dir, out_dir, values.split, settings.seed, augmentation, num_images=values.images
        )
        print(", ".join(f"{name} {value}" for name, value in augmentation.items() if value))
        print(f"see {path}")
    else:
        check(values.data_dir, out_dir, values.split, values.against, settings.crop_size, values.images, values.workdir)


def command() -> None:
    """Runs the command: what `python -m datasets.check` and `deeplab-check` call."""
    _define_flags()
    command_line.run(main)


if __name__ == "__main__":
    command()
