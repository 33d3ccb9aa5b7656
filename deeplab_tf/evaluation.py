"""Evaluation (Sec. 4): one confusion matrix over the whole data set, before and after the CRF, and pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tqdm

from deeplab_tf import files, visualize
from deeplab_tf.crf import CrfParams, dense_crf
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.metrics import ConfusionMatrix

PICTURES = 6

Example = tuple[str, np.ndarray, np.ndarray]
"""Image id, image uint8 [H, W, 3], labels int [H, W]."""


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Example],
    num_examples: int,
    info: DatasetInfo,
    *,
    crf: CrfParams | None = None,
    crf_backend: str = "tf",
    score_classes: Sequence[str] | None = None,
    out_dir: str,
) -> dict[str, Any]:
    """Compares predictions with the labels of a split.

    Memory does not grow with the number of images.

    Args:
        predict: from an image uint8 [H, W, 3] to probabilities float32 [H, W, K].
        examples: the split.
        num_examples: how many there are.
        info: the classes.
        crf: also refine every answer with these values and score that; None for not.
        crf_backend: "tf" or "pydensecrf", what computes it.
        score_classes: average over these classes only; None for all.
        out_dir: gets metrics.json, panel.png and pictures/.

    Returns:
        The content of metrics.json: ratios in 0..1, seconds_per_image of the network alone, and the same
        metrics after the CRF under "crf" (None without).

    Raises:
        UserError: unknown score classes, an unwritable folder, or a CRF that is not installed.
    """
    unknown = [name for name in score_classes or [] if name not in info.class_names]
    if unknown:
        raise UserError(f"--score_classes names {', '.join(unknown)}; the classes are {', '.join(info.class_names)}.")
    files.make_folder(out_dir, "--out")
    network, refined = (
        ConfusionMatrix(info.num_classes, info.ignore_label),
        ConfusionMatrix(info.num_classes, info.ignore_label),
    )
    shown = set(np.linspace(0, num_examples - 1, PICTURES).round().astype(int).tolist())
    pictures = _Pictures(info, out_dir, with_crf=crf is not None)
    network_seconds, crf_seconds = [], []
    bar = tqdm.tqdm(examples, total=num_examples, unit="image", dynamic_ncols=True, mininterval=1.0)
    for number, (image_id, image, labels) in enumerate(bar):
        begin = time.monotonic()
        probabilities = predict(image)  # [H, W, K]
        answers = [np.argmax(probabilities, axis=-1)]
        network_seconds.append(time.monotonic() - begin)
        network.update(labels, answers[0])
        if crf is not None:
            begin = time.monotonic()
            answers.append(np.argmax(dense_crf(image, probabilities, crf, crf_backend), axis=-1))
            crf_seconds.append(time.monotonic() - begin)
            refined.update(labels, answers[1])
        if number in shown:
            pictures.add(image_id, image, labels, answers)
    metrics = network.summary(info.class_names, score_classes)
    metrics |= {"num_images": len(network_seconds), "seconds_per_image": _typical(network_seconds), "crf": None}
    if crf is not None:
        metrics["crf"] = {
            **refined.summary(info.class_names, score_classes),
            "seconds_per_image": _typical(crf_seconds),
        }
    files.write_json(os.path.join(out_dir, "metrics.json"), metrics)
    pictures.write_panel()
    return metrics


def format_table(metrics: dict[str, Any]) -> str:
    """Lays the metrics out as a per-class table with the means below, in percent."""
    columns = [metrics] + ([metrics["crf"]] if metrics["crf"] else [])
    names = list(metrics["per_class_iou"])
    width = max(map(len, [*names, "pixel accuracy"]))
    lines = ["".join([f"{'IoU, %':<{width}}", f"{'network':>12}"] + ([f"{'+ CRF':>12}"] if metrics["crf"] else []))]
    lines += [
        f"{name:<{width}}" + "".join(_percent(column["per_class_iou"][name]) for column in columns) for name in names
    ]
    lines.append("-" * len(lines[0]))
    for label, key in (("mean IoU", "miou"), ("pixel accuracy", "pixel_accuracy"), ("mean accuracy", "mean_accuracy")):
        lines.append(f"{label:<{width}}" + "".join(_percent(column[key]) for column in columns))
    return "\n".join(lines)


class _Pictures:
    """Before/after pictures of some images, one file each and a panel of all."""

    def __init__(self, info: DatasetInfo, out_dir: str, with_crf: bool) -> None:
        self._info = info
        self._out_dir = out_dir
        self._titles = ["image", "truth", "network"] + (["network + CRF"] if with_crf else [])
        self._rows: list[list[np.ndarray]] = []
        self._captions: list[str] = []
        self._seen: set[int] = set()
        files.make_folder(os.path.join(out_dir, "pictures"), "--out")

    def add(self, image_id: str, image: np.ndarray, labels: np.ndarray, answers: list[np.ndarray]) -> None:
        palette = self._info.palette
        row = [image, visualize.overlay(image, labels, palette)]
        row += [visualize.overlay(image, answer, palette) for answer in answers]
        seen = {int(label) for picture in (labels, *answers) for label in np.unique(picture)} - {
            self._info.ignore_label
        }
        scores = []
        for answer in answers:
            matrix = ConfusionMatrix(self._info.num_classes, self._info.ignore_label)
            matrix.update(labels, answer)
            miou = matrix.summary(self._info.class_names)["miou"]
            scores.append("no labels" if miou is None else f"{100 * miou:.1f}")
        caption = f"{image_id}: mIoU of this image {' -> '.join(scores)}"
        name = f"{os.path.basename(image_id)}.png"
        visualize.save_image(os.path.join(self._out_dir, "pictures", name), self._panel([row], [caption], seen))
        self._rows.append(row)
        self._captions.append(caption)
        self._seen |= seen

    def write_panel(self) -> None:
        if self._rows:
            picture = self._panel(self._rows, self._captions, self._seen)
            visualize.save_image(os.path.join(self._out_dir, "panel.png"), picture)

    def _panel(self, rows: list[list[np.ndarray]], captions: list[str], seen: set[int]) -> np.ndarray:
        names = [self._info.class_names[label] for label in sorted(seen)]
        palette = [self._info.palette[label] for label in sorted(seen)]
        return visualize.panel(rows, self._titles, captions, class_names=names, palette=palette)


def _typical(seconds: list[float]) -> float | None:
    """The median: the first image also pays for tracing."""
    return float(np.median(seconds)) if seconds else None


def _percent(ratio: float | None) -> str:
    return f"{'-' if ratio is None else f'{100 * ratio:.2f}':>12}"
