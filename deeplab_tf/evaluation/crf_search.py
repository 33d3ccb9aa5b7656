"""Cross-validates the CRF's w1, sigma_alpha and sigma_beta on some images, coarse to fine (Sec. 4.1.1).

The network runs once; its probabilities are stored on disk. Then each set of constants is scored by the mean IoU
after the CRF, on all cores. Whatever is finished is kept, so that an interrupted search goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tqdm
from PIL import Image

from deeplab_tf.crf.dense_crf import sweep_w1
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.evaluation.results import Example
from deeplab_tf.runtime import files
from deeplab_tf.runtime.progress import show_progress
from deeplab_tf.runtime.threads import map_in_order

TABLE_FILE = "crf_search.json"
TEXT_FILE = "crf_search.txt"
PICTURE_FILE = "crf_search.png"
FEW_IMAGES = 20
"""Fewer do not say much about others."""
_STORE_FOLDER = "crf_search_probabilities"


class Constants(NamedTuple):
    """What is searched, see `CrfParams`."""

    w1: float
    sigma_alpha: float
    sigma_beta: float


class Range(NamedTuple):
    """The coarse values of one constant, and the distance between them."""

    values: tuple[float, ...]
    step: float


class Ranges(NamedTuple):
    """The coarse grid."""

    w1: Range
    sigma_alpha: Range
    sigma_beta: Range


# The paper's: w1 3:6, sigma_alpha 30:10:100, sigma_beta 3:6.
COARSE = Ranges(
    w1=Range((3.0, 4.5, 6.0), 1.5),
    sigma_alpha=Range((30.0, 50.0, 70.0, 90.0), 20.0),
    sigma_beta=Range((3.0, 4.5, 6.0), 1.5),
)


class Scored(NamedTuple):
    """Constants and the mean IoU with them, 0..1."""

    constants: Constants
    miou: float


def coarse_to_fine(
    score: Callable[[list[Constants]], list[float]], start: Constants, ranges: Ranges = COARSE
) -> list[Scored]:
    """Scores a coarse grid, then the neighbours of its best at half the step.

    Args:
        score: from constants to the mean IoU of each.
        start: constants that are scored too, so that the result is never worse than they are.
        ranges: the coarse grid.

    Returns:
        All that was scored, the best first; of equal ones the earlier.
    """
    grid = [Constants(*values) for values in itertools.product(*(one.values for one in ranges))]
    coarse = list(dict.fromkeys([start, *grid]))
    scored = [Scored(*pair) for pair in zip(coarse, score(coarse), strict=True)]
    best = _sorted(scored)[0].constants
    around = [(value - one.step / 2, value, value + one.step / 2) for value, one in zip(best, ranges, strict=True)]
    # A weight or a reach of 0 switches a kernel off or is none.
    fine = [Constants(*values) for values in itertools.product(*around) if min(values) > 0]
    fine = [constants for constants in fine if constants not in coarse]
    return _sorted(scored + [Scored(*pair) for pair in zip(fine, score(fine), strict=True)])


def search(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Example],
    num_examples: int,
    info: DatasetInfo,
    params: CrfParams,
    *,
    num_images: int,
    source: dict[str, Any],
    out_dir: str,
    ranges: Ranges = COARSE,
    backend: str = "auto",
) -> CrfParams:
    """Finds the best w1, sigma_alpha and sigma_beta; the other constants stay.

    Writes crf_search.json (the table, from which a repeated search goes on), crf_search.txt and crf_search.png. The
    stored probabilities are removed at the end: 2 bytes a pixel and class for each image, compressed.

    Args:
        predict: from an image uint8 [H, W, 3] to probabilities float32 [H, W, K].
        examples: a split, with labels.
        num_examples: how many there are.
        info: the classes.
        params: where the search starts, and the constants that are not searched.
        num_images: take this many of the examples, evenly spread.
        source: what the probabilities depend on, as JSON takes it: with another source the table starts anew.
        out_dir: an existing folder for all that is written.
        ranges: the coarse grid.
        backend: what computes the CRF, as for `sweep_w1`.

    Returns:
        params with the best constants found.

    Raises:
        UserError: no images, no labelled pixel in them, or an unwritable folder.
    """
    if num_images < 1 or num_examples < 1:
        raise UserError(f"the CRF search needs at least one image, got {min(num_images, num_examples)}.")
    chosen = set(np.linspace(0, num_examples - 1, min(num_images, num_examples)).round().astype(int).tolist())
    fixed = {"w2": params.w2, "sigma_gamma": params.sigma_gamma, "iterations": params.iterations}
    about = {"probabilities": source, "images": len(chosen), "fixed": fixed, "coarse": ranges._asdict()}
    table = _Table(os.path.join(out_dir, TABLE_FILE), about)
    if table.best is not None:
        print(f"this search is done; remove {os.path.join(out_dir, TABLE_FILE)} to repeat it")
        return CrfParams(**table.best)
    folder = os.path.join(out_dir, _STORE_FOLDER)
    if not table.resumed:
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, exist_ok=True)
    # At most one image a core is in memory.
    num_workers = len(os.sched_getaffinity(0))
    paths, network = _store(predict, examples, chosen, folder, info)

    def score(constants: list[Constants]) -> list[float]:
        missing = [one for one in constants if one not in table.scores]
        # All that share a lattice, which does not depend on w1, are scored together.
        alike: dict[tuple[float, float], list[Constants]] = {}
        for one in missing:
            alike.setdefault((one.sigma_alpha, one.sigma_beta), []).append(one)
        tasks = [(group, path) for group in alike.values() for path in paths]
        counted = map_in_order(
            lambda task: _count(params, backend, *task, info), tasks, workers=num_workers, ahead=2 * num_workers
        )
        with contextlib.closing(counted):
            results = show_progress(counted, len(tasks))
            for group in alike.values():
                totals = [ConfusionMatrix(info.num_classes, info.ignore_label) for _ in group]
                for matrices in itertools.islice(results, len(paths)):
                    for total, matrix in zip(totals, matrices, strict=True):
                        total.merge(matrix)
                table.add({one: _miou(total, info) for one, total in zip(group, totals, strict=True)})
                for one in group:
                    tqdm.tqdm.write(f"{_describe(one)}  mean IoU {100 * table.scores[one]:.2f} %")
        return [table.scores[one] for one in constants]

    print(f"searching the CRF's constants on {len(paths)} images; {_miou(network, info):.2%} mean IoU without it")
    start = Constants(params.w1, params.sigma_alpha, params.sigma_beta)
    scored = coarse_to_fine(score, start, ranges)
    best = dataclasses.replace(params, **scored[0].constants._asdict())
    before = {"network": _miou(network, info), "start": table.scores[start]}
    text = _format_table(scored, before, start, fixed)
    files.write_text(os.path.join(out_dir, TEXT_FILE), text)
    files.write_atomically(os.path.join(out_dir, PICTURE_FILE), lambda path: _draw(scored, path))
    table.finish(dataclasses.asdict(best), before)
    if len(paths) < FEW_IMAGES:
        gain = 100 * (scored[0].miou - before["start"])
        print(
            f"warning: {len(paths)} images are few for a search: the gain of {gain:.2f} points may be of these images"
            f" only. Score other images, or search on {FEW_IMAGES} or more. The constants before were {params};"
            f" --set=crf.w1={params.w1:g} and the like bring them back."
        )
    shutil.rmtree(folder)
    return best


class _Table:
    """The scores so far, on disk after each one; those of an earlier search of the same kind are taken over."""

    def __init__(self, path: str, about: dict[str, Any]) -> None:
        self.scores: dict[Constants, float] = {}
        self.best: dict[str, Any] | None = None
        self.resumed = False
        self._path = path
        self._content: dict[str, Any] = {"about": json.loads(json.dumps(about))}  # tuples become lists, as in the file
        try:
            before = files.read_json(path)
            if before["about"] == self._content["about"]:
                self.scores = {
                    Constants(*(float(row[name]) for name in Constants._fields)): float(row["miou"])
                    for row in before["scores"]
                }
                self.best, self.resumed = before.get("best"), True
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {path}: {error}. Remove it to search again.") from error
        if not self.resumed:
            self._write()

    def add(self, mious: dict[Constants, float]) -> None:
        self.scores |= mious
        self._write()

    def finish(self, best: dict[str, Any], before: dict[str, float]) -> None:
        self._content |= {"best": best, "before": before}
        self._write()

    def _write(self) -> None:
        rows = [{**constants._asdict(), "miou": miou} for constants, miou in self.scores.items()]
        files.write_json(self._path, {**self._content, "scores": rows})


def _store(
    predict: Callable[[np.ndarray], np.ndarray],
    examples: Iterable[Example],
    chosen: set[int],
    folder: str,
    info: DatasetInfo,
) -> tuple[list[str], ConfusionMatrix]:
    """Writes an archive for each chosen example, where there is none; returns their paths, and the network's score."""
    paths: list[str] = []
    network = ConfusionMatrix(info.num_classes, info.ignore_label)
    wanted = (example for number, example in enumerate(examples) if number in chosen)
    for image_id, image, labels in show_progress(wanted, len(chosen)):
        path = os.path.join(folder, f"{len(paths):05d}.npz")
        stored = _read(path) if os.path.exists(path) else None
        if stored is None or stored[0] != image_id:
            arrays = (image, labels, predict(image).astype(np.float16))
            files.write_atomically(path, functools.partial(_write, image_id=image_id, arrays=arrays))
            stored = (image_id, *arrays)
        network.update(labels, stored[3].argmax(axis=-1))
        paths.append(path)
    return paths, network


