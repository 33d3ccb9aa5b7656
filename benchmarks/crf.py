"""How fast the dense CRF in TensorFlow is, against `pydensecrf.densecrf` called directly, and how well the two agree.

    python -m benchmarks.crf --root=VOCdevkit/VOC2012 [--out=docs/images]

Each round refines each photograph once in every way, one after the other, in one process; the first round warms up.
Probabilities come from a trained network (--workdir), or are made up from the labels to look as if: blurred, with
noise and wrong blobs, at 1/8 of the size, upsampled. Without --root photographs are replaced by generated images. With
--out the time against pixels, classes and lattice points is measured too, and drawn there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from PIL import Image

from datasets.source import Source
from datasets.sources import synthetic
from datasets.stored import tfrecord
from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.evaluation import charts
from deeplab_tf.runtime import command_line

PARAMS = [CrfParams(4, 67, 3, 3, 1), CrfParams(4, 49, 5, 3, 3)]
# What else was released with, or is used for, the paper's networks, and pydensecrf's own example.
MORE_PARAMS = [CrfParams(4, 121, 5, 3, 3), CrfParams(5, 67, 3, 3, 3), CrfParams(4, 80, 13, 3, 3)]
Scene = tuple[str, np.ndarray, np.ndarray]
"""Name, image uint8 [H, W, 3], probabilities float32 [H, W, K]."""


def photographs(root: str, split: str, count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields names, images uint8 [H, W, 3] and labels uint8 [H, W], evenly spread over a split in VOC's layout."""
    ids = (Path(root) / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
    for number in np.linspace(0, len(ids) - 1, count).round().astype(int):
        image = Image.open(Path(root) / "JPEGImages" / f"{ids[number]}.jpg").convert("RGB")
        labels = Image.open(Path(root) / "SegmentationClass" / f"{ids[number]}.png")
        yield ids[number], np.asarray(image), np.asarray(labels)


def generated(count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields mosaics of six generated images in the size of a photograph of VOC."""
    for number in range(count):
        tiles = [synthetic.example(Source(), "val", f"val_{6 * number + tile:04d}") for tile in range(6)]
        images = [tfrecord.decode_image(tile.image).numpy()[:185, :185] for tile in tiles]
        labels = [tile.labels[:185, :185] for tile in tiles]
        image, label = (
            np.concatenate([np.concatenate(row, 1) for row in (some[:3], some[3:])]) for some in (images, labels)
        )
        yield f"generated {number}", np.ascontiguousarray(image[:370, :500]), label[:370, :500]


def like_a_network(labels: np.ndarray, num_classes: int, seed: int) -> np.ndarray:
    """Makes up probabilities float32 [H, W, K] from labels uint8 [H, W]; 255 counts as background."""
    rng = np.random.default_rng(seed)
    height, width = labels.shape
    h, w = (height + 6) // 8 + 1, (width + 6) // 8 + 1
    y, x = np.mgrid[:h, :w]
    wrong = {int(label): rng.uniform(0.4, 0.9) for label in rng.choice(np.arange(1, num_classes), 2, replace=False)}
    scores = np.empty((height, width, num_classes), np.float32)
    for label in range(num_classes):
        mask = (np.where(labels == 255, 0, labels) == label).astype(np.float32)
        score = 9 * cv2.resize(cv2.GaussianBlur(mask, (0, 0), 6), (w, h), interpolation=cv2.INTER_AREA)
        noise = cv2.GaussianBlur(rng.normal(0, 1, (h, w)), (0, 0), 1.5)
        score = score + noise / noise.std() + 0.7 * rng.normal() - (0 if mask.any() else 2)
        if label in wrong:
            squared = (y - rng.uniform(0, h)) ** 2 + (x - rng.uniform(0, w)) ** 2
            score += 9 * wrong[label] * np.exp(-squared / (2 * rng.uniform(3, 7) ** 2))
        scores[..., label] = cv2.resize(score, (8 * (w - 1) + 1, 8 * (h - 1) + 1))[:height, :width]
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def call_pydensecrf(image: np.ndarray, probabilities: np.ndarray, params: CrfParams) -> np.ndarray:
    from pydensecrf import densecrf

    height, width, num_classes = probabilities.shape
    crf = densecrf.DenseCRF2D(width, height, num_classes)
    unary = -np.log(np.maximum(probabilities, 1e-20)).reshape(-1, num_classes).T
    crf.setUnaryEnergy(np.ascontiguousarray(unary))
    crf.addPairwiseGaussian(sxy=params.sigma_gamma, compat=params.w2)
    crf.addPairwiseBilateral(sxy=params.sigma_alpha, srgb=params.sigma_beta, rgbim=image.copy(), compat=params.w1)
    return np.array(crf.inference(params.iterations)).T.reshape(probabilities.shape)


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, CrfParams], np.ndarray]] = {
    "pydensecrf": call_pydensecrf,
    "tf": dense_crf,
    "tf, no label left out": lambda *args: dense_crf(*args, min_probability=0.0),
}


def compare(scenes: list[Scene], params: CrfParams, rounds: int) -> None:
    """Prints seconds and agreement of all ways on some scenes."""
    seconds = {way: np.empty((rounds + 1, len(scenes))) for way in WAYS}
    processor = {way: np.empty((rounds + 1, len(scenes))) for way in WAYS}
    agreement: dict[str, list[float]] = {way: [] for way in WAYS}
    difference: dict[str, list[float]] = {way: [] for way in WAYS}
    for round_number in range(rounds + 1):
        for number, (_, image, probabilities) in enumerate(scenes):
            answers = {}
            for way, refine in WAYS.items():
                begin, processor_begin = time.perf_counter(), time.process_time()
                answers[way] = refine(image, probabilities, params)
                seconds[way][round_number, number] = time.perf_counter() - begin
                processor[way][round_number, number] = time.process_time() - processor_begin
            if round_number == 0:
                theirs = answers["pydensecrf"]
                for way, ours in answers.items():
                    agreement[way].append((ours.argmax(-1) == theirs.argmax(-1)).mean())
                    difference[way].append(np.abs(ours - theirs).mean())
    print(f"\n(w1, sigma_alpha, sigma_beta, w2, sigma_gamma) = {_constants(params)}, {params.iterations} iterations")
    print(
        f"{'':<24}{'median s':>10}{'quartiles':>14}{'processor s':>13}{'ratio':>8}{'quartiles':>14}"
        f"{'labels equal, %: mean, least':>32}{'mean difference':>18}"
    )
    for way in WAYS:
        times = seconds[way][1:].ravel()
        ratios = (seconds["pydensecrf"][1:] / seconds[way][1:]).ravel()
        low, median, high = np.percentile(times, [25, 50, 75])
        ratio_low, ratio, ratio_high = np.percentile(ratios, [25, 50, 75])
        print(
            f"{way:<24}{median:>10.3f}{f'{low:.2f}..{high:.2f}':>14}{np.median(processor[way][1:]):>13.3f}{ratio:>8.2f}"
            f"{f'{ratio_low:.2f}..{ratio_high:.2f}':>14}"
            f"{f'{100 * np.mean(agreement[way]):.4f}, {100 * min(agreement[way]):.4f}':>32}"
            f"{np.mean(difference[way]):>18.2g}",
            flush=True,
        )


def _constants(params: CrfParams) -> tuple[float, ...]:
    return params.w1, params.sigma_alpha, params.sigma_beta, params.w2, params.sigma_gamma


def check(scenes: list[Scene]) -> None:
    """Prints how answers differ from pydensecrf's, and on a part of each scene those of both from the exact ones."""
    from tests.references import brute_force_mean_field

    side = 48
    print(
        "\nlabels equal, %: mean, least; mean difference. (1) tf, no label left out, to pydensecrf; (2) tf as it is, "
        f"to pydensecrf;\non the middle {side} x {side} pixels (3) tf and (4) pydensecrf to an exact mean field"
    )
    for params in [*PARAMS, *MORE_PARAMS]:
        pairs: list[list[tuple[float, float]]] = [[], [], [], []]
        for _, image, probabilities in scenes:
            theirs = call_pydensecrf(image, probabilities, params)
            for column, least in ((0, 0.0), (1, None)):
                kwargs = {} if least is None else {"min_probability": least}
                pairs[column].append(_compare(dense_crf(image, probabilities, params, **kwargs), theirs))
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            part = np.s_[top : top + side, left : left + side]
            small = np.ascontiguousarray(image[part]), np.maximum(probabilities[part], 1e-20)
            exact = brute_force_mean_field(*small, *_constants(params), params.iterations, "symmetric")
            pairs[2].append(_compare(dense_crf(*small, params, min_probability=0.0), exact))
            pairs[3].append(_compare(call_pydensecrf(*small, params), exact))
        cells = []
        for of_column in pairs:
            equal, difference = np.array(of_column).T
            cells.append(f"{100 * equal.mean():.4f}, {100 * equal.min():.4f}; {difference.mean():.1e}")
        print(f"{_constants(params)!s:<20} | {' | '.join(cells)}", flush=True)


def _compare(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    return float((one.argmax(-1) == other.argmax(-1)).mean()), float(np.abs(one - other).mean())


def best_time(scene: Scene, params: CrfParams, min_probability: float, rounds: int = 3) -> tuple[float, float]:
    """Returns the least seconds of a few rounds, and how far memory grew beyond what was there before, in MB."""
    _, image, probabilities = scene
    dense_crf(image, probabilities, params, min_probability=min_probability)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        dense_crf(image, probabilities, params, min_probability=min_probability)
        times.append(time.perf_counter() - begin)
    return min(times), memory("VmHWM") - before


def memory(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1000


def count_points(image: np.ndarray, params: CrfParams) -> int:
    from deeplab_tf.crf.mean_field import embed_pixels
    from deeplab_tf.crf.permutohedral import build_filter

    position, colour = embed_pixels(image)
    features = [*(axis / params.sigma_alpha for axis in position), *(axis / params.sigma_beta for axis in colour)]
    return int(build_filter(features).num_points)


def draw_scaling(scene: Scene, labels: np.ndarray, out: str) -> None:
    """Measures one scene at several sizes, numbers of classes and widths of the kernel, and draws three curves."""
    name, image, probabilities = scene
    params = PARAMS[0]

    def resized(width: int, height: int) -> Scene:
        p = cv2.resize(probabilities[..., :8], (width, height))
        return name, cv2.resize(image, (width, height)), p / p.sum(-1, keepdims=True)

    def draw(file: str, xs: list[float], ys: list[float], x_title: str) -> None:
        chart = charts.line_chart(xs, [charts.Line("tf", ys)], x_title, "seconds")
        (Path(out) / file).write_text(chart + "\n")

    print("\nwidth x height, seconds, seconds per megapixel, lattice points, MB more at the peak (8 classes)")
    pixels, times = [], []
    for width, height in ((256, 128), (512, 256), (1024, 512), (1448, 724), (2048, 1024)):
        sized = resized(width, height)
        seconds, megabytes = best_time(sized, params, 0.0)
        pixels.append(width * height / 1e6)
        times.append(seconds)
        points = count_points(sized[1], params)
        print(f"{width} x {height}, {seconds:.2f}, {seconds / pixels[-1]:.2f}, {points}, {megabytes:.0f}", flush=True)
    draw("crf_pixels.svg", pixels, times, "megapixels")

    print("\nclasses, seconds, MB more at the peak (none left out)")
    classes, times = [4, 8, 16, 24, 32, 64], []
    for num_classes in classes:
        of_classes = like_a_network(np.where(labels == 255, 0, labels) % num_classes, num_classes, seed=1)
        seconds, megabytes = best_time((name, image, of_classes), params, 0.0)
        times.append(seconds)
        print(f"{num_classes}, {seconds:.2f}, {megabytes:.0f}", flush=True)
    draw("crf_classes.svg", classes, times, "classes, none left out")

    print("\nsigma_beta, lattice points, seconds (8 classes)")
    points, times = [], []
    eight = resized(image.shape[1], image.shape[0])
    for sigma_beta in (13, 8, 5, 4, 3, 2):
        narrow = CrfParams(4, 67, sigma_beta, 3, 1)
        points.append(count_points(image, narrow) / 1e3)
        times.append(best_time(eight, narrow, 0.0)[0])
        print(f"{sigma_beta}, {1e3 * points[-1]:.0f}, {times[-1]:.2f}", flush=True)
    draw("crf_points.svg", points, times, "thousand lattice points")


def main() -> None:
    values = flags.FLAGS
    source = photographs(values.root, values.split, values.images) if values.root else generated(values.images)
    stored = list(source)
    if values.workdir:
        from deeplab_tf import workdir
        from deeplab_tf.inference import probabilities as inference

        model, config = workdir.load(values.workdir)
        scenes = [
            (name, image, inference.predict_probabilities(model, image, options=config.inference))
            for name, image, _ in stored
        ]
    else:
        scenes = [
            (name, image, like_a_network(labels, values.classes, seed))
            for seed, (name, image, labels) in enumerate(stored)
        ]
    cores = len(os.sched_getaffinity(0))
    likely = np.mean([(p.max((0, 1)) >= 0.01).sum() for _, _, p in scenes])
    print(
        f"{len(scenes)} images of {', '.join(sorted({f'{i.shape[1]}x{i.shape[0]}' for _, i, _ in scenes}))}, "
        f"{scenes[0][2].shape[-1]} classes, {likely:.1f} of them reach 0.01 in an image on average; {cores} cores"
    )
    if values.check:
        check(scenes)
        return
    for params in PARAMS:
        compare(scenes, params, values.rounds)
    if values.out:
        draw_scaling(scenes[0], stored[0][2], values.out)


def _define_flags() -> None:
    flags.DEFINE_string("root", "", "VOC2012 folder with photographs; generated images without.")
    flags.DEFINE_string("split", "val", "Its split.")
    flags.DEFINE_integer("images", 8, "Images.", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "Rounds that count.", lower_bound=1)
    flags.DEFINE_integer("classes", 21, "Classes, without --workdir.", lower_bound=4)
    flags.DEFINE_string("workdir", "", "A trained network for the probabilities.")
    flags.DEFINE_bool("check", False, "Compare answers, at all constants in use, instead of times.")
    flags.DEFINE_string("out", "", "Folder for curves of the time against pixels, classes and lattice points.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
