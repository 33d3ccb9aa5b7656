"""Scores exported models on a data set: python -m benchmarks.exported_accuracy DATA_DIR SPLIT IMAGES MODEL [MODEL ...].

A MODEL is a workdir, or what export.py wrote. All see the same images, the first IMAGES of the split (0 for
all), one after the other. The table has the mean IoU over them; the share of the pixels that get the label of the first
model; the largest difference of the two likeliest classes' probabilities where they do not, if the first model gives
probabilities; and the seconds of an image.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from datasets import pipeline
from datasets.stored import tfrecord
from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.export.load import load_segmenter


def main(data_dir: str, split: str, count: int, paths: list[str]) -> None:
    """Prints the table."""
    manifest = tfrecord.read_manifest(data_dir)
    count = count or manifest.split(split).count
    models = {}
    for path in paths:
        models[path] = load_segmenter(path).segmenter
    matrices = {path: ConfusionMatrix(manifest.info.num_classes, manifest.info.ignore_label) for path in paths}
    seconds = dict.fromkeys(paths, 0.0)
    differing, widest, pixels = dict.fromkeys(paths, 0), dict.fromkeys(paths, 0.0), 0
    reference = models[paths[0]]
    for _, image, labels in pipeline.evaluation_examples(data_dir, split).take(count).as_numpy_iterator():
        probabilities = first = None
        pixels += labels.size
        for path, segmenter in models.items():
            begin = time.monotonic()
            prediction = segmenter.segment(image)
            predicted = prediction.labels
            if segmenter is reference:
                probabilities = prediction.probabilities
            seconds[path] += time.monotonic() - begin
            matrices[path].update(labels, predicted)
            first = predicted if first is None else first
            differs = predicted != first
            differing[path] += int(differs.sum())
            if differs.any() and probabilities is not None:
                top = np.sort(probabilities[differs], axis=-1)
                widest[path] = max(widest[path], float((top[:, -1] - top[:, -2]).max()))
    print(f"{'mIoU %':>8}{'same %':>10}{'widest gap':>12}{'s':>8}  model")
    for path in paths:
        miou = matrices[path].summary(manifest.info.class_names)["miou"]
        print(
            f"{100 * miou:8.2f}{100 * (1 - differing[path] / pixels):10.4f}"
            f"{widest[path]:12.4f}{seconds[path] / count:8.3f}  {path}"
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
