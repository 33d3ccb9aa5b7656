"""Time and memory of atrous convolution in whole networks, against the rate and the output stride (Sec. 3.1).

    python -m benchmarks.atrous_networks --out=DIR

networks   forward and forward + backward of whole networks, deinterlaced and by TensorFlow's dilated convolution
rates      one layer on a map of fixed size, at rate 1 to 24
strides    a network re-strided from output stride 32 to 16, 8 and 4, with the same weights
chain      conv5 and blocks of res4 and res5 that stay deinterlaced from entry to exit, against layer by layer

The ways take turns in one process. Each section's results go to DIR/atrous_SECTION.json, its plot to a .png beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks import timing
from deeplab_tf import command_line

FLAGS = flags.FLAGS
IMPLEMENTATIONS = ("deinterlace", "dilated")
Results = dict[str, dict[str, dict[str, float]]]  # what is run -> way -> times and memory


def measured(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, dict[str, float]]:
    times = timing.interleaved(ways, seconds=seconds)
    for name, run in ways.items():
        times[name]["mebibytes"] = timing.peak_mebibytes(run)
    return times


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


def networks(seconds: float) -> Results:
    import dataclasses

    from deeplab_tf.config import experiment_config
    from deeplab_tf.model import build_network

    results = {}
    for experiment in ("vgg16_large_fov", "vgg16_aspp_l", "resnet101_aspp"):
        for precision in ("float32", "bfloat16"):
            models = {}
            for implementation in IMPLEMENTATIONS:
                config = dataclasses.replace(experiment_config(experiment).model, atrous=implementation)
                models[implementation] = build_network(config, 21, precision)
            for label, build in (("forward", forward), ("forward + backward", forward_and_backward)):
                ways = {name: build(model, pictures(321)) for name, model in models.items()}
                results[f"{experiment}, {precision}, {label}"] = measured(ways, seconds)
    return results


def rates(seconds: float) -> Results:
    import tensorflow as tf

    from deeplab_tf.atrous import atrous_conv2d

    random = np.random.default_rng(0)
    x = tf.constant(random.standard_normal((1, 65, 65, 512), np.float32))
    kernel = tf.constant(random.standard_normal((3, 3, 512, 512), np.float32))

    def way(implementation: str, rate: int) -> Callable[[], Any]:
        graph = tf.function(lambda: atrous_conv2d(x, kernel, rate, implementation), autograph=False)
        return lambda: graph()[0, 0, 0, 0].numpy()

    ways = {f"{name} {rate}": way(name, rate) for name in IMPLEMENTATIONS for rate in (1, 2, 4, 6, 8, 12, 18, 24)}
    return {"512 -> 512, 3x3, on 65x65 cells": measured(ways, seconds)}


def strides(seconds: float) -> Results:
    import dataclasses

    from deeplab_tf.config import experiment_config
    from deeplab_tf.model import build_network
    from deeplab_tf.output_stride import restride

    results = {}
    for experiment in ("vgg16_large_fov", "resnet50"):
        config = experiment_config(experiment).model
        config = dataclasses.replace(config, output_stride=32, rates=tuple(max(1, rate // 4) for rate in config.rates))
        model = build_network(config, 21)
        ways = {str(stride): forward(restride(model, stride), pictures(321)) for stride in (32, 16, 8, 4)}
        results[experiment] = measured(ways, seconds)
    return results


def chain(seconds: float) -> Results:
    import tensorflow as tf

    from deeplab_tf.atrous import atrous_conv2d, deinterlace, interlace

    random = np.random.default_rng(0)

    def kernel(size: int, channels: int, filters: int) -> tf.Tensor:
        scale = np.sqrt(2 / (size * size * channels))
        return tf.constant(scale * random.standard_normal((size, size, channels, filters)), tf.float32)

    def conv5(x: tf.Tensor, kernels: list[tf.Tensor], convolve: Any, mask: Any) -> tf.Tensor:
        for k in kernels:
            x = tf.nn.relu(convolve(mask(x), k))
        return x

    def bottlenecks(x: tf.Tensor, kernels: list[tf.Tensor], convolve: Any, mask: Any) -> tf.Tensor:
        for reduce, atrous, increase in zip(kernels[::3], kernels[1::3], kernels[2::3], strict=True):
            y = tf.nn.relu(tf.nn.conv2d(x, reduce, 1, "SAME") + 0.1)
            y = tf.nn.relu(convolve(mask(y), atrous) + 0.1)
            x = tf.nn.relu(x + tf.nn.conv2d(y, increase, 1, "SAME"))
        return x

    def block(channels: int) -> list[tf.Tensor]:
        return [kernel(1, 4 * channels, channels), kernel(3, channels, channels), kernel(1, channels, 4 * channels)]

    chains: dict[str, tuple[Any, list[tf.Tensor], int, int]] = {
        "conv5, rate 2": (conv5, [kernel(3, 512, 512) for _ in range(3)], 512, 2),
        "4 blocks of res4, rate 2": (bottlenecks, [k for _ in range(4) for k in block(256)], 1024, 2),
        "2 blocks of res5, rate 4": (bottlenecks, [k for _ in range(2) for k in block(512)], 2048, 4),
    }
    results = {}
    for name, (layers, kernels, channels, rate) in chains.items():
        x = tf.constant(np.maximum(random.standard_normal((1, 41, 41, channels), np.float32), 0))

        def layer_by_layer(layers: Any = layers, kernels: Any = kernels, rate: int = rate, x: Any = x) -> tf.Tensor:
            return layers(x, kernels, lambda y, k: atrous_conv2d(y, k, rate), lambda y: y)

        def stay_deinterlaced(layers: Any = layers, kernels: Any = kernels, rate: int = rate, x: Any = x) -> tf.Tensor:
            inside = deinterlace(tf.ones_like(x[..., :1]), rate)  # cells past the edge have to be zero again
            phases = layers(
                deinterlace(x, rate), kernels, lambda y, k: tf.nn.conv2d(y, k, 1, "SAME"), lambda y: y * inside
            )
            return interlace(phases, rate, x.shape[1], x.shape[2])

        def with_gradients(chain: Any, kernels: Any = kernels) -> Any:
            def run() -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(kernels)
                    loss = tf.reduce_mean(chain() ** 2)
                return loss, tape.gradient(loss, kernels)

            return run

        difference = tf.reduce_max(tf.abs(layer_by_layer() - stay_deinterlaced()))
        print(f"{name}: differs by {float(difference / tf.reduce_max(layer_by_layer())):.1e} of the maximum")
        both = {"layer by layer": layer_by_layer, "stay deinterlaced": stay_deinterlaced}
        graphs = {n: tf.function(way, autograph=False) for n, way in both.items()}
        ways = {n: lambda graph=graph: graph()[0, 0, 0, 0].numpy() for n, graph in graphs.items()}
        results[f"{name}, forward"] = measured(ways, seconds)
        graphs = {n: tf.function(with_gradients(way), autograph=False) for n, way in both.items()}
        ways = {n: lambda graph=graph: graph()[0].numpy() for n, graph in graphs.items()}
        results[f"{name}, forward + backward"] = measured(ways, seconds)
    return results


SECTIONS = {"networks": networks, "rates": rates, "strides": strides, "chain": chain}


def table(results: Results) -> str:
    lines = ["| | way | ms, median (quartiles) | CPU ms | peak MiB |", "|---|---|---|---|---|"]
    for name, ways in results.items():
        for way, times in ways.items():
            wall = f"{times['median']:.0f} ({times['low']:.0f}-{times['high']:.0f})"
            lines.append(f"| {name} | {way} | {wall} | {times['cpu']:.0f} | {times['mebibytes']:.0f} |")
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
            axis.plot([x for x, _ in points], [times[field] for _, times in points], "o-", label=label)
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
        results = SECTIONS[section](FLAGS.seconds)
        (out / f"atrous_{section}.json").write_text(json.dumps({"machine": timing.machine(), "results": results}))
        print(f"\n{section}\n\n{table(results)}", flush=True)
        labels = {"rates": "rate", "strides": "output stride"}
        if section in labels:
            plot_lines(results, labels[section], out / f"atrous_{section}.png")


if __name__ == "__main__":
    flags.DEFINE_multi_enum("sections", [], list(SECTIONS), "Which; all by default.")
    flags.DEFINE_string("out", "build/benchmarks", "Folder of the results.")
    flags.DEFINE_float("seconds", 15, "For each comparison, at least three rounds.")
    command_line.run(main)
