"""Exports networks to every format and times each file in its own runtime, in one table.

    python -m benchmarks.runtimes FOLDER PICTURES SIZE 0 NETWORK [NETWORK ...]
    python -m benchmarks.runtimes FOLDER PICTURES SIZE ROUNDS NETWORK [NETWORK ...] [--torch_python=VENV/bin/python]

PICTURES is a folder of photographs, a NETWORK a workdir or the name of an experiment, made up by
benchmarks/made_up_networks.py. The first command writes the files into FOLDER, as export.py does. The second writes
what is missing, and times: every way runs in a process of its own, which has loaded the file and answered twice before,
and they answer one photograph of SIZE x SIZE in turns. The table has the megabytes, the share of pixels with the label
of the network in float32, and the least and the median seconds of ROUNDS. PyTorch (benchmarks/torch_inference.py) runs
in its own environment, with weights at random; without --torch_python it is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CALIBRATED_ON, CLASSES = 20, 21
TORCH = ("eager", "eager bfloat16", "compile", "compile bfloat16")
# Of its PyTorch twin.
TWINS = ("vgg16_large_fov", "resnet101_aspp", "efficientnet_lite0_aspp")
# Name of the row: format, what runs it, and the precision.
ROWS = {
    "SavedModel float32": ("saved_model_float32", "tensorflow", ""),
    "SavedModel bfloat16": ("saved_model_bfloat16", "tensorflow", ""),
    "onnx, onnxruntime": ("onnx", "onnxruntime", ""),
    "onnx_float16, onnxruntime": ("onnx_float16", "onnxruntime", ""),
    "onnx_int8, onnxruntime": ("onnx_int8", "onnxruntime", ""),
    "onnx_int8, OpenVINO": ("onnx_int8", "openvino", "f32"),
    "openvino float32": ("openvino", "openvino", "f32"),
    "openvino bfloat16": ("openvino", "openvino", "bf16"),
    "openvino_int8": ("openvino_int8", "openvino", "f32"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="+")
    parser.add_argument("--torch_python", default="")
    options = parser.parse_args()
    if options.arguments[0] == "answer":
        answer(*options.arguments[1:])
        return
    folder, pictures, size, rounds, *networks = options.arguments
    prepared = {name: prepare(Path(folder), pictures, int(size), name) for name in networks}
    if not int(rounds):
        return
    print(f"{'network':26}{'':28}{'MB':>8}{'same %':>10}{'least s':>9}{'median':>9}", flush=True)
    for name, paths in prepared.items():
        compare(name, paths, Path(folder) / name, int(size), int(rounds), options.torch_python)


def prepare(folder: Path, pictures: str, size: int, name: str) -> dict[str, str]:
    """Writes what is missing of a network; returns the paths by the names of the formats."""
    out = folder / name
    listed = out / "paths.json"
    if listed.exists():
        return json.loads(listed.read_text())
    from benchmarks.made_up_networks import made_up_network
    from deeplab_tf import workdir
    from deeplab_tf.experiments import EXPERIMENTS
    from deeplab_tf.export import onnx, openvino
    from deeplab_tf.export.saved_model import export_saved_model
    from deeplab_tf.images.files import pixels_of
    from deeplab_tf.images.fit import fit_image
    from deeplab_tf.networks.deeplab import build_network, rebuild

    photographs = [pixels_of(str(path)) for path in sorted(Path(pictures).glob("*.jpg"))[:CALIBRATED_ON]]
    if name in EXPERIMENTS:
        model, config = made_up_network(name, photographs, CLASSES)
    else:
        model, config = workdir.load(name, workdir.read_config(name))
    fitted = [fit_image(one, (size, size), model.mean_rgb)[0] for one in photographs]
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "image.npy", fitted[0][np.newaxis])
    paths = {}
    for precision in ("float32", "bfloat16"):
        chosen = build_network(config.model, config.info.num_classes, precision)
        chosen.set_weights(model.get_weights())
        written = export_saved_model(chosen, config, str(out / precision), size=(size, size), overwrite=True)
        paths[f"saved_model_{precision}"] = written
    dilated = rebuild(model, "dilated")
    common: dict[str, Any] = {"size": (size, size), "pictures": fitted[:2], "calibration": fitted, "overwrite": True}
    if name in EXPERIMENTS:  # made up: here only the time counts
        for module in (onnx, openvino):
            module.FORMATS.update({key: one._replace(share=1.0) for key, one in module.FORMATS.items()})
    for module, formats in ((onnx, onnx.FORMATS), (openvino, openvino.FORMATS)):
        write = module.export_onnx if module is onnx else module.export_openvino
        for format_name, one in zip(formats, write(dilated, config, str(out), list(formats), **common), strict=True):
            paths[format_name] = one.path
            print(f"{name} {format_name}: {one}", flush=True)
    listed.write_text(json.dumps(paths))
    return paths


def compare(name: str, paths: dict[str, str], folder: Path, size: int, rounds: int, torch_python: str) -> None:
    """Starts a process for each way, lets them answer in turns, and prints a table."""
    module = [sys.executable, "-m", "benchmarks.runtimes", "answer"]
    image = str(folder / "image.npy")
    workers = {}
    for label, (format_name, runtime, precision) in ROWS.items():
        workers[label] = Worker([*module, runtime, paths[format_name], image, precision])
    for mode in TORCH if torch_python and name in TWINS else ():
        script = str(ROOT / "benchmarks" / "torch_inference.py")
        workers[f"PyTorch {mode}"] = Worker([torch_python, script, name, mode, str(size)])
    first = {label: worker.read() for label, worker in workers.items()}
    seconds: dict[str, list[float]] = {label: [] for label in workers}
    dice = random.Random(0)
    for _ in range(rounds):
        # In another order each time, because it matters who came before.
        for label in dice.sample(list(workers), len(workers)):
            seconds[label].append(workers[label].ask()["seconds"])
    reference = np.array(first["SavedModel float32"]["labels"], np.uint8)
    for label, times in seconds.items():
        labels = first[label].get("labels")
        same = f"{100 * np.mean(np.array(labels, np.uint8) == reference):10.3f}" if labels else f"{'':10}"
        megabytes = f"{num_bytes(paths[ROWS[label][0]]) / 1e6:8.1f}" if label in ROWS else f"{'':8}"
        print(f"{name:26}{label:28}{megabytes}{same}{min(times):9.4f}{median(times):9.4f}", flush=True)
    for worker in workers.values():
        worker.stop()


class Worker:
    """A process that answers a line with a line of JSON."""

    def __init__(self, command: list[str]) -> None:
        environment = os.environ | {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self) -> dict[str, Any]:
        """Returns the next line that is JSON."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self._process.args} ended")

    def ask(self) -> dict[str, Any]:
        """Lets it answer the image twice, and returns the time of the second."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.read()

    def stop(self) -> None:
        """Ends the process."""
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()


def answer(runtime: str, path: str, image_path: str, precision: str) -> None:
    """Loads a file, and then times an answer for each line of the standard input."""
    image = np.load(image_path)
    run = RUNTIMES[runtime](path, image, precision)
    run()
    print(json.dumps({"labels": run().tolist()}), flush=True)
    for _ in sys.stdin:
        run()  # its weights are in the caches again, as when it answers alone
        begin = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


def by_tensorflow(path: str, image: np.ndarray, _: str) -> Any:
    import tensorflow as tf

    loaded, images = tf.saved_model.load(path), tf.constant(image)
    signature = loaded.signatures["serving_default"]

    def run() -> np.ndarray:
        found = signature(images=images)
        found["confidence"].numpy()
        return (loaded, found["labels"].numpy())[1]

    return run


def by_onnxruntime(path: str, image: np.ndarray, _: str) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda: session.run(["labels", "confidence"], {"images": image})[0]


def by_openvino(path: str, image: np.ndarray, precision: str) -> Any:
    from openvino import Core

    compiled = Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda: np.array(compiled({"images": image})["labels"])


RUNTIMES = {"tensorflow": by_tensorflow, "onnxruntime": by_onnxruntime, "openvino": by_openvino}


def num_bytes(path: str) -> int:
    """Returns the bytes of a file, its weights included, or of all files of a folder."""
    one = Path(path)
    beside = [one.with_suffix(".bin")] if one.suffix == ".xml" else []
    files = list(one.rglob("*")) if one.is_dir() else [one, *beside]
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
