"""Exports networks to every format and runs each in its own runtime, in one table.

python -m benchmarks.runtimes PICTURES SIZE ROUNDS NETWORK [NETWORK ...]

PICTURES is a folder of photographs, SIZE a number of pixels or "any", a NETWORK a workdir or the name of an experiment,
with weights at random. Each file is compared with the network, as export.py does, and then all of them segment one
photograph in turn, ROUNDS times; the table has the size, the share of the pixels with the label of the network, and the
least seconds of an image. Needs requirements-export.txt.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf import workdir
from deeplab_tf.config import Config
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.experiments import EXPERIMENTS, experiment_config
from deeplab_tf.export import onnx, openvino
from deeplab_tf.export.compare import pictures_of_two_sizes
from deeplab_tf.export.saved_model import export_saved_model
from deeplab_tf.images.files import pixels_of
from deeplab_tf.images.fit import fit_image
from deeplab_tf.layers.conv_batch_norm import measuring_statistics
from deeplab_tf.networks.deeplab import DeepLab, build_network

CLASSES = DatasetInfo("random", tuple(f"class_{i}" for i in range(21)), pascal_palette(21))
CALIBRATED_ON = 20


def main(folder: str, size_text: str, rounds: int, networks: list[str]) -> None:
    """Prints the table."""
    import onnxruntime
    from openvino import Core

    photographs = [pixels_of(str(path)) for path in sorted(Path(folder).glob("*.jpg"))[:CALIBRATED_ON]]
    size = (None, None) if size_text == "any" else (int(size_text), int(size_text))
    print(f"{'network':28}{'format':22}{'MB':>8}{'same %':>10}{'s':>9}", flush=True)
    for name in networks:
        model, config = network(name, photographs[0])
        fitted = [fit_image(one, size, model.mean_rgb)[0] if None not in size else one for one in photographs]
        pictures = fitted[:2] if None not in size else pictures_of_two_sizes(photographs, model.size_multiple)
        image = pictures[0][np.newaxis]
        with tempfile.TemporaryDirectory() as out:
            rows: dict[str, tuple[float, float, Callable[[], Any]]] = {}
            reference = None
            for precision in ("float32", "bfloat16"):
                chosen = model if precision == "float32" else in_precision(model, config, precision)
                path = export_saved_model(chosen, config, os.path.join(out, precision), size=size)
                loaded = tf.saved_model.load(path)
                run = saved_model(loaded, image)
                labels = run()
                reference = labels if reference is None else reference
                rows[f"SavedModel {precision}"] = (megabytes(path), float((labels == reference).mean()), run)
            common: dict[str, Any] = {"size": size, "pictures": pictures}
            for written in onnx.export_onnx(model, config, out, list(onnx.FORMATS), calibration=fitted, **common):
                session = onnxruntime.InferenceSession(written.path)
                row = (written.num_bytes / 1e6, written.agreement, run_onnx(session, image))
                rows[Path(written.path).stem.removeprefix(config.experiment).replace("_", " ") or "onnxruntime"] = row
            int8 = onnx.onnx_path(out, config, "onnx_int8")
            written = openvino.export_openvino(model, config, out, **common)
            for label, path, hint in (
                ("f32", written.path, "f32"),
                ("bf16", written.path, "bf16"),
                ("int8", int8, "f32"),
            ):
                compiled = Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint})
                run = run_openvino(compiled, image)
                agreement = float((run() == reference).mean())
                rows[f"OpenVINO {label}"] = (os.path.getsize(path) / 1e6, agreement, run)
            least = dict.fromkeys(rows, float("inf"))
            for _ in range(rounds):
                for label, (*_, run) in rows.items():
                    begin = time.perf_counter()
                    run()
                    least[label] = min(least[label], time.perf_counter() - begin)
            for label, (size_mb, agreement, _) in rows.items():
                print(f"{name:28}{label:22}{size_mb:8.1f}{100 * agreement:10.3f}{least[label]:9.3f}", flush=True)


def network(name: str, photograph: np.ndarray) -> tuple[DeepLab, Config]:
    """Loads a workdir, or builds an experiment whose scores tell classes apart."""
    if name not in EXPERIMENTS:
        return workdir.load(name, workdir.read_config(name))
    keras.utils.set_random_seed(0)
    config = dataclasses.replace(experiment_config(name), dataset=CLASSES)
    model = build_network(dataclasses.replace(config.model, atrous="dilated"), CLASSES.num_classes)
    images = tf.constant(photograph[np.newaxis, :129, :129].astype(np.float32))
    with measuring_statistics():
        model(images)
    for layer in model.head._flatten_layers():
        if layer.name.split("_")[0] == model.head.classifier:
            layer.kernel.assign(layer.kernel * (3 / np.std(model(images), axis=(0, 1, 2))))
    return model, config


def in_precision(model: DeepLab, config: Config, precision: str) -> DeepLab:
    """Returns the network with its weights, computing in another precision."""
    other = build_network(config.model, config.info.num_classes, precision)
    other.set_weights(model.get_weights())
    return other


def saved_model(loaded: Any, image: np.ndarray) -> Callable[[], np.ndarray]:
    signature, images = loaded.signatures["serving_default"], tf.constant(image)
    return lambda: (loaded, signature(images=images)["labels"].numpy())[1]


def run_onnx(session: Any, image: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: session.run(["labels"], {"images": image})[0]


def run_openvino(compiled: Any, image: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: np.array(compiled({"images": image})["labels"])


def megabytes(folder: str) -> float:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
