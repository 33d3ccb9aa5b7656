"""How fast training is: against plain PyTorch, against the paper's Table 1, and what the loop itself costs.

    python -m benchmarks.training --what=torch --torch_python=/path/to/python-with-torch
    python -m benchmarks.training --what=table1
    python -m benchmarks.training --what=loop --data_dir=DIR

Two processes train the same network on the same random batch in turns, one step each, so that whatever else the machine
does hits both; the medians are compared. `loop` trains on a data set and says how much of the time is not the
network's, and how fast the input pipeline is alone.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags

from benchmarks import timing
from benchmarks.train_step import build_step
from deeplab_tf.runtime import command_line

FLAGS = flags.FLAGS
flags.DEFINE_enum("what", "torch", ["torch", "table1", "loop"], "What to measure.")
flags.DEFINE_list("experiments", ["vgg16_large_fov", "resnet101_aspp"], "With --what=torch: networks.")
flags.DEFINE_list("batch_sizes", ["1", "4"], "Images of a step.")
flags.DEFINE_list("precisions", ["float32", "bfloat16"], "What to compute in.")
flags.DEFINE_integer("crop_size", 321, "Side of the images.")
flags.DEFINE_integer("rounds", 5, "Timed steps of each.")
flags.DEFINE_string("torch_python", sys.executable, "A Python that has torch.")
flags.DEFINE_string("data_dir", "", "With --what=loop: folder written by datasets.convert.")
flags.DEFINE_integer("iterations", 30, "With --what=loop: steps.")
flags.DEFINE_string("time_one", "", "For the benchmark itself: EXPERIMENT,BATCH,CROP,PRECISION to time on request.")


class Timed:
    """A process that trains one network, a step at each request."""

    def __init__(self, command: list[str]) -> None:
        # Without the second, one process would take all of a GPU's memory.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        if self._read() != "ready":
            raise SystemExit(f"{' '.join(command)} does not work.")

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def step(self) -> tuple[float, int]:
        """Returns the seconds of a step, and the peak of the memory in bytes: of the GPU, else of the process."""
        assert self._process.stdin
        print("step", file=self._process.stdin, flush=True)
        seconds, peak = self._read().split()
        return float(seconds), int(peak)

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate()


def ours(experiment: str, batch: int, precision: str) -> Timed:
    spec = f"{experiment},{batch},{FLAGS.crop_size},{precision}"
    return Timed([sys.executable, "-m", "benchmarks.training", f"--time_one={spec}"])


def torchs(experiment: str, batch: int, precision: str) -> Timed:
    script = os.path.join(os.path.dirname(__file__), "torch_networks.py")
    return Timed([FLAGS.torch_python, script, experiment, str(batch), str(FLAGS.crop_size), precision])


def compare(*processes: Timed) -> tuple[list[float], list[float]]:
    """Lets processes step in turns; returns the median seconds of each, and the peak memory of each in GB."""
    seconds: list[list[float]] = [[] for _ in processes]
    peaks = [0] * len(processes)
    for number in range(FLAGS.rounds + 2):  # the first two steps prepare
        for index, process in enumerate(processes):
            taken, peaks[index] = process.step()
            if number >= 2:
                seconds[index].append(taken)
    for process in processes:
        process.stop()
    return [statistics.median(times) for times in seconds], [peak / 1e9 for peak in peaks]


def against_torch() -> None:
    print(f"{'network':<18}{'batch':>6}  {'precision':<10}{'ours':>9}{'torch':>9}{'ratio':>8}{'ours':>9}{'torch':>9}")
    print(f"{'':<18}{'':>6}  {'':<10}{'img/s':>9}{'img/s':>9}{'':>8}{'GB':>9}{'GB':>9}", flush=True)
    for experiment in FLAGS.experiments:
        for batch in map(int, FLAGS.batch_sizes):
            for precision in FLAGS.precisions:
                (a, b), (memory_a, memory_b) = compare(
                    ours(experiment, batch, precision), torchs(experiment, batch, precision)
                )
                print(
                    f"{experiment:<18}{batch:>6}  {precision:<10}{batch / a:>9.3f}{batch / b:>9.3f}{b / a:>8.2f}"
                    f"{memory_a:>9.2f}{memory_b:>9.2f}",
                    flush=True,
                )


def table1() -> None:
    for batch in map(int, FLAGS.batch_sizes):
        (a, b), _ = compare(ours("vgg16_large_fov", batch, "float32"), ours("vgg16_7x7_r4", batch, "float32"))
        print(f"batch {batch}: LargeFOV {batch / a:.3f} img/s, 7x7 r=4 {batch / b:.3f} img/s, ratio {b / a:.2f}")


def loop() -> None:
    """Trains for some steps, with a watch at the step and at the data."""
    import functools

    from datasets import pipeline
    from datasets.stored import tfrecord
    from deeplab_tf import config as configs
    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.training import loop as training

    manifest = tfrecord.read_manifest(FLAGS.data_dir)
    experiment, batch = FLAGS.experiments[0], int(FLAGS.batch_sizes[0])
    config = configs.override(
        experiment_config(experiment),
        [
            *(f"train.batch_size={batch}", f"train.crop_size={FLAGS.crop_size}", "train.iter_size=1"),
            *(f"train.iterations={FLAGS.iterations}", "train.save_every=1000000", "train.summary_every=1000000"),
            "optimizer.base_lr=1e-6",
        ],
    )
    config = dataclasses.replace(config, dataset=manifest.info)
    settings = config.train
    make_batches = functools.partial(
        pipeline.train_batches,
        FLAGS.data_dir,
        manifest.info.train_split,
        batch_size=batch,
        crop_size=settings.crop_size,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5),
        seed=0,
    )
    alone = iter(make_batches())
    next(alone)
    begin, count = time.perf_counter(), max(20, 100 // batch)
    for _ in range(count):
        next(alone)
    pipeline_rate = count * batch / (time.perf_counter() - begin)

    spans: list[tuple[float, float]] = []
    build = training.build_train_step

    def build_timed(*args: Any) -> Any:
        step, names = build(*args)

        def timed(batch: Any) -> Any:
            begin = time.perf_counter()
            terms = step(batch).numpy()
            spans.append((begin, time.perf_counter()))

            class Terms:
                def numpy(self) -> Any:
                    return terms

            return Terms()

        return timed, names

    training.build_train_step = build_timed  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        training.train(config, os.path.join(folder, "w"), make_batches, init="none", strategy_name="one_device")
    spans = spans[2:-1]  # without what prepares and what saves
    inside = sum(end - begin for begin, end in spans[:-1])
    whole = spans[-1][0] - spans[0][0]
    rate = (len(spans) - 1) * batch / whole
    print(f"{experiment}, batch {batch} at {settings.crop_size}: {rate:.3f} img/s")
    overhead = 1e3 * (whole - inside) / (len(spans) - 1)
    print(f"outside the network: {100 * (1 - inside / whole):.2f} % of the time, {overhead:.1f} ms a step")
    print(f"input pipeline alone: {pipeline_rate:.1f} img/s, {pipeline_rate / rate:.1f} times what the network takes")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB")


def time_one(experiment: str, batch: int, crop: int, precision: str) -> None:
    """Answers on standard output with the seconds of as many steps as a line of standard input says."""
    step = build_step(experiment, batch, [f"train.precision={precision}", f"train.crop_size={crop}"])
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        step().numpy()
        seconds = time.perf_counter() - begin
        process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(seconds, timing.gpu_peak_bytes() or process, flush=True)


def main() -> None:
    if FLAGS.time_one:
        experiment, batch, crop, precision = FLAGS.time_one.split(",")
        time_one(experiment, int(batch), int(crop), precision)
    else:
        {"torch": against_torch, "table1": table1, "loop": loop}[FLAGS.what]()


if __name__ == "__main__":
    command_line.run(main)
