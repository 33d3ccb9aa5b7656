"""Time and memory of atrous convolution in whole networks, against the rate and the output stride (Sec. 3.1).

    python -m benchmarks.atrous_networks --out=DIR

networks   forward and forward + backward of whole networks, deinterlaced and by TensorFlow's dilated convolution
rates      one layer on a map of fixed size, at rate 1 to 24
strides    a network re-strided from output stride 32 to 16, 8 and 4, with the same weights
chain      conv5 and blocks of res4 and res5 that stay deinterlaced from entry to exit, against layer by layer
phases     layers at rates 2 and 4, four images: deinterlaced, dilated, and the ordinary convolution of phases that are
           there already, than which no way of splitting and joining a map can be faster

The ways take turns in one process; their peak memory, beyond what the built network holds, is that of a process for
each. A section's results go to DIR/atrous_SECTION.json, its plot to a .png beside it. The same command goes on where it
stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import timing
from deeplab_tf.runtime import command_line

FLAGS = flags.FLAGS
IMPLEMENTATIONS = ("deinterlace", "auto", "dilated")
Results = dict[str, dict[str, dict[str, float]]]  # what is run -> way -> times and memory


def forward(model: Any, images: Any) -> Callable[[], Any]:
    import tensorflow as tf

    function = tf.function(model, autograph=False)
    return lambda: function(images).numpy()


def forward_and_backward(model: Any, images: Any) -> Callable[[], Any]:
    import tensorflow as tf

    @tf.function(autograph=False)
    def gradients() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(images) ** 2)
        return loss, tape.gradient(loss, model.trainable_variables)

    return lambda: gradients()[0].numpy()


def pictures(size: int) -> Any:
    import tensorflow as tf

    return tf.constant(np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)), tf.float32)


def network(experiment: str, precision: str, training: bool, implementation: str) -> Callable[[], Any]:
    """A network at a crop of 321 pixels."""
    import dataclasses

    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.networks.deeplab import build_network

    config = dataclasses.replace(experiment_config(experiment).model, atrous=implementation)
    build = forward_and_backward if training else forward
    return build(build_network(config, 21, precision), pictures(321))


def layer(implementation: str, rate: int) -> Callable[[], Any]:
    """One convolution, 512 -> 512, 3x3, on 65x65 cells."""
    import tensorflow as tf

    from deeplab_tf.layers.atrous import atrous_conv2d

    random = np.random.default_rng(0)
    x = tf.constant(random.standard_normal((1, 65, 65, 512), np.float32))
    kernel = tf.constant(random.standard_normal((3, 3, 512, 512), np.float32))
    graph = tf.function(lambda: atrous_conv2d(x, kernel, rate, implementation), autograph=False)
    return lambda: graph()[0, 0, 0, 0].numpy()


def phases(way: str, layer_name: str, cells: int, precision: str) -> Callable[[], Any]:
    """A 3x3 convolution of four images: an implementation of `atrous_conv2d`, or "phases alone"."""
    import tensorflow as tf

    from deeplab_tf.layers.atrous import atrous_conv2d, deinterlace

    rate, channels, filters = PHASES[layer_name]
    random = np.random.default_rng(0)
    x = tf.cast(tf.constant(random.standard_normal((4, cells, cells, channels), np.float32)), precision)
    kernel = tf.cast(tf.constant(random.standard_normal((3, 3, channels, filters), np.float32)), precision)
    if way == "phases alone":
        x = deinterlace(x, rate)
        graph = tf.function(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"), autograph=False)
    else:
        graph = tf.function(lambda x, kernel: atrous_conv2d(x, kernel, rate, way), autograph=False)
    return lambda: graph(x, kernel)[0, 0, 0, 0].numpy()


def restrided(experiment: str, stride: int) -> Callable[[], Any]:
    """A network of output stride 32, re-strided, at a crop of 321 pixels."""
    import dataclasses

    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.networks.deeplab import build_network
    from deeplab_tf.networks.restride import restride

    config = experiment_config(experiment).model
    rates = tuple(max(1, rate // 4) for rate in config.rates)
    model = build_network(dataclasses.replace(config, output_stride=32, rates=rates), 21)
    return forward(restride(model, stride), pictures(321))


def chain(name: str, training: bool, stay: bool) -> Callable[[], Any]:
    """conv5, or blocks of res4 or res5, on 41x41 cells: deinterlaced once around all of them, or in each layer."""
    import tensorflow as tf

    from deeplab_tf.layers.atrous import atrous_conv2d, deinterlace, interlace

    rate, channels, shapes = CHAINS[name]
    random = np.random.default_rng(0)

    def constant(*shape: int) -> tf.Tensor:
        return tf.constant(random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1])), tf.float32)

    x = tf.nn.relu(constant(1, 41, 41, channels))
    kernels = [constant(size, size, *shape) for size, *shape in shapes]

    def layers(x: tf.Tensor, convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        if len(kernels) == 3:  # conv5
            for kernel in kernels:
                x = tf.nn.relu(convolve(x, kernel) + 0.1)
            return x
        for reduce, atrous, increase in zip(kernels[::3], kernels[1::3], kernels[2::3], strict=True):
            y = tf.nn.relu(tf.nn.conv2d(x, reduce, 1, "SAME") + 0.1)
            y = tf.nn.relu(convolve(y, atrous) + 0.1)
            x = tf.nn.relu(x + tf.nn.conv2d(y, increase, 1, "SAME"))
        return x

    def answer() -> tf.Tensor:
        if not stay:
            return layers(x, lambda y, kernel: atrous_conv2d(y, kernel, rate))
        inside = deinterlace(tf.ones_like(x[..., :1]), rate)  # cells past the edge have to be zero again
        phases = layers(deinterlace(x, rate), lambda y, kernel: tf.nn.conv2d(y * inside, kernel, 1, "SAME"))
        return interlace(phases, rate, x.shape[1], x.shape[2])

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(kernels)
            loss = tf.reduce_mean(answer() ** 2)
        return loss, tape.gradient(loss, kernels)

    graph = tf.function(gradients if training else answer, autograph=False)
    return lambda: graph()[0].numpy()


def block(channels: int) -> list[tuple[int, int, int]]:
    return [(1, 4 * channels, channels), (3, channels, channels), (1, channels, 4 * channels)]


# Rate, channels in, and the kernels: size, channels in, out.
CHAINS = {
    "conv5, rate 2": (2, 512, [(3, 512, 512)] * 3),
    "4 blocks of res4, rate 2": (2, 1024, block(256) * 4),
    "2 blocks of res5, rate 4": (4, 2048, block(512) * 2),
}
# Rate, channels in and out.
PHASES = {
    "conv5": (2, 512, 512),
    "res4": (2, 256, 256),
    "res5": (4, 512, 512),
    "fc6, rate 2": (2, 512, 1024),
    "fc6, rate 4": (4, 512, 1024),
}
PASSES = {"forward": False, "forward + backward": True}
RATES = (1, 2, 4, 8, 12, 18, 24)
# Section -> what is compared -> way -> its builder and arguments.
SECTIONS: dict[str, dict[str, dict[str, tuple[Any, ...]]]] = {
    "networks": {
        f"{experiment}, {precision}, {label}": {
            name: (network, experiment, precision, training, name) for name in IMPLEMENTATIONS
        }
        for experiment in ("vgg16_large_fov", "vgg16_aspp_l", "resnet101_aspp")
        for precision in ("float32", "bfloat16")
        for label, training in PASSES.items()
    },
    "rates": {
        "512 -> 512, 3x3, on 65x65 cells": {
            f"{name} {rate}": (layer, name, rate) for name in ("deinterlace", "dilated") for rate in RATES
        }
    },
    "strides": {
        experiment: {str(stride): (restrided, experiment, stride) for stride in (32, 16, 8, 4)}
        for experiment in ("vgg16_large_fov", "resnet50")
    },
    "chain": {
        f"{name}, {label}": {
            way: (chain, name, training, way == "stay deinterlaced") for way in ("layer by layer", "stay deinterlaced")
        }
        for name in CHAINS
        for label, training in PASSES.items()
    },
    "phases": {
        f"{name}, {cells}x{cells}, {precision}": {
            way: (phases, way, name, cells, precision) for way in ("phases alone", "deinterlace", "dilated")
        }
        for precision in ("float32", "bfloat16")
        for cells in (41, 65)
        for name in PHASES
    },
}


def measure(section: str, only: str, memory: bool, seconds: float, path: Path) -> Results:
    """Adds what is missing to the results in a file, and returns all of them."""
    results: Results = json.loads(path.read_text())["results"] if path.exists() else {}
    for name, builders in SECTIONS[section].items():
        if only not in name or name in results:
            continue
        ways = {way: build(*arguments) for way, (build, *arguments) in builders.items()}
        times = timing.interleaved(ways, seconds=seconds)
        del ways
        for way, builder in builders.items() if memory else ():
            times[way]["mebibytes"] = timing.peak_mebibytes(*builder)
        results[name] = times
        path.write_text(json.dumps({"machine": timing.machine(), "results": results}, indent=1))
        print(table({name: times}), flush=True)
    return results


def table(results: Results) -> str:
    lines = ["| | way | ms, median (quartiles) | CPU ms | peak MiB |", "|---|---|---|---|---|"]
    for name, ways in results.items():
        for way, times in ways.items():
            wall = f"{times['median']:.3g} ({times['low']:.3g}-{times['high']:.3g})"
            lines.append(f"| {name} | {way} | {wall} | {times['cpu']:.0f} | {times.get('mebibytes', np.nan):.0f} |")
    return "\n".join(lines)


def plot_lines(results: Results, xlabel: str, path: Path) -> None:
    """CPU time and memory of ways named "LABEL NUMBER" or "NUMBER" against the number."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines: dict[str, list[tuple[int, dict[str, float]]]] = {}
    for name, ways in results.items():
        for way, times in ways.items():
            *label, number = way.split()
            lines.setdefault(" ".join(label) or name, []).append((int(number), times))
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for axis, field, ylabel in zip(axes, ("cpu", "mebibytes"), ("CPU time, ms", "peak memory, MiB"), strict=True):
        for label, points in lines.items():
            axis.plot([x for x, _ in points], [times.get(field, np.nan) for _, times in points], "o-", label=label)
        axis.set(xlabel=xlabel, ylabel=ylabel, xticks=sorted({x for points in lines.values() for x, _ in points}))
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    print(timing.machine())
    for section in FLAGS.sections or SECTIONS:
        path = out / f"atrous_{section}.json"
        results = measure(section, FLAGS.only, FLAGS.memory, FLAGS.seconds, path)
        print(f"\n{section}\n\n{table(results)}", flush=True)
        labels = {"rates": "rate", "strides": "output stride"}
        if section in labels:
            plot_lines(results, labels[section], out / f"atrous_{section}.png")


if __name__ == "__main__":
    flags.DEFINE_multi_enum("sections", [], list(SECTIONS), "Which; all by default.")
    flags.DEFINE_bool("memory", True, "Measure memory too.")
    flags.DEFINE_string("only", "", "Only comparisons with this in their name, such as float32.")
    flags.DEFINE_string("out", "build/benchmarks", "Folder of the results.")
    flags.DEFINE_float("seconds", 15, "For each comparison, at least three rounds.")
    command_line.run(main)
