"""Atrous depthwise convolution, forward and backward: deinterlaced, against TensorFlow's own dilated convolution.

    python -m benchmarks.depthwise
    python -m benchmarks.depthwise --size=17 --channels=1152 --rates=2

The implementations take turns, so that whatever else the machine does hits all of them; medians are compared. The
defaults are the layers of EfficientNet-Lite0's stages 5 and 6 at output stride 8, for crops of 257.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from deeplab_tf.runtime import command_line

FLAGS = flags.FLAGS
flags.DEFINE_integer("size", 33, "Side of the feature maps.")
flags.DEFINE_integer("channels", 672, "Channels.")
flags.DEFINE_integer("batch", 8, "Feature maps.")
flags.DEFINE_integer("kernel_size", 5, "k.")
flags.DEFINE_list("rates", ["2", "4"], "Rates.")
flags.DEFINE_integer("rounds", 15, "Timed calls of each.")


def forward_and_backward(
    implementation: str, rate: int, x: Any, kernel: Any, pieces: bool = False
) -> Callable[[], Any]:
    """Returns a function that convolves and differentiates with respect to map and kernel.

    Args:
        implementation: see `atrous_depthwise_conv2d`.
        rate: of the convolution.
        x: the map.
        kernel: the kernel.
        pieces: take the kernel's gradient as training does, see `depthwise_gradient`.
    """
    import tensorflow as tf

    from deeplab_tf.layers.atrous_depthwise import atrous_depthwise_conv2d
    from deeplab_tf.layers.depthwise_gradient import kernel_gradients_in_pieces

    weights = tf.random.stateless_normal(x.shape, [0, 2])

    @tf.function
    def both() -> Any:
        how = kernel_gradients_in_pieces() if pieces else contextlib.nullcontext()
        with tf.GradientTape() as tape, how:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(weights * atrous_depthwise_conv2d(x, kernel, rate, implementation))
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, [x, kernel])]

    return both


def main() -> None:
    import tensorflow as tf

    from deeplab_tf.layers.atrous import IMPLEMENTATIONS

    x = tf.random.stateless_normal([FLAGS.batch, FLAGS.size, FLAGS.size, FLAGS.channels], [0, 0])
    kernel = tf.random.stateless_normal([FLAGS.kernel_size, FLAGS.kernel_size, FLAGS.channels, 1], [0, 1])
    shape = "x".join(map(str, x.shape))
    print(f"{FLAGS.kernel_size}x{FLAGS.kernel_size} depthwise on {shape}, forward and backward, ms")
    for rate in map(int, FLAGS.rates):
        # At rate 1 both are the same call: what a convolution without holes costs.
        functions = {name: forward_and_backward(name, rate, x, kernel) for name in IMPLEMENTATIONS}
        functions["deinterlace in pieces"] = forward_and_backward("deinterlace", rate, x, kernel, pieces=True)
        functions["rate 1"] = forward_and_backward("dilated", 1, x, kernel)
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for number in range(FLAGS.rounds + 2):  # the first two prepare
            for name, function in functions.items():
                begin = time.perf_counter()
                [value.numpy() for value in function()]
                if number >= 2:
                    seconds[name].append(time.perf_counter() - begin)
        medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
        print(f"rate {rate}: " + ", ".join(f"{name} {median:.1f}" for name, median in medians.items()), flush=True)


if __name__ == "__main__":
    command_line.run(main)
