"""How fast atrous convolution is, beside its alternatives (Sec. 3.1).

    python -m benchmarks.atrous --quick --out=DIR

Every convolution of the paper's networks that has a rate, at crops of 321 and 513 pixels, batch 1 and 4, float32 and
bfloat16, forward and forward + backward: deinterlaced as `AtrousConv2D` does by default, "auto", by TensorFlow's own
dilated convolution, by tf.nn.with_space_to_batch, and an ordinary convolution at rate 1 with as many taps. The ways
take turns in one process. DIR/atrous.json keeps the results; the same command goes on where it stopped. Cases are taken
from the cheapest to the dearest, which takes an hour by itself. --quick takes batch 1 and crops of 321 only.
--batch_sizes=16 suits GPUs, which one image does not fill; --forms times the forms of deinterlacing by themselves too.

DIR/atrous.md has a summary, medians and ranges of the ratios, and a table for each size, batch and
dtype: wall time in milliseconds, medians, in the order above; the ratios of the default and of "auto" to the faster of
dilated and with_space_to_batch; and the spread, the largest distance of the quartiles as a share of the median.
DIR/atrous_ratios.png draws the first ratio.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import timing
from deeplab_tf.runtime import command_line

FLAGS = flags.FLAGS
WAYS = ("deinterlace", "auto", "dilated", "with_space_to_batch", "rate 1")
ALTERNATIVES = ("dilated", "with_space_to_batch")  # rate 1 computes something else
FORMS = {"phases": "_convolve_phases", "taps": "_sum_of_taps", "projected": "_project_and_shift"}
PASSES = ("forward", "both")
GPU_CALLS = 20  # timed together, as a call returns before a GPU has done the work
HEADER = "| layer | rate | phases | forward | ratio | spread | forward + backward | ratio | spread |"


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution: of which layer, on a map of `cells` x `cells`."""

    layer: str
    channels: int
    filters: int
    kernel_size: int
    rate: int
    cells: int
    batch: int
    dtype: str

    @property
    def name(self) -> str:
        """What it is, in a line."""
        kernel = f"{self.kernel_size}x{self.kernel_size}"
        size = f"{self.batch}x{self.cells}x{self.cells}"
        return f"{self.layer} {self.channels}->{self.filters} {kernel} r={self.rate}, {size}, {self.dtype}"

    @property
    def multiplications(self) -> int:
        """Of an ordinary convolution with as many taps."""
        return self.batch * self.cells**2 * self.kernel_size**2 * self.channels * self.filters


LAYERS = [
    *(("conv5", 512, 512, 3, 2), ("res4", 256, 256, 3, 2), ("res5", 512, 512, 3, 4)),
    *(("fc6", 512, 1024, 3, rate) for rate in (2, 4, 6, 8, 12, 18, 24)),
    *(("fc1", 2048, 21, 3, rate) for rate in (6, 12, 18, 24)),
    *(("fc6", 512, 4096, 4, 4), ("fc6", 512, 4096, 4, 8), ("fc6", 512, 4096, 7, 4)),
]


def cases(quick: bool, batch_sizes: Sequence[int]) -> list[Case]:
    """All of them, the cheapest first."""
    sizes = [(batch, cells) for cells in ((41,) if quick else (41, 65)) for batch in batch_sizes]
    dtypes = ("float32", "bfloat16")
    chosen = [Case(*layer, cells, batch, dtype) for batch, cells in sizes for dtype in dtypes for layer in LAYERS]
    return sorted(chosen, key=lambda case: case.multiplications)