def _write(path: str, image_id: str, arrays: tuple[np.ndarray, ...]) -> None:
    image, labels, probabilities = arrays
    np.savez_compressed(path, image_id=np.array(image_id), image=image, labels=labels, probabilities=probabilities)


def _read(path: str) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return str(archive["image_id"]), archive["image"], archive["labels"], archive["probabilities"]


def _count(
    params: CrfParams, backend: str, group: list[Constants], path: str, info: DatasetInfo
) -> list[ConfusionMatrix]:
    """Counts a stored image with each of some constants that differ in w1 only."""
    _, image, labels, probabilities = _read(path)
    matrices = []
    shared = dataclasses.replace(params, **group[0]._asdict())
    for refined in sweep_w1(image, probabilities, shared, [one.w1 for one in group], backend, threads=1):
        matrices.append(ConfusionMatrix(info.num_classes, info.ignore_label))
        matrices[-1].update(labels, refined.argmax(axis=-1))
    return matrices


def _sorted(scored: list[Scored]) -> list[Scored]:
    return sorted(scored, key=lambda one: -one.miou)


def _miou(matrix: ConfusionMatrix, info: DatasetInfo) -> float:
    miou = matrix.summary(info.class_names)["miou"]
    if miou is None:
        raise UserError("the CRF search needs labels, and the images it would take have none.")
    return float(miou)


