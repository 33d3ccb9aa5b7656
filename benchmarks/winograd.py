"""Wide 3x3 convolutions forward, in float32: with Winograd's minimal filtering, and TensorFlow's own.

    python -m benchmarks.winograd
    python -m benchmarks.winograd --sides=65 --channels=512x1024 --rates=12

The ways take turns; medians are compared. "deinterlace" is what `AtrousConv2D` takes without minimal filtering. The
ratios are over the time of "winograd"; the errors are the largest ones against float64, in units of the largest output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from absl import flags

from benchmarks import timing
from deeplab_tf.runtime import command_line

FLAGS = flags.FLAGS
flags.DEFINE_list("sides", ["65"], "Cells a side of the map.")
flags.DEFINE_list("channels", ["128x128", "256x256", "512x512", "512x1024"], "In x out.")
flags.DEFINE_list("rates", ["1", "2", "4", "6", "12", "18", "24"], "Rates.")
flags.DEFINE_integer("batch", 1, "Maps.")
flags.DEFINE_integer("rounds", 9, "Timed calls of each.")


def folded(convolve: Callable[[Any], Any], x: Any) -> Callable[[], Any]:
    """Returns a call of a function of x whose work on the weights is done beforehand, as `inference.py` does it."""
    import tensorflow as tf

    from deeplab_tf.inference.fold import fold_weights

    function = fold_weights(tf.function(convolve, [tf.TensorSpec(x.shape, x.dtype)], autograph=False))
    return lambda: function.answer(x).numpy()


def compare(x: Any, kernel: Any, rate: int) -> tuple[dict[str, float], dict[str, float]]:
    """Returns milliseconds and errors by the name of each way."""
    import numpy as np
    import tensorflow as tf

    from deeplab_tf.layers import winograd
    from deeplab_tf.layers.atrous import atrous_conv2d

    ways = {
        "winograd": folded(lambda x: winograd.conv2d(x, kernel.read_value(), rate), x),
        "dilated": folded(lambda x: atrous_conv2d(x, kernel.read_value(), rate, "dilated"), x),
        "deinterlace": folded(lambda x: atrous_conv2d(x, kernel.read_value(), rate), x),
    }
    exact = atrous_conv2d(tf.cast(x, tf.float64), tf.cast(kernel, tf.float64), rate, "dilated").numpy()
    errors = {name: np.abs(way() - exact).max() / np.abs(exact).max() for name, way in ways.items()}
    return {name: times["median"] for name, times in timing.interleaved(ways, FLAGS.rounds).items()}, errors


def main() -> None:
    import tensorflow as tf

    print(timing.machine())
    print(f"{'':<26}{'winograd':>18}{'dilated':>26}{'deinterlace':>26}")
    print(f"{'cells, channels, rate':<26}{'ms':>8}{'error':>10}" + 2 * f"{'ms':>8}{'ratio':>8}{'error':>10}")
    for side, channels in itertools.product(map(int, FLAGS.sides), FLAGS.channels):
        inputs, outputs = map(int, channels.split("x"))
        x = tf.nn.relu(tf.random.stateless_normal([FLAGS.batch, side, side, inputs], [0, 0]))
        kernel = tf.Variable(tf.random.stateless_normal([3, 3, inputs, outputs], [0, 1]))
        for rate in map(int, FLAGS.rates):
            times, errors = compare(x, kernel, rate)
            own = times.pop("winograd")
            print(f"{f'{side}x{side}, {channels}, {rate}':<26}{own:>8.1f}{errors['winograd']:>10.1e}", end="")
            others = (f"{time:>8.1f}{time / own:>8.2f}{errors[name]:>10.1e}" for name, time in times.items())
            print(*others, sep="", flush=True)


if __name__ == "__main__":
    command_line.run(main, frozen_weights=True)
