"""WORKDIR/curves.png: the loss, the learning rate and the validation scores of a training at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.runtime import files
from deeplab_tf.training.loss_file import Losses
from deeplab_tf.training.validation import Score

CURVES_FILE = "curves.png"
_MOST_CLASSES = 25  # with their own line and place in the legend
_POINTS = 2000  # of a line: more cannot be distinguished
_DASHES = ("-", "--", ":", "-.")


def draw(path: str, losses: Losses, scores: Mapping[int, Score], info: DatasetInfo) -> None:
    """Draws them below each other, by step.

    Args:
        path: a PNG to be.
        losses: of the updates.
        scores: of the validations, by step; without any there is no third picture.
        info: the classes.

    Raises:
        UserError: the file cannot be written.
    """
    # The figure class and not pyplot, which would look for a display.
    from matplotlib.figure import Figure

    rows = 3 if scores else 2
    figure = Figure(figsize=(10, 3.4 + 2 * rows), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, height_ratios=(3, 1, 4)[:rows])
    _draw_loss(axes[0], losses)
    axes[1].plot(*_thinned(losses.steps, losses.learning_rates), color="tab:gray")
    axes[1].set(ylabel="learning rate", ylim=(0, None))
    if scores:
        _draw_scores(axes[2], scores, info)
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step (update of the weights)")
    files.write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))


def _draw_loss(axis: Any, losses: Losses) -> None:
    steps, values = np.array(losses.steps), np.array(losses.losses)
    window = max(1, min(50, len(values) // 20))
    if len(values):
        axis.plot(*_thinned(steps, values), color="tab:blue", alpha=0.3, linewidth=0.8, label="loss of an update")
    if window > 1:
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        middle = steps[window // 2 :][: len(smooth)]
        axis.plot(*_thinned(middle, smooth), color="tab:blue", label=f"mean of {window} updates")
    if len(values):
        # One loss of a start or of a divergence is not to flatten all others.
        axis.set_ylim(0, 1.1 * float(np.quantile(values, 0.995)) or 1)
        axis.legend(fontsize="small")
    axis.set_ylabel("loss")


def _draw_scores(axis: Any, scores: Mapping[int, Score], info: DatasetInfo) -> None:
    steps = sorted(scores)
    drawn = info.class_names if info.num_classes <= _MOST_CLASSES else ()
    for label, name in enumerate(drawn):
        values = [scores[step].per_class.get(name) for step in steps]
        shown = [np.nan if value is None else 100 * value for value in values]
        if not all(np.isnan(shown)):
            colour = tuple(level / 255 for level in info.palette[label])
            style = _DASHES[label % len(_DASHES)]  # palettes have colours that are alike, and white
            axis.plot(steps, shown, style, color=colour, linewidth=1.2, marker=".", markersize=4, label=name)
    best = max(steps, key=lambda step: (scores[step].miou, -step))
    mean = [100 * scores[step].miou for step in steps]
    axis.plot(steps, mean, color="black", linewidth=2.5, marker="o", markersize=4, label="mean")
    axis.plot([best], [100 * scores[best].miou], "*", color="tab:red", markersize=13, zorder=5)
    axis.set(ylabel="IoU in validation, %", ylim=(0, 100))
    axis.set_facecolor("#f2f2f2")  # white and pale colours of a palette stay visible
    axis.set_title(f"best mean {100 * scores[best].miou:.1f} % at step {best}", fontsize="small", loc="right")
    axis.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))


def _thinned(xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    every = max(1, len(xs) // _POINTS)
    return np.asarray(xs)[::every], np.asarray(ys)[::every]