def _describe(constants: Constants) -> str:
    return f"w1 {constants.w1:g}, sigma_alpha {constants.sigma_alpha:g}, sigma_beta {constants.sigma_beta:g}"


def _format_table(scored: list[Scored], before: dict[str, float], start: Constants, fixed: dict[str, Any]) -> str:
    lines = [
        f"mean IoU, %: network {100 * before['network']:.2f}, + CRF at {_describe(start)} {100 * before['start']:.2f}",
        "fixed: " + ", ".join(f"{name} {value:g}" for name, value in fixed.items()),
        "",
        f"{'w1':>8}{'sigma_alpha':>14}{'sigma_beta':>13}{'mean IoU, %':>14}",
    ]
    lines += [
        f"{one.constants.w1:>8g}{one.constants.sigma_alpha:>14g}{one.constants.sigma_beta:>13g}{100 * one.miou:>14.2f}"
        for one in scored
    ]
    return "\n".join(lines) + "\n"


def _draw(scored: list[Scored], path: str) -> None:
    """Draws a cell for each sigma_alpha and sigma_beta: the mean IoU at its best w1, written below it.

    Cells have one size, however close the values are; sets that were not scored stay empty.
    """
    # The figure class and not pyplot, which would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    best: dict[tuple[float, float], Scored] = {}
    for one in scored:  # the best first
        best.setdefault((one.constants.sigma_alpha, one.constants.sigma_beta), one)
    alphas, betas = (sorted({place[axis] for place in best}) for axis in (0, 1))
    values = np.full((len(betas), len(alphas)), np.nan)
    for (alpha, beta), one in best.items():
        values[betas.index(beta), alphas.index(alpha)] = 100 * one.miou
    size = (2.4 + 0.62 * len(alphas), 1.6 + 0.42 * len(betas))
    figure = Figure(figsize=(max(size[0], 5.0), size[1]), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    cells = axes.imshow(values, cmap="viridis", origin="lower", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for number, ((alpha, beta), one) in enumerate(best.items()):
        x, y = alphas.index(alpha), betas.index(beta)
        colour = "white" if values[y, x] < middle else "black"
        text = f"{values[y, x]:.2f}\nw1 {one.constants.w1:g}"
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
        if number == 0:
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2.5))
    axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    axes.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    axes.set(xlabel="sigma_alpha, pixels", ylabel="sigma_beta, RGB levels", title="mean IoU, %, at the best w1 of each")
    figure.colorbar(cells, label="mean IoU, %")
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()).save(path)
