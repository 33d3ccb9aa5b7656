"""Measures a published network and writes the figures into its card.

  python -m scripts.model_card --model=models/voc_animals --data_dir=data/voc_animals --split=val

The network is scored with and without the CRF and the mirrored image, class by class and by size of object. The figures
go to MODEL/card.json, those of `eval.py --crf` to MODEL/metrics.json, and into MODEL/README.md between the two lines
that begin with `<!-- figures` and `<!-- end of figures`. The rest of README.md is yours.

--only_speed measures the speed again, on some images one after another, and leaves the other figures: let nothing else
run on the machine.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from absl import flags

from deeplab_tf.errors import UserError
from deeplab_tf.runtime.command_line import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np

    from deeplab_tf.evaluation.results import Result

BEGIN, END = "<!-- figures", "<!-- end of figures"
CONFUSIONS = 5
SPEED_IMAGES = 20
CARD_FILE = "card.json"
SETTINGS = ("network", "network, --flip", "--crf", "--crf --flip")
"""In this order in the table."""


def measure(model_dir: str, data_dir: str, split_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores a network on a split, in two passes: the image, and the image with its mirror image.

    Args:
        model_dir: a workdir, or a copy by `publish_model`.
        data_dir: of `datasets.convert`.
        split_name: such as "val".

    Returns:
        The content of card.json, and that of metrics.json.

    Raises:
        UserError: folders that are not usable, or of other classes.
    """
    import dataclasses
    import os
    import tempfile

    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf import workdir
    from deeplab_tf.evaluation.evaluate import evaluate
    from deeplab_tf.evaluation.results import segment_examples
    from deeplab_tf.evaluation.sizes import ObjectSizes
    from deeplab_tf.export.load import segmenter_of_network
    from deeplab_tf.runtime.progress import show_progress

    model, config = workdir.load(model_dir)
    info = config.info
    manifest = tfrecord.read_manifest(data_dir)
    if manifest.info.class_names != info.class_names:
        raise UserError(
            f"the network knows the classes {', '.join(info.class_names)}; {data_dir} has "
            f"{', '.join(manifest.info.class_names)}."
        )
    split = manifest.split(split_name)
    background = 0 if info.class_names[0] == "background" else None
    evaluations, sizes = [], []
    for flip in (False, True):
        stored = pipeline.evaluation_examples(data_dir, split_name, split.skipped)
        examples = ((image_id.decode(), image, labels) for image_id, image, labels in stored.as_numpy_iterator())
        asked = dataclasses.replace(config, inference=dataclasses.replace(config.inference, flip=flip))
        segmenter = segmenter_of_network(model, asked).with_crf()
        results = show_progress(segment_examples(segmenter, examples), split.count)
        found = [ObjectSizes(info.num_classes, background) for _ in range(2)]
        with tempfile.TemporaryDirectory() as folder:
            watched = _counting(results, found)
            evaluations.append(evaluate(watched, split.count, info, with_crf=True, out_dir=folder))
        sizes.append(found)
    plain, flipped = (evaluation.metrics for evaluation in evaluations)
    columns = (plain, flipped, plain["crf"], flipped["crf"])
    card = {
        "split": split_name,
        "num_images": split.count,
        "settings": {
            name: {key: metrics[key] for key in ("miou", "pixel_accuracy", "per_class_iou")}
            for name, metrics in zip(SETTINGS, columns, strict=True)
        },
        "sizes": {
            name: sizes[flip][crf].summary()
            for name, flip, crf in zip(SETTINGS, (0, 1, 0, 1), (0, 0, 1, 1), strict=True)
        },
        "confusions": confusions(evaluations[0].matrices[0], info.class_names),
        "worst": [
            {"image": scored.result.image_id, "miou": scored.mious[0], "with_crf": scored.mious[1]}
            for scored in evaluations[0].worst
        ],
        "speed": measure_speed(model_dir, data_dir, split_name),
        "megabytes": os.path.getsize(os.path.join(model_dir, workdir.WEIGHTS_FILE)) / 1e6,
    }
    return card, plain