def measure(case: Case, seconds: float, forms: bool) -> dict[str, Any]:
    import tensorflow as tf

    from deeplab_tf.layers import atrous
    from deeplab_tf.layers.atrous import atrous_conv2d

    rate = case.rate

    def with_space_to_batch(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        def convolve(phases: tf.Tensor, _: Any, padding: str) -> tf.Tensor:
            return tf.nn.conv2d(phases, kernel, 1, padding)

        return tf.nn.with_space_to_batch(x, [rate, rate], "SAME", convolve, filter_shape=kernel.shape[:2])

    convolutions = {
        "deinterlace": lambda x, kernel: atrous_conv2d(x, kernel, rate),
        "auto": lambda x, kernel: atrous_conv2d(x, kernel, rate, "auto"),
        "dilated": lambda x, kernel: atrous_conv2d(x, kernel, rate, "dilated"),
        "with_space_to_batch": with_space_to_batch,
        "rate 1": lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"),
    }
    for name, function in FORMS.items() if forms else ():
        convolutions[name] = functools.partial(getattr(atrous, function), rate=rate)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> tf.Tensor:
        return tf.cast(tf.constant(random.standard_normal(shape, np.float32)), case.dtype)

    x = normal(case.batch, case.cells, case.cells, case.channels)
    kernel = normal(case.kernel_size, case.kernel_size, case.channels, case.filters)
    towards = normal(case.batch, case.cells, case.cells, case.filters)

    def forward(convolve: Any) -> Any:
        return tf.function(convolve, autograph=False, reduce_retracing=True)

    def both(convolve: Any) -> Any:
        def run(x: tf.Tensor, kernel: tf.Tensor, towards: tf.Tensor) -> Any:
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = convolve(x, kernel)
            return y, *tape.gradient(y, [x, kernel], towards)

        return tf.function(run, autograph=False, reduce_retracing=True)

    calls = GPU_CALLS if tf.config.list_logical_devices("GPU") else 1

    def bound(function: Any, *arguments: tf.Tensor) -> Any:
        def run() -> None:
            for _ in range(calls):
                answer = function(*arguments)
            # Reads one number, so that the work is done when it returns.
            tf.nest.flatten(answer)[0][0, 0, 0, 0].numpy()

        return run

    forwards = {name: bound(forward(convolve), x, kernel) for name, convolve in convolutions.items()}
    boths = {name: bound(both(convolve), x, kernel, towards) for name, convolve in convolutions.items()}
    result = {
        "case": dataclasses.asdict(case),
        "machine": timing.machine(),
        "forward": timing.interleaved(forwards, seconds=seconds / 3),
        "both": timing.interleaved(boths, seconds=seconds * 2 / 3),
    }
    for times in (way for which in PASSES for way in result[which].values()):
        times.update({name: value / calls for name, value in times.items()})
    return result


def ratio(times: dict[str, dict[str, float]], way: str = "deinterlace") -> float:
    """A way's time over that of the fastest alternative; medians of wall time."""
    return times[way]["median"] / min(times[name]["median"] for name in ALTERNATIVES)


def row(result: dict[str, Any]) -> str:
    """One line of a table of `tables`."""
    case = Case(**result["case"])
    phase = -(-case.cells // case.rate)
    line = f"| {case.layer} {case.channels}->{case.filters} {case.kernel_size}x{case.kernel_size} | {case.rate} "
    line += f"| {phase}x{phase} |"
    for which in PASSES:
        times = result[which]
        milliseconds = " / ".join(f"{times[way]['median']:.3g}" for way in WAYS)
        spread = max((times[way]["high"] - times[way]["low"]) / times[way]["median"] for way in WAYS)
        line += f" {milliseconds} | {ratio(times):.2f}, {ratio(times, 'auto'):.2f} | {100 * spread:.0f} % |"
    return line


def tables(results: dict[str, Any]) -> str:
    """A table for each size of the map, batch and dtype."""
    groups: dict[str, list[str]] = {}
    for result in sorted(results.values(), key=lambda result: LAYERS.index(_layer(result["case"]))):
        case = result["case"]
        title = f"{case['dtype']}, {case['cells']}x{case['cells']} cells, batch {case['batch']}"
        groups.setdefault(title, []).append(row(result))
    lines = []
    for title, rows in sorted(groups.items(), key=lambda item: item[0].split(", ")[::-1]):
        lines += [f"### {title}", "", HEADER, "|---" * 9 + "|", *rows, ""]
    return "\n".join(lines)


def summary(results: dict[str, Any]) -> str:
    """How the ratios spread, for few and many images, small and large rates."""
    kinds = {"rates 2 and 4": lambda case: case["rate"] <= 4, "rates 6 to 24": lambda case: case["rate"] > 4}
    lines = [
        "| | cases | forward, deinterlace | forward, auto | forward + backward, deinterlace | the same, auto |",
        "|---|---|---|---|---|---|",
    ]
    for dtype in ("float32", "bfloat16"):
        for batch in sorted({result["case"]["batch"] for result in results.values()}):
            for kind, belongs in kinds.items():
                chosen = [
                    result
                    for result in results.values()
                    if result["case"]["dtype"] == dtype and result["case"]["batch"] == batch and belongs(result["case"])
                ]
                if not chosen:
                    continue
                line = f"| {dtype}, batch {batch}, {kind} | {len(chosen)} |"
                for which in PASSES:
                    for way in ("deinterlace", "auto"):
                        low, middle, high = np.percentile([ratio(r[which], way) for r in chosen], [0, 50, 100])
                        line += f" {middle:.2f} ({low:.2f} to {high:.2f}) |"
                lines.append(line)
    return "\n".join(lines)


def _layer(case: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(case[field] for field in ("layer", "channels", "filters", "kernel_size", "rate"))


def plot(results: dict[str, Any], path: Path) -> None:
    """Ratio to the fastest alternative, one dot per case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axis, which, title in zip(axes, PASSES, ("forward", "forward + backward"), strict=True):
        for dtype, marker in (("float32", "o"), ("bfloat16", "^")):
            chosen = [r for r in results.values() if r["case"]["dtype"] == dtype]
            rates = [r["case"]["rate"] for r in chosen]
            axis.semilogy(rates, [ratio(r[which]) for r in chosen], marker, label=dtype, alpha=0.6)
        axis.axhline(1, color="grey", linewidth=1)
        axis.set(title=title, xlabel="rate", xticks=sorted({layer[4] for layer in LAYERS}))
    axes[0].set_ylabel("time, deinterlaced / fastest alternative")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "atrous.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    end = time.perf_counter() + 60 * FLAGS.minutes
    batch_sizes = [1] if FLAGS.quick else [int(size) for size in FLAGS.batch_sizes]
    for case in cases(FLAGS.quick, batch_sizes):
        if case.name in results or FLAGS.only not in case.name:
            continue
        if time.perf_counter() > end:
            print(f"stopped after {FLAGS.minutes:g} minutes; the same command goes on")
            break
        results[case.name] = measure(case, FLAGS.seconds, FLAGS.forms)
        path.write_text(json.dumps(results, indent=1))
        print(f"{case.name}: {row(results[case.name])}", flush=True)
    (out / "atrous.md").write_text(f"{summary(results)}\n\n{tables(results)}")
    print(summary(results))
    plot(results, out / "atrous_ratios.png")


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "Batch 1 and crops of 321 only.")
    flags.DEFINE_list("batch_sizes", ["1", "4"], "Images.")
    flags.DEFINE_bool("forms", False, "Time the forms of deinterlacing too; DIR/atrous.json has them.")
    flags.DEFINE_string("only", "", "Only cases with this in their name, such as bfloat16.")
    flags.DEFINE_string("out", "build/benchmarks", "Folder of the results.")
    flags.DEFINE_float("minutes", 60, "Stop after so many; the same command goes on later.")
    flags.DEFINE_float("seconds", 6, "For each case, at least three rounds.")
    command_line.run(main)
