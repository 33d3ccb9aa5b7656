"""Whole networks on a GPU: images a second and memory, by precision, implementation of atrous convolution, and XLA.

    python -m benchmarks.gpu --out=DIR

train      a step of training at a crop of 321 pixels, as train.py does it
predict    images of 513 pixels to probabilities, as eval.py does it, several at once

DIR/gpu.json keeps the results; the same command goes on where it stopped. Works without a GPU too, slowly.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import timing
from benchmarks.train_step import build_step
from deeplab_tf.errors import in_short
from deeplab_tf.runtime import command_line

FLAGS = flags.FLAGS
COLUMNS = ("", "network", "precision", "atrous", "XLA", "batch", "images/s", "(quartiles)", "GB", "first call, s")
NETWORKS = ("vgg16_large_fov", "resnet101_aspp", "efficientnet_lite0_aspp")
WARM_UP, CALLS, ROUNDS = 3, 10, 5


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed."""

    task: str
    network: str
    precision: str
    atrous: str
    xla: bool
    batch: int

    @property
    def name(self) -> str:
        """What it is, as columns of a table."""
        fields = {**dataclasses.asdict(self), "xla": "yes" if self.xla else "no"}
        return " | ".join(map(str, fields.values()))


def cases() -> list[Case]:
    """The most telling first."""
    return [
        Case(task, network, precision, atrous, xla, FLAGS.batch_size)
        for xla in (False, True)
        for precision in ("bfloat16", "float32", "float16")
        for atrous in ("deinterlace", "dilated")
        for network in NETWORKS
        for task in ("train", "predict")
        if task == "train" or not xla
    ]


def training_step(case: Case) -> Callable[[], Any]:
    settings = [f"train.precision={case.precision}", f"model.atrous={case.atrous}", "train.crop_size=321"]
    return build_step(case.network, case.batch, settings, case.xla)


def prediction(case: Case) -> Callable[[], Any]:
    import tensorflow as tf

    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.inference.fold import fold_weights
    from deeplab_tf.inference.probabilities import build_inference
    from deeplab_tf.networks.deeplab import build_network

    # A training before this one may have switched it off; eval.py leaves it on.
    tf.config.optimizer.set_experimental_options({"layout_optimizer": True})
    config = dataclasses.replace(experiment_config(case.network).model, atrous=case.atrous)
    folded = fold_weights(build_inference(build_network(config, 21, case.precision), size=(513, 513)))
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (case.batch, 513, 513, 3)), tf.uint8)
    return lambda: folded.answer(images)


def measure(case: Case) -> dict[str, Any]:
    """Builds and times; the calls of a round are waited for together, as a GPU works while the next is prepared."""
    import tensorflow as tf

    on_gpu = bool(tf.config.list_logical_devices("GPU"))
    if on_gpu:
        tf.config.experimental.reset_memory_stats("GPU:0")

    def run(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            answer = step()
        float(tf.reshape(answer, [-1])[0])
        return (time.perf_counter() - begin) / calls

    step = {"train": training_step, "predict": prediction}[case.task](case)
    first = run(1)
    run(WARM_UP if on_gpu else 1)
    low, median, high = np.percentile([run(CALLS if on_gpu else 1) for _ in range(ROUNDS)], [25, 50, 75])
    return {
        "machine": timing.machine(),
        **{"median": case.batch / median, "low": case.batch / high, "high": case.batch / low},
        **{"gigabytes": (timing.gpu_peak_bytes() or np.nan) / 1e9, "first": first},
    }


def row(name: str, result: dict[str, Any]) -> str:
    """A line of the table."""
    if "failed" in result:
        return f"| {name} | {result['failed']} | | | |"
    rates = f"{result['median']:.1f} | ({result['low']:.1f}-{result['high']:.1f})"
    return f"| {name} | {rates} | {result['gigabytes']:.1f} | {result['first']:.0f} |"


def main() -> None:
    import keras
    import tensorflow as tf

    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "gpu.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    end = time.perf_counter() + 60 * FLAGS.minutes
    print(f"{timing.machine()}\n\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for case in cases():
        if FLAGS.only not in case.name or case.name in results:
            continue
        if time.perf_counter() > end:
            print(f"stopped after {FLAGS.minutes:g} minutes; the same command goes on")
            break
        try:
            results[case.name] = measure(case)
        except tf.errors.OpError as error:  # out of memory, or what XLA cannot compile, is a result
            results[case.name] = {"failed": f"{type(error).__name__}: {in_short(error)}"}
        keras.backend.clear_session()
        gc.collect()
        path.write_text(json.dumps(results, indent=1))
        print(row(case.name, results[case.name]), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("out", "build/benchmarks", "Folder of the results.")
    flags.DEFINE_integer("batch_size", 16, "Images at once.")
    flags.DEFINE_string("only", "", "Only rows with this in them, such as 'train | vgg16_large_fov'.")
    flags.DEFINE_float("minutes", 60, "Stop after so many; the same command goes on later.")
    command_line.run(main)
