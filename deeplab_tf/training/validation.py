"""Validation while training: the mean IoU of a split every so often, and the weights of the best one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deeplab_tf import workdir as workdirs
from deeplab_tf.config import InferenceConfig
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.images import visualize
from deeplab_tf.inference.probabilities import predict_probabilities
from deeplab_tf.inference.scores import PLAIN
from deeplab_tf.networks.deeplab import DeepLab
from deeplab_tf.runtime import files, memory

HISTORY_FILE = "validation.json"
_SAMPLES = 3  # images whose labels are kept for a picture
_SAMPLE_HEIGHT = 320


class Score(NamedTuple):
    """The result of a validation.

    Attributes:
        miou: mean IoU, 0..1.
        per_class: the IoU of each class, None where it is not defined; empty where an earlier version validated.
    """

    miou: float
    per_class: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class ValidationSplit:
    """A split to validate on.

    Attributes:
        name: of the split.
        count: how many examples there are.
        examples: gives all of them: image id, image uint8 [H, W, 3], labels int [H, W].
    """

    name: str
    count: int
    examples: Callable[[], Iterable[tuple[str, np.ndarray, np.ndarray]]]


class Validation:
    """Scores a network in training as eval.py would, and keeps the best weights.

    WORKDIR/validation.json has the IoU of every validation, WORKDIR/best.weights.h5 the weights of the best mean; of
    equal ones the earlier.

    Args:
        workdir: where these two go.
        split: what to validate on.
        info: the classes.
        inference: how the network is run.

    Raises:
        UserError: validation.json cannot be read, or is about another split.
    """

    def __init__(
        self, workdir: str, split: ValidationSplit, info: DatasetInfo, inference: InferenceConfig = PLAIN
    ) -> None:
        self._split = split
        self._info = info
        self._inference = inference
        self._workdir = workdir
        self._history_path = os.path.join(workdir, HISTORY_FILE)
        self._history = _read_history(self._history_path, split.name)
        self._samples: list[list[np.ndarray]] = []

    def has(self, step: int) -> bool:
        """Says whether the weights of this step were validated."""
        return step in self._history

    def run(self, model: DeepLab, step: int, interrupted: Sequence[Any] = ()) -> float | None:
        """Validates.

        Args:
            model: the network.
            step: how many updates it has seen.
            interrupted: looked at after each image; once it is not empty, validation is given up.

        Returns:
            The mean IoU, 0..1, or None where it was interrupted.

        Raises:
            UserError: the results cannot be written.
        """
        matrix = ConfusionMatrix(self._info.num_classes, self._info.ignore_label)
        shown = {number * self._split.count // _SAMPLES for number in range(_SAMPLES)}
        self._samples = []
        for number, (_, image, labels) in enumerate(self._split.examples()):
            if interrupted:
                return None
            height, width = image.shape[:2]
            with memory.explaining_exhaustion(f"validating an image of {width}x{height} pixels", self._smaller):
                probabilities = predict_probabilities(model, image, self._inference)
            predicted = np.argmax(probabilities, axis=-1)
            matrix.update(labels, predicted)
            if number in shown:
                colours = (visualize.colourize(one, self._info.palette) for one in (labels, predicted))
                self._samples.append([image, *colours])
        summary = matrix.summary(self._info.class_names)
        miou = summary["miou"] or 0.0
        if miou > max((score.miou for score in self._history.values()), default=-1.0):
            workdirs.save_weights(model, self._workdir, workdirs.BEST_WEIGHTS_FILE)
        self._history[step] = Score(miou, summary["per_class_iou"])
        best = self._best_step()
        content = {
            "split": self._split.name,
            "best": {"step": best, "miou": self._history[best].miou},
            "history": [
                {"step": at, "miou": score.miou, "per_class_iou": score.per_class}
                for at, score in sorted(self._history.items())
            ],
        }
        files.write_json(self._history_path, content)
        return miou

    @property
    def scores(self) -> Mapping[int, Score]:
        """The results by step."""
        return self._history

    def scalars(self, step: int) -> dict[str, float]:
        """Returns the results of a step under the names that TensorBoard is to show."""
        score = self._history[step]
        of_classes = {f"validation/iou/{name}": iou for name, iou in score.per_class.items() if iou is not None}
        return {"validation/miou": score.miou, **of_classes}

    def picture(self) -> np.ndarray | None:
        """Shows images of the split, the same each time, with truth and network, as of the last `run` that ended.

        Returns:
            uint8 [H, W, 3], or None before.
        """
        if not self._samples:
            return None
        titles, info = ["image", "truth", "network"], self._info
        return visualize.panel(self._samples, titles, (), info.class_names, info.palette, _SAMPLE_HEIGHT)

    def describe(self, step: int) -> str:
        """Returns a line about a validation."""
        best = self._best_step()
        comparison = "best so far" if best == step else f"best {100 * self._history[best].miou:.2f} % at step {best}"
        return (
            f"step {step}  mIoU {100 * self._history[step].miou:.2f} % on {self._split.count} images of "
            f"{self._split.name}, {comparison}"
        )

    def validations_since_best(self, step: int) -> int:
        """Counts the validations after the best one, of those up to a step."""
        scores = {at: score.miou for at, score in self._history.items() if at <= step}
        best = max(scores, key=lambda at: (scores[at], -at), default=0)
        return sum(at > best for at in scores)

    def forget_after(self, step: int) -> None:
        """Forgets the scores of later steps, which will be trained anew, but for the one that has the best weights."""
        best = self._best_step() if self._history else 0
        self._history = {at: score for at, score in self._history.items() if at <= step or at == best}

    def _smaller(self) -> str:
        tile = self._inference.tile
        return f"Validate in {'smaller ' if tile else ''}tiles: --set=inference.tile={tile // 2 if tile else 513}."

    def _best_step(self) -> int:
        return max(self._history, key=lambda step: (self._history[step].miou, -step))


def _read_history(path: str, split: str) -> dict[int, Score]:
    try:
        content = files.read_json(path)
        if content["split"] != split:
            raise UserError(
                f"{path} is about the split {content['split']}, not {split}: their scores cannot be compared. "
                "Move it away to validate on another split."
            )
        return {
            int(entry["step"]): Score(float(entry["miou"]), dict(entry.get("per_class_iou", {})))
            for entry in content["history"]
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}. Move it away to begin a new one.") from error
