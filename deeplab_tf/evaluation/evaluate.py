"""Evaluation (Sec. 4): one confusion matrix over the whole data set, before and after the CRF, and pictures."""

from __future__ import annotations

import dataclasses
import heapq
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation import charts
from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.evaluation.results import Result
from deeplab_tf.evaluation.trimap import Trimap
from deeplab_tf.images import visualize
from deeplab_tf.runtime import files

FILES = ("metrics.json", "panel.png", "pictures", "trimap.svg")
"""What `evaluate` writes."""
PICTURES = 6
EXTREMES = 4
"""How many of the best and of the worst images are kept for the report."""


@dataclasses.dataclass(frozen=True)
class ScoredResult:
    """A result, and the mean IoU of each prediction over this image alone, None where there is no truth."""

    result: Result
    mious: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: the content of metrics.json.
        matrices: int64 [K, K], rows are labels, columns predictions: the network's, and those after the CRF, if any.
        best: images by falling mean IoU of the last prediction.
        worst: images by rising mean IoU; none of `best` is among them.
    """

    metrics: dict[str, Any]
    matrices: list[np.ndarray]
    best: list[ScoredResult]
    worst: list[ScoredResult]


def evaluate(
    results: Iterable[Result],
    num_examples: int,
    info: DatasetInfo,
    *,
    with_crf: bool = False,
    score_classes: Sequence[str] | None = None,
    absent_as_zero: bool = False,
    with_trimap: bool = False,
    out_dir: str,
) -> Evaluation:
    """Compares results with the truth of a split.

    Memory does not grow with the number of images.

    Args:
        results: from `segment_examples`, with truth.
        num_examples: how many there are.
        info: the classes.
        with_crf: the results are refined, and that is scored too.
        score_classes: average over these classes only; None for all.
        absent_as_zero: count a class in neither labels nor predictions as IoU 0, as the released VOC script does,
            instead of leaving it out of the mean.
        with_trimap: also score bands around boundaries, see the module `trimap`.
        out_dir: gets metrics.json, panel.png, pictures/, and trimap.svg if requested.

    Returns:
        `metrics` holds ratios in 0..1, num_images and how many of the split were left out (num_left_out),
        seconds_per_image of the network (median; None for stored labels), and images_per_second of everything.
        The same metrics after the CRF are under "crf" (None without), and those of the bands under "trimap".

    Raises:
        UserError: unknown score classes, an unwritable folder, or what keeps the results from coming.
    """
    unknown = [name for name in score_classes or [] if name not in info.class_names]
    if unknown:
        raise UserError(f"--score_classes names {', '.join(unknown)}; the classes are {', '.join(info.class_names)}.")
    files.make_folder(out_dir, "--out")
    names = ("network", "crf") if with_crf else ("network",)
    matrices = [ConfusionMatrix(info.num_classes, info.ignore_label) for _ in names]
    bands = Trimap(info.num_classes, info.ignore_label, names) if with_trimap else None
    pictures = _Pictures(info, out_dir, with_crf)
    shown = set(np.linspace(0, num_examples - 1, PICTURES).round().astype(int).tolist())
    best, worst = _Extremes(EXTREMES, sign=1), _Extremes(EXTREMES, sign=-1)
    network_seconds: list[float] = []
    crf_seconds: list[float] = []
    num_images = 0
    options: dict[str, Any] = {"score_classes": score_classes, "absent_as_zero": absent_as_zero}
    begin = time.monotonic()
    for number, result in enumerate(results):
        own = [ConfusionMatrix(info.num_classes, info.ignore_label) for _ in names]
        for matrix, one, predicted in zip(matrices, own, result.predicted, strict=True):
            one.update(result.truth, predicted)
            matrix.merge(one)
        if bands is not None:
            bands.update(result.truth, dict(zip(names, result.predicted, strict=True)))
        # An image holds few of the classes, so those that it lacks never count as 0 here.
        scored = ScoredResult(result, tuple(one.summary(info.class_names, score_classes)["miou"] for one in own))
        best.add(scored, number)
        worst.add(scored, number)
        if number in shown:
            pictures.add(scored)
        num_images += 1
        if result.network_seconds is not None:
            network_seconds.append(result.network_seconds)
        if result.crf_seconds is not None:
            crf_seconds.append(result.crf_seconds)
    seconds = time.monotonic() - begin
    metrics: dict[str, Any] = matrices[0].summary(info.class_names, **options)
    metrics |= {
        "num_images": num_images,
        "num_left_out": num_examples - num_images,
        "seconds_per_image": _typical(network_seconds),
        "images_per_second": num_images / seconds,
        "crf": None,
    }
    if with_crf:
        refined = matrices[1].summary(info.class_names, **options)
        metrics["crf"] = {**refined, "seconds_per_image": _typical(crf_seconds)}
    if bands is not None:
        metrics["trimap"] = bands.summary(info.class_names, **options)
        files.write_text(os.path.join(out_dir, "trimap.svg"), trimap_chart(metrics["trimap"]) + "\n")
    files.write_json(os.path.join(out_dir, "metrics.json"), metrics)
    pictures.write_panel()
    best_scored = best.sorted()
    seen = {id(scored.result) for scored in best_scored}
    worst_scored = [scored for scored in worst.sorted() if id(scored.result) not in seen]
    return Evaluation(metrics, [matrix.matrix for matrix in matrices], best_scored, worst_scored)


def format_table(metrics: dict[str, Any]) -> str:
    """Lays the metrics out as a per-class table with the means below, in percent."""
    columns = [metrics] + ([metrics["crf"]] if metrics["crf"] else [])
    names = list(metrics["per_class_iou"])
    width = max(map(len, [*names, *(label for label, _ in MEANS)]))
    lines = ["".join([f"{'IoU, %':<{width}}", f"{'network':>12}"] + ([f"{'+ CRF':>12}"] if metrics["crf"] else []))]
    lines += [
        f"{name:<{width}}" + "".join(_percent(column["per_class_iou"][name]) for column in columns) for name in names
    ]
    lines.append("-" * len(lines[0]))
    for label, key in MEANS:
        lines.append(f"{label:<{width}}" + "".join(_percent(column[key]) for column in columns))
    return "\n".join(lines)


MEANS = (
    ("mean IoU", "miou"),
    ("pixel accuracy", "pixel_accuracy"),
    ("mean accuracy", "mean_accuracy"),
    ("frequency-weighted IoU", "frequency_weighted_iou"),
)
"""What is printed below the classes, and its keys in metrics.json."""


def trimap_chart(trimap: dict[str, Any]) -> str:
    """Draws the mean IoU over the width of the band, as SVG: Fig. 10."""
    lines = [
        charts.Line(title, [None if ratio is None else 100 * ratio for ratio in trimap[name]["miou"]])
        for name, title in (("network", "network"), ("crf", "network + CRF"))
        if name in trimap
    ]
    return charts.line_chart(trimap["widths"], lines, "width of the band around boundaries, pixels", "mean IoU, %")


class _Extremes:
    """The results with the highest (sign 1) or lowest (sign -1) mean IoU so far."""

    def __init__(self, count: int, sign: int) -> None:
        self._count = count
        self._sign = sign
        self._heap: list[tuple[float, int, ScoredResult]] = []

    def add(self, scored: ScoredResult, number: int) -> None:
        miou = scored.mious[-1]
        if miou is None:
            return
        # Of equal ones the first stays; the number also keeps results from being compared.
        heapq.heappush(self._heap, (self._sign * miou, -number, scored))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def sorted(self) -> list[ScoredResult]:
        return [scored for _, _, scored in sorted(self._heap, reverse=True)]


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

    def add(self, scored: ScoredResult) -> None:
        result = scored.result
        row, seen = result_pictures(result, self._info)
        scores = " -> ".join("no labels" if miou is None else f"{100 * miou:.1f}" for miou in scored.mious)
        caption = f"{result.image_id}: mIoU of this image {scores}"
        name = f"{os.path.basename(result.image_id)}.png"
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


def result_pictures(result: Result, info: DatasetInfo) -> tuple[list[np.ndarray], set[int]]:
    """Returns image, truth, network and, if it is there, CRF as uint8 [H, W, 3], and the classes to be seen there."""
    maps = [result.truth, *result.predicted]
    pictures = [result.image, *(visualize.draw_classes(result.image, labels, info) for labels in maps)]
    seen = {int(label) for labels in maps for label in np.unique(labels)} - {info.ignore_label}
    return pictures, seen


def _typical(seconds: list[float]) -> float | None:
    """The median: the first image also pays for tracing."""
    return float(np.median(seconds)) if seconds else None


def _percent(ratio: float | None) -> str:
    return f"{'-' if ratio is None else f'{100 * ratio:.2f}':>12}"
