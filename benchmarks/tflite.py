"""Times TensorFlow Lite files, one after the other in turns: python benchmarks/tflite.py FILE [FILE ...].

The interpreter is that of the package ai-edge-litert where it is installed, else TensorFlow's own; both compute with
XNNPACK where it can. The times are of the fastest of some calls: a machine that does something else too only adds.
"""

from __future__ import annotations

import os
import sys
import time
import warnings

import numpy as np

ROUNDS, SECONDS = 20, 60.0


def main(paths: list[str], threads: int = 2) -> None:
    """Prints a table: megabytes, milliseconds, and those of all threads together."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    warnings.simplefilter("ignore")
    models = {}
    for path in paths:
        interpreter = Interpreter(model_path=path, num_threads=threads)
        interpreter.allocate_tensors()
        [taken] = interpreter.get_input_details()
        image = np.random.default_rng(0).integers(0, 256, taken["shape"], np.uint8)
        interpreter.set_tensor(taken["index"], image)
        interpreter.invoke()
        models[path] = interpreter
    seconds: dict[str, list[float]] = {path: [] for path in paths}
    cpu: dict[str, list[float]] = {path: [] for path in paths}
    begin = time.monotonic()
    for _ in range(ROUNDS):
        for path, interpreter in models.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            interpreter.invoke()
            seconds[path].append(time.perf_counter() - start)
            cpu[path].append(time.process_time() - start_cpu)
        if time.monotonic() - begin > SECONDS:
            break
    print(f"{'file':<64}{'MB':>8}{'ms, best':>10}{'median':>10}{'CPU ms':>10}")
    for path, times in seconds.items():
        columns = [min(times), float(np.median(times)), min(cpu[path])]
        print(
            f"{os.path.basename(path):<64}{os.path.getsize(path) / 1e6:8.1f}"
            + "".join(f"{1e3 * value:10.1f}" for value in columns)
        )


if __name__ == "__main__":
    main(sys.argv[1:])