def measure_speed(model_dir: str, data_dir: str, split_name: str) -> dict[str, Any]:
    """Times a network and the CRF on images that are evenly spread over a split, one after another.

    Args:
        model_dir: a workdir, or a copy by `publish_model`.
        data_dir: of `datasets.convert`.
        split_name: such as "val".

    Returns:
        Medians in seconds an image, the number of images, the day and the machine.

    Raises:
        UserError: folders that are not usable.
    """
    import dataclasses
    import datetime
    import statistics
    import time

    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf import workdir
    from deeplab_tf.export.load import segmenter_of_network

    model, config = workdir.load(model_dir)
    split = tfrecord.read_manifest(data_dir).split(split_name)
    stored = pipeline.evaluation_examples(data_dir, split_name, split.skipped)
    every = max(1, split.count // SPEED_IMAGES)
    images = [image.numpy() for _, image, _ in stored.shard(every, 0).take(SPEED_IMAGES)]
    seconds: dict[str, list[float]] = {"network": [], "network, --flip": [], "CRF": []}

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.perf_counter()
        result = work(*arguments)
        seconds[name].append(time.perf_counter() - begin)
        return result

    for flip, name in ((False, "network"), (True, "network, --flip")):
        asked = dataclasses.replace(config, inference=dataclasses.replace(config.inference, flip=flip))
        segmenter = segmenter_of_network(model, asked).with_crf()
        for image in images:  # each size builds its graph once
            output = segmenter.run_network(image)
        segmenter.finish(image, output)
        for image in images:
            output = timed(name, segmenter.run_network, image)
            if not flip:
                timed("CRF", segmenter.finish, image, output)
    return {
        **{name: statistics.median(values) for name, values in seconds.items()},
        "images": len(images),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
    }


def _counting(results: Iterable[Result], found: list[Any]) -> Iterator[Result]:
    """Passes results on; network and CRF are counted by size of object."""
    for result in results:
        for sizes, predicted in zip(found, result.predicted, strict=True):
            sizes.update(result.truth, predicted)
        yield result


def confusions(matrix: np.ndarray, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the pairs of classes that are mistaken most often.

    Args:
        matrix: int64 [K, K], rows are labels, columns predictions.
        class_names: K.

    Returns:
        For each pair: truth, predicted, and the share of the truth's pixels.
    """
    import numpy as np

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    order = np.argsort(shares, axis=None)[::-1][:CONFUSIONS]
    return [
        {"truth": class_names[row], "predicted": class_names[column], "share": float(shares[row, column])}
        for row, column in zip(*np.unravel_index(order, shares.shape), strict=True)
        if shares[row, column] > 0
    ]


def machine() -> str:
    """Describes the processor and the versions, for figures of speed."""
    import os
    import platform

    import tensorflow as tf

    name = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        name = names[0] if names else name
    except OSError:
        pass
    return f"{os.cpu_count()} cores of an {name}, TensorFlow {tf.__version__}"


def render(card: dict[str, Any], command: str) -> str:
    """Lays the figures out as Markdown.

    Args:
        card: from `measure`.
        command: that measures it again.

    Returns:
        The text between the two marks, these included.
    """
    names = list(card["settings"]["network"]["per_class_iou"])
    rows = [["IoU, %", *names, "mean"], ["---"] * (len(names) + 2)]
    for setting, metrics in card["settings"].items():
        values = [*metrics["per_class_iou"].values(), metrics["miou"]]
        rows.append([setting, *map(_percent, values)])
    lines = [f"{BEGIN}: {command} -->", *map(_row, rows), ""]
    lines += [
        f"{card['num_images']} images of {card['split']}. The share of an object's pixels that is found, by its size:",
        "",
    ]
    sizes = card["sizes"]
    titles = {"small": "below 32 x 32 pixels", "medium": "below 96 x 96", "large": "larger"}
    counts = [f"{titles[name]}, {entry['objects']} objects" for name, entry in sizes["network"].items()]
    lines += [_row(["found, %", *counts]), _row(["---"] * 4)]
    lines += [
        _row([setting, *(_percent(entry["found"]) for entry in found.values())]) for setting, found in sizes.items()
    ]
    lines.append("")
    told = [f"{_percent(c['share'])} % of {c['truth']} is taken for {c['predicted']}" for c in card["confusions"]]
    worst = [f"{entry['image']} ({_percent(entry['with_crf'])})" for entry in card["worst"]]
    speed = card["speed"]
    paragraphs = [
        f"**Where it fails.** {'; '.join(told)}. The images with the lowest mean IoU after the CRF:"
        f" {', '.join(worst)}.",
        f"**Speed.** {speed['network']:.2f} s an image, {speed['network, --flip']:.2f} s with `--flip`; the CRF takes"
        f" {speed['CRF']:.2f} s ({speed['machine']}, {speed['date']}; medians of {speed['images']} images). The"
        f" weights are {card['megabytes']:.1f} MB.",
    ]
    for paragraph in paragraphs:
        lines += [textwrap.fill(paragraph, 118, break_long_words=False, break_on_hyphens=False), ""]
    lines.append(f"{END} -->")
    return "\n".join(lines)


def insert(text: str, figures: str, path: str) -> str:
    """Replaces what stands between the two marks of a card.

    Raises:
        UserError: the marks are not there.
    """
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith(BEGIN)]
    ends = [number for number, line in enumerate(lines) if line.startswith(END)]
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise UserError(f"{path}: expected one line that begins with {BEGIN!r} and one below it with {END!r}.")
    return "\n".join([*lines[: begins[0]], figures, *lines[ends[0] + 1 :]]) + "\n"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * ratio:.2f}"


def _define_flags() -> None:
    flags.DEFINE_string("model", "", "Folder of the model, such as models/voc_animals.")
    flags.DEFINE_string("data_dir", "", "Folder of datasets.convert.")
    flags.DEFINE_string("split", "val", "Split to measure on.")
    flags.DEFINE_bool("only_speed", False, "Measure the speed again, and leave the other figures as they are.")


def main() -> None:
    """Measures and writes as the flags say."""
    import os

    from deeplab_tf.runtime import files

    values = flags.FLAGS
    if not values.model or not values.data_dir:
        raise UserError("--model and --data_dir are needed: a folder below models/, and one of datasets.convert.")
    readme = os.path.join(values.model, "README.md")
    try:
        with open(readme, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise UserError(f"cannot read the card {readme}: {error.strerror}.") from error
    insert(text, "", readme)  # before the work
    path = os.path.join(values.model, CARD_FILE)
    if values.only_speed:
        if not os.path.exists(path):
            raise UserError(f"there is no {path} whose speed could be measured again: leave --only_speed out.")
        card = files.read_json(path)
        card["speed"] = measure_speed(values.model, values.data_dir, values.split)
    else:
        card, metrics = measure(values.model, values.data_dir, values.split)
        files.write_json(os.path.join(values.model, "metrics.json"), metrics)
    files.write_json(path, card)
    name = os.path.basename(os.path.normpath(values.model))
    command = f"python -m scripts.model_card --model=models/{name} --data_dir=data/{name} --split={values.split}"
    files.write_text(readme, insert(text, render(card, command), readme))
    print(render(card, command))


if __name__ == "__main__":
    _define_flags()
    run(main)
