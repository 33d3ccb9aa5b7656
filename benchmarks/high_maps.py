"""Whole networks for any size, with Winograd's minimal filtering and with --nowinograd, on small and large images.

    python -m benchmarks.high_maps [NETWORK ...]

Float32, weights at random, square images of 513, 1025 and 2049 pixels, in turns; the least seconds of some, and the
ratio. A graph for any size learns the height of its maps when it runs, and cuts high ones into blocks of rows.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np

SIDES = {513: 5, 1025: 3, 2049: 2}  # and how many times each is answered


def main(networks: list[str]) -> None:
    """Prints the table."""
    from benchmarks import timing
    from deeplab_tf.config import InferenceConfig
    from deeplab_tf.experiments import experiment_config
    from deeplab_tf.inference.probabilities import fold_inference
    from deeplab_tf.networks.deeplab import build_network

    print(timing.machine())
    print(f"{'':26}{'pixels':>8}{'winograd s':>12}{'plain s':>10}{'ratio':>8}", flush=True)
    for name in networks:
        model = build_network(experiment_config(name).model, 21)
        ways = [fold_inference(model, InferenceConfig(winograd=winograd)) for winograd in (True, False)]
        for side, rounds in SIDES.items():
            image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
            least = [float("inf")] * 2
            for number in range(rounds + (side == min(SIDES))):
                for index, way in enumerate(ways if number % 2 else ways[::-1]):
                    begin = time.perf_counter()
                    way.answer(image)[0, 0, 0].numpy()
                    index = index if number % 2 else 1 - index
                    least[index] = min(least[index], time.perf_counter() - begin)
            print(f"{name:26}{side:8}{least[0]:12.3f}{least[1]:10.3f}{least[1] / least[0]:8.2f}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    main(sys.argv[1:] or ["vgg16_large_fov", "resnet101_aspp"])
