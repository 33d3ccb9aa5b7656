"""What predict.py gains by reading, asking the network, refining and writing at the same time.

    python -m benchmarks.prediction --model=models/voc_animals --images=DIR [--num_images=40] [--rounds=3] [--crf]
    python -m benchmarks.prediction --model=models/voc_animals --images=DIR --side=128 --batch_sizes=1,4,16

The first compares the same images once one step after the other and once as predict.py does, in turns in one process.
The answers are compared too. The first image, which also pays for the graph, is left out of both. The second cuts
squares of one size from the images and tries numbers of images that the network sees at once. `taskset -c 0` in front
says what more cores bring.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2

from deeplab_tf import workdir
from deeplab_tf.images import visualize
from deeplab_tf.images.files import read_pixels
from deeplab_tf.images.results import Results
from deeplab_tf.images.sources import find_sources
from deeplab_tf.inference.files import image_result, segment_images
from deeplab_tf.inference.probabilities import build_predictor
from deeplab_tf.inference.segmenter import Segmenter
from deeplab_tf.runtime.threads import usable_cores

SAVE = ("labels", "overlay")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/voc_animals", help="a workdir")
    parser.add_argument("--images", required=True)
    parser.add_argument("--num_images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--crf", action="store_true")
    parser.add_argument("--side", type=int, default=0, help="of the squares to cut from the images, pixels; 0: none")
    parser.add_argument("--batch_sizes", default="1", help="to compare, with --side")
    arguments = parser.parse_args()
    model, config = workdir.load(arguments.model)
    predict = build_predictor(model, config.inference)
    segmenter = Segmenter(predict, config.info, crf=config.crf if arguments.crf else None)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.side:
            compare_batches(segmenter, arguments, folder)
        else:
            compare(segmenter, arguments, folder)


def compare_batches(segmenter: Segmenter, arguments: argparse.Namespace, folder: str) -> None:
    """Prints how many squares a second each batch size answers."""
    squares: dict[str, str] = {}
    for name, path in list(find_sources(arguments.images, folder).images.items())[: arguments.num_images]:
        squares[name] = os.path.join(folder, f"{name}_square.jpg")
        side = (arguments.side, arguments.side)
        visualize.save_image(squares[name], cv2.resize(read_pixels(path), side, interpolation=cv2.INTER_AREA))
    sizes = [int(size) for size in arguments.batch_sizes.split(",")]
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    results = Results(os.path.join(folder, "out"), SAVE)
    os.makedirs(results.out_dir)
    for number in range(arguments.rounds + 1):
        for size in sizes:
            begin = time.monotonic()
            list(segment_images(segmenter, squares, results, batch_size=size))
            if number:  # the first round pays for the graphs
                rates[size].append(len(squares) / (time.monotonic() - begin))
    print(f"{len(squares)} squares of {arguments.side} pixels, {usable_cores()} cores")
    for size, each in rates.items():
        rounds = ", ".join(f"{one:.1f}" for one in each)
        print(f"batch size {size:<4}{statistics.median(each):8.1f} images/s   rounds: {rounds}")


def compare(segmenter: Segmenter, arguments: argparse.Namespace, folder: str) -> None:
    """Takes turns and prints what each way took."""
    found = list(find_sources(arguments.images, folder).images.items())
    first, *rest = found[: arguments.num_images + 1]
    images = dict(rest)
    outs = {name: os.path.join(folder, name) for name in ("sequence", "overlap")}
    for out in outs.values():
        os.makedirs(out)
        list(segment_images(segmenter, dict([first]), Results(out, SAVE)))
    seconds: dict[str, list[float]] = {name: [] for name in (*outs, "read", "network", "crf", "write")}
    for _ in range(arguments.rounds):
        begin = time.monotonic()
        parts = in_sequence(segmenter, images, outs["sequence"])
        seconds["sequence"].append(time.monotonic() - begin)
        for name, one in parts.items():
            seconds[name].append(one)
        begin = time.monotonic()
        list(segment_images(segmenter, images, Results(outs["overlap"], SAVE)))
        seconds["overlap"].append(time.monotonic() - begin)
    names = sorted(os.listdir(outs["sequence"]))
    same = filecmp.cmpfiles(outs["sequence"], outs["overlap"], names, shallow=False)[0] == names
    print(f"{len(images)} images, {'with' if arguments.crf else 'without'} the CRF; the files are equal: {same}")
    for name, each in seconds.items():
        median, rounds = statistics.median(each), ", ".join(f"{one:.2f}" for one in each)
        print(f"{name:<10}{median:8.2f} s{len(images) / median:8.2f} images/s   rounds: {rounds}")
    ratios = [one / other for one, other in zip(seconds["sequence"], seconds["overlap"], strict=True)]
    print(f"overlap is {statistics.median(ratios):.2f} times as fast as one step after the other")


def in_sequence(segmenter: Segmenter, images: dict[str, str], out: str) -> dict[str, float]:
    """Does one step after the other; returns the seconds that each took."""
    seconds = dict.fromkeys(("read", "network", "crf", "write"), 0.0)
    for stem, path in images.items():
        times = [time.monotonic()]
        image = read_pixels(path)
        times.append(time.monotonic())
        output = segmenter.run_network(image)
        times.append(time.monotonic())
        prediction = segmenter.finish(image, output)
        times.append(time.monotonic())
        Results(out, SAVE).write(stem, image_result(path, prediction))
        times.append(time.monotonic())
        for name, begin, end in zip(seconds, times, times[1:], strict=False):
            seconds[name] += end - begin
    return seconds


if __name__ == "__main__":
    main()
