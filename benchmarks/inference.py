"""Times exported networks against the same networks in PyTorch, in turns, on this CPU.

  python benchmarks/inference.py --torch_python=VENV/bin/python [--networks=resnet101_aspp,vgg16_large_fov]

From uint8 pixels to labels and confidence, 513x513, one image, weights at random. Each implementation runs in a process
of its own, so that load time and memory are its own. They run in turns, twice each time, and the second answer
counts. TensorFlow is told, as predict.py tells it, that weights do not change; with
TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=0 before the command it is not. PyTorch (benchmarks/torch_inference.py) needs an
environment with torch; without --torch_python it is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
SIDE, CLASSES = 513, 21
VARIANTS = {
    "TensorFlow float32": {"precision": "float32", "size": (SIDE, SIDE)},
    "TensorFlow float32, any size": {"precision": "float32"},
    "TensorFlow float32, --nowinograd": {"precision": "float32", "size": (SIDE, SIDE), "winograd": False},
    "TensorFlow bfloat16": {"precision": "bfloat16", "size": (SIDE, SIDE)},
    "TensorFlow float32, with CRF": {"precision": "float32", "size": (SIDE, SIDE), "crf": True},
}
TORCH = ("eager", "eager bfloat16", "compile", "compile bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet101_aspp,vgg16_large_fov")
    parser.add_argument("--torch_python", default="")
    parser.add_argument("--variants", default="", help="some of those that are printed, by the start of their names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answer", default="", help="answer for this SavedModel (for the benchmark's own use)")
    arguments = parser.parse_args()
    if arguments.answer:
        answer(arguments.answer)
        return
    for network in arguments.networks.split(","):
        compare(network, arguments)


def compare(network: str, arguments: argparse.Namespace) -> None:
    """Starts one process for each implementation, runs them in turns, and prints a table."""
    commands: dict[str, list[str]] = {}
    wanted = tuple(arguments.variants.split(",")) if arguments.variants else ("",)
    with tempfile.TemporaryDirectory() as folder:
        variants = {name: options for name, options in VARIANTS.items() if name.startswith(wanted)}
        paths = export(network, folder, variants)
        for name, path in paths.items():
            commands[name] = [sys.executable, __file__, f"--answer={path}"]
        for mode in TORCH if arguments.torch_python else ():
            if f"PyTorch {mode}".startswith(wanted):
                commands[f"PyTorch {mode}"] = [
                    arguments.torch_python,
                    str(ROOT / "benchmarks" / "torch_inference.py"),
                    network,
                    mode,
                    str(SIDE),
                ]
        workers = {name: Worker(command) for name, command in commands.items()}
        for worker in workers.values():
            worker.start()
        dice = random.Random(0)
        for _ in range(arguments.rounds):
            # In another order each time, because it matters who came before.
            for worker in dice.sample(list(workers.values()), len(workers)):
                worker.ask()
        print(f"\n{network}, {SIDE}x{SIDE}, batch 1")
        print(f"{'':<34}{'best s':>8}{'median s':>10}{'ratio':>8}{'CPU s':>8}{'load s':>8}{'first s':>9}{'peak MB':>9}")
        reference = workers.get("PyTorch eager")
        for name, worker in workers.items():
            best, median = min(worker.seconds), sorted(worker.seconds)[len(worker.seconds) // 2]
            ratio = f"{min(reference.seconds) / best:8.2f}" if reference else f"{'':>8}"
            start = worker.started
            print(
                f"{name:<34}{best:8.3f}{median:10.3f}{ratio}{min(worker.cpu):8.3f}{start['load']:8.1f}{start['first']:9.1f}"
                f"{worker.peak_mb:9.0f}",
                flush=True,
            )
        print(
            "ratio: seconds of PyTorch eager float32 over its own (the best of each); CPU s: of all threads, the least"
        )
        for worker in workers.values():
            worker.stop()


class Worker:
    """A process that answers one image for each line it is sent."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.seconds: list[float] = []
        self.cpu: list[float] = []
        self.peak_mb = 0.0

    def start(self) -> None:
        """Starts the process and waits until it has answered once."""
        environment = {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1", **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.started = self._read()

    def ask(self) -> None:
        """Lets it answer once, and notes the time."""
        # Threads that wait for work by spinning, as some libraries' do for a moment, are to have gone to sleep.
        time.sleep(0.3)
        pipe: IO[str] = self.process.stdin  # type: ignore[assignment]
        pipe.write("\n")
        pipe.flush()
        answer = self._read()
        self.seconds.append(answer["seconds"])
        self.cpu.append(answer["cpu"])
        self.peak_mb = answer["peak_mb"]

    def stop(self) -> None:
        """Ends it."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()

    def _read(self) -> dict[str, float]:
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            sys.exit(f"error: {' '.join(self.command)} ended; run it by hand to see why.")
        return json.loads(line)


def export(network: str, folder: str, variants: dict[str, dict]) -> dict[str, str]:
    """Writes a SavedModel for each variant, in a process of its own, and returns their paths."""
    paths = {name: os.path.join(folder, str(number)) for number, name in enumerate(variants)}
    code = f"""
import dataclasses, sys
sys.path.insert(0, {str(ROOT)!r})
import keras
from deeplab_tf.config import EXPERIMENTS, InferenceConfig
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.networks.deeplab import build_network
from deeplab_tf.export.saved_model import export_saved_model
info = DatasetInfo("random", tuple(f"class {{i}}" for i in range({CLASSES})), pascal_palette({CLASSES}))
for options, path in {[(options, paths[name]) for name, options in variants.items()]!r}:
    keras.utils.set_random_seed(0)
    asked = InferenceConfig(winograd=options.pop("winograd", True))
    config = dataclasses.replace(EXPERIMENTS[{network!r}], dataset=info, inference=asked)
    model = build_network(config.model, info.num_classes, options.pop("precision"))
    export_saved_model(model, config, path, **options)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    return {name: os.path.join(path, "saved_model", "1") for name, path in paths.items()}


def answer(path: str) -> None:
    """Loads a SavedModel and answers; says how long it took and how much memory."""
    import resource

    import numpy as np
    import tensorflow as tf

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    model = tf.saved_model.load(path)
    segment = model.signatures["serving_default"]
    loaded = time.perf_counter()
    image = tf.constant(photograph(np)[np.newaxis])
    segment(images=image)["labels"].numpy()
    print(json.dumps({"load": loaded - begin, "first": time.perf_counter() - loaded}), flush=True)
    for _ in sys.stdin:
        segment(images=image)["labels"].numpy()  # its weights are in the caches again, as when it answers alone
        begin, cpu = time.perf_counter(), time.process_time()
        segment(images=image)["labels"].numpy()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak}), flush=True)


def photograph(np):
    """Soft patches of colour with a little noise, uint8 [SIDE, SIDE, 3]: something that a CRF can group."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (9, 9, 3)).astype(np.float32)
    cells = np.linspace(0, 7.999, SIDE)
    low, rest = cells.astype(int), (cells % 1)[:, None, None]
    rows = patches[low] * (1 - rest) + patches[low + 1] * rest  # [SIDE, 9, 3]
    rest = rest[None, :, 0]
    image = rows[:, low] * (1 - rest) + rows[:, low + 1] * rest
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
