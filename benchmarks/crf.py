"""How fast the dense CRF is, against `pydensecrf.densecrf` called directly, and how well its backends agree.

    python -m benchmarks.crf --root=VOCdevkit/VOC2012 [--sections=one --sections=many ...]

One run does all of it; --sections picks some. Where ways are compared they take turns in one process, and the first
round warms up. Probabilities come from a trained network (--workdir), or are made up from the labels to look as if:
blurred, with noise and wrong blobs, at 1/8 of the size, upsampled. Without --root photographs are replaced by generated
images. With --out the curves of the time against pixels, classes, lattice points and threads are drawn there.

    one     one image, all backends, two sets of constants: seconds, ratios, agreement
    steps   where the compiled backend's time goes, on one thread
    many    many images: the compiled backend on a thread each, against a process of pydensecrf a core
    labels  150 classes, flat and peaked, and the time by the number of labels that take part
    search  one set of constants of eval.py --crf_search, with TensorFlow ops and compiled
    check   agreement with pydensecrf at 2, 21 and 60 classes, and with an exact mean field on a part
    curves  time by pixels, classes, lattice points and threads
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from PIL import Image

from benchmarks import timing
from datasets.source import Source
from datasets.sources import synthetic
from datasets.stored import tfrecord
from deeplab_tf.crf import compiled
from deeplab_tf.crf.compiled_team import Team
from deeplab_tf.crf.dense_crf import dense_crf, sweep_w1
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.evaluation import charts
from deeplab_tf.runtime import command_line

PARAMS = [CrfParams(4, 67, 3, 3, 1), CrfParams(4, 49, 5, 3, 3)]
# What else was released with, or is used for, the paper's networks, and pydensecrf's own example.
MORE_PARAMS = [CrfParams(4, 121, 5, 3, 3), CrfParams(5, 67, 3, 3, 3), CrfParams(4, 80, 13, 3, 3)]
# Images on which `check` compares the TensorFlow ops too, which take a second each.
_IMAGES_WITH_TF = 4
SECTIONS = ("one", "steps", "many", "labels", "search", "check", "curves")
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
    wrong = {
        int(label): rng.uniform(0.4, 0.9)
        for label in rng.choice(np.arange(1, num_classes), min(2, num_classes - 1), replace=False)
    }
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


def refine(backend: str, **kwargs: float | int) -> Callable[[np.ndarray, np.ndarray, CrfParams], np.ndarray]:
    return lambda image, probabilities, params: dense_crf(image, probabilities, params, backend, **kwargs)


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, CrfParams], np.ndarray]] = {
    "pydensecrf": call_pydensecrf,
    "tf": refine("tf"),
    "compiled": refine("compiled"),
    "compiled, one thread": refine("compiled", threads=1),
    "tf, no label left out": refine("tf", min_probability=0.0),
    "compiled, no label left out": refine("compiled", min_probability=0.0),
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
        f"{'':<28}{'median s':>10}{'quartiles':>14}{'processor s':>13}{'ratio':>8}{'quartiles':>14}"
        f"{'labels equal, %: mean, least':>32}{'mean difference':>18}"
    )
    for way in WAYS:
        times = seconds[way][1:].ravel()
        ratios = (seconds["pydensecrf"][1:] / seconds[way][1:]).ravel()
        low, median, high = np.percentile(times, [25, 50, 75])
        ratio_low, ratio, ratio_high = np.percentile(ratios, [25, 50, 75])
        print(
            f"{way:<28}{median:>10.3f}{f'{low:.2f}..{high:.2f}':>14}{np.median(processor[way][1:]):>13.3f}{ratio:>8.2f}"
            f"{f'{ratio_low:.2f}..{ratio_high:.2f}':>14}"
            f"{f'{100 * np.mean(agreement[way]):.4f}, {100 * min(agreement[way]):.4f}':>32}"
            f"{np.mean(difference[way]):>18.2g}",
            flush=True,
        )


def _constants(params: CrfParams) -> tuple[float, ...]:
    return params.w1, params.sigma_alpha, params.sigma_beta, params.w2, params.sigma_gamma


def measure_steps(scenes: list[Scene]) -> None:
    """Prints the milliseconds of each step of the compiled backend, on one thread: the best of three."""
    print("\nsteps of the compiled backend, one thread, ms: the mean over the images of the best of three")
    for params in PARAMS:
        best: dict[str, list[float]] = {}
        for _, image, probabilities in scenes:
            timed: dict[str, list[float]] = {}
            for _ in range(3):
                for step, milliseconds in _run_steps(image, probabilities, params):
                    timed.setdefault(step, []).append(milliseconds)
            for step, several in timed.items():
                best.setdefault(step, []).append(min(several))
        print(f"{_constants(params)}: " + ", ".join(f"{step} {np.mean(times):.1f}" for step, times in best.items()))


def _run_steps(image: np.ndarray, probabilities: np.ndarray, params: CrfParams) -> Iterator[tuple[str, float]]:
    height, width, num_classes = probabilities.shape
    flat = probabilities.reshape(-1, num_classes)
    clock = time.perf_counter()

    def lap() -> float:
        nonlocal clock
        before, clock = clock, time.perf_counter()
        return 1e3 * (clock - before)

    with Team(1) as team:
        compiled.are_distributions(flat)
        yield "check the input", lap()
        found = compiled.survey_labels(flat, team)
        order = np.argsort(-found.highest).astype(np.int32)
        compiled.sum_of_tails(flat, found, order, 4, team)
        yield "what the choice of labels depends on", lap()
        bilateral = compiled.build_bilateral(image, params.sigma_alpha, params.sigma_beta, "symmetric", team)
        yield "bilateral lattice", lap()
        smoothness = compiled.build_smoothness(height, width, params.sigma_gamma, "symmetric", team)
        yield "smoothness lattice (kept for the size)", lap()
        kernels = [(bilateral, params.w1), (smoothness, params.w2)]
        for count in (4, 8, num_classes):
            compiled.update(flat, np.sort(order[:count]), kernels, params.iterations, team)
            yield f"{params.iterations} updates of {count} labels", lap()


def measure_many(scenes: list[Scene], rounds: int) -> None:
    """Prints images a second: threads of the compiled backend, and processes of pydensecrf, as many as cores."""
    cores = len(os.sched_getaffinity(0))
    repeated = scenes * max(1, -(-3 * cores // len(scenes)))
    print(f"\n{len(repeated)} images, {cores} cores: images a second, the best of {rounds}")
    # Processes of their own, begun before the threads: they hold nothing but pydensecrf and their images.
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for params in PARAMS:
            tasks = [(image, probabilities, params) for _, image, probabilities in repeated]
            theirs = _images_a_second(lambda tasks=tasks: pool.starmap(_refine_alone, tasks, 1), len(tasks), rounds)
            ours = {}
            for threads in sorted({1, cores // 2 or 1, cores}):
                with concurrent.futures.ThreadPoolExecutor(threads) as executor:
                    work = lambda executor=executor, tasks=tasks: list(executor.map(_refine_in_thread, tasks))  # noqa: E731
                    ours[threads] = _images_a_second(work, len(tasks), rounds)
            by_threads = ", ".join(f"{count} threads {rate:.2f}" for count, rate in ours.items())
            print(
                f"{_constants(params)}: pydensecrf in {cores} processes {theirs:.2f}; compiled, {by_threads}; "
                f"{ours[cores] / theirs:.2f} times",
                flush=True,
            )


def _refine_alone(image: np.ndarray, probabilities: np.ndarray, params: CrfParams) -> None:
    call_pydensecrf(image, probabilities, params)


def _refine_in_thread(task: tuple[np.ndarray, np.ndarray, CrfParams]) -> None:
    dense_crf(*task, backend="compiled", threads=1)


def _images_a_second(work: Callable[[], object], count: int, rounds: int) -> float:
    work()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return count / min(seconds)


def measure_labels(scene: Scene, labels: np.ndarray, rounds: int) -> None:
    """Prints the seconds of 150 classes, and those by the number of labels that take part."""
    _, image, _ = scene
    height, width = labels.shape
    rng = np.random.default_rng(0)
    flat = rng.dirichlet(np.full(150, 1.0), (height // 8 + 1, width // 8 + 1)).astype(np.float32)
    flat = np.stack([cv2.resize(flat[..., k], (width, height)) for k in range(150)], -1)
    flat /= flat.sum(-1, keepdims=True)
    peaked = like_a_network(np.where(labels == 255, 0, labels), 150, seed=1)
    print("\n150 classes, (4, 67, 3, 3, 1): labels that take part, seconds compiled and with TensorFlow ops")
    for name, probabilities in (("peaked", peaked), ("flat", flat)):
        takes_part = int((dense_crf(image, probabilities, PARAMS[0]).max((0, 1)) > 0).sum())
        times = [
            _best(refine(way), image, probabilities, PARAMS[0], rounds if way == "compiled" else 1)
            for way in ("compiled", "tf")
        ]
        print(f"{name}: {takes_part} labels, {times[0]:.3f} and {times[1]:.3f}", flush=True)
    likeliest = np.argsort(-flat.max((0, 1)))
    cells = []
    for count in (4, 8, 16, 24, 48, 96, 150):
        some = flat[..., likeliest[:count]] / flat[..., likeliest[:count]].sum(-1, keepdims=True)
        seconds = _best(refine("compiled", min_probability=0.0), image, some, PARAMS[0], rounds)
        cells.append(f"{count} {seconds:.3f}")
    print(f"seconds compiled by labels that take part: {', '.join(cells)}", flush=True)


def measure_search(scenes: list[Scene], rounds: int) -> None:
    """Prints how long nine sets of constants that share three lattices take, an image a thread."""
    cores = len(os.sched_getaffinity(0))
    print("\nthe search's constants: w1 3, 4.5, 6 at sigma_beta 3, 4.5, 6; seconds an image, the best")
    best = {}
    for backend in ("tf", "compiled"):

        def sweep(task: tuple[Scene, float], backend: str = backend) -> None:
            (_, image, probabilities), sigma_beta = task
            sweep_w1(image, probabilities, CrfParams(4, 50, sigma_beta, 3, 3), [3, 4.5, 6], backend, threads=1)

        tasks = [(scene, sigma_beta) for scene in scenes for sigma_beta in (3, 4.5, 6)]
        with concurrent.futures.ThreadPoolExecutor(cores) as executor:
            rate = _images_a_second(lambda sweep=sweep: list(executor.map(sweep, tasks)), len(scenes), rounds)  # noqa: B023
        best[backend] = 1 / rate
    print(
        f"tf {best['tf']:.2f}, compiled {best['compiled']:.2f}, {best['tf'] / best['compiled']:.2f} times", flush=True
    )


def _best(way: Callable[..., np.ndarray], image: np.ndarray, p: np.ndarray, params: CrfParams, rounds: int) -> float:
    way(image, p, params)
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        way(image, p, params)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def check(stored: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Prints how answers differ from pydensecrf's, and on a part of each image those of both from the exact ones."""
    from tests.references import brute_force_mean_field

    print(
        "\nno label left out, to pydensecrf: pixels with equal labels, % (all images together, and the least), and "
        "the mean difference (the mean, and the largest); tf on the first images only"
    )
    for num_classes in (2, 21, 60):
        found: dict[tuple[CrfParams, str], list[tuple[float, float, int]]] = {}
        bits = [0, 0]
        for seed, (_, image, labels) in enumerate(stored):
            probabilities = like_a_network(np.where(labels == 255, 0, labels) % num_classes, num_classes, seed)
            for params in [*PARAMS, *MORE_PARAMS]:
                theirs = call_pydensecrf(image, probabilities, params)
                for backend in ("compiled", "tf") if seed < _IMAGES_WITH_TF else ("compiled",):
                    ours = dense_crf(image, probabilities, params, backend, 0.0)
                    pair = (*_compare(ours, theirs), theirs[..., 0].size)
                    found.setdefault((params, backend), []).append(pair)
                    if backend == "compiled":
                        alone = dense_crf(image, probabilities, params, backend, 0.0, threads=1)
                        bits[int(np.array_equal(alone, ours))] += 1
        for (params, backend), pairs in found.items():
            equal, difference, size = np.array(pairs).T
            print(
                f"{num_classes} classes, {_constants(params)}, {backend}, {len(pairs)} images: "
                f"{100 * np.average(equal, weights=size):.5f}, {100 * equal.min():.4f}; "
                f"{difference.mean():.1e}, {difference.max():.1e}"
            )
        print(
            f"{num_classes} classes: of {sum(bits)} answers {bits[1]} have the same bits on one thread and on all",
            flush=True,
        )

    side = 48
    print(f"\non the middle {side} x {side} pixels, 21 classes, to an exact mean field: compiled | pydensecrf")
    for params in [*PARAMS, *MORE_PARAMS]:
        on_part: list[list[tuple[float, float]]] = [[], []]
        for seed, (_, image, labels) in enumerate(stored):
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            part = np.s_[top : top + side, left : left + side]
            probabilities = like_a_network(labels, 21, seed)[part]
            small = np.ascontiguousarray(image[part]), np.maximum(probabilities, 1e-20)
            exact = brute_force_mean_field(*small, *_constants(params), params.iterations, "symmetric")
            on_part[0].append(_compare(dense_crf(*small, params, "compiled", 0.0), exact))
            on_part[1].append(_compare(call_pydensecrf(*small, params), exact))
        cells = []
        for of_column in on_part:
            equal, difference = np.array(of_column).T
            cells.append(f"{100 * equal.mean():.3f}, {100 * equal.min():.3f}; {difference.mean():.1e}")
        print(f"{_constants(params)!s:<20} | {' | '.join(cells)}", flush=True)


def _compare(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    return float((one.argmax(-1) == other.argmax(-1)).mean()), float(np.abs(one - other).mean())


def best_time(
    scene: Scene, params: CrfParams, min_probability: float, backend: str = "compiled", threads: int | None = None
) -> tuple[float, float]:
    """Returns the least seconds of three rounds (tf: one), and how far memory grew beyond what was there, in MB."""
    _, image, probabilities = scene
    way = refine(backend, min_probability=min_probability, threads=threads)
    way(image, probabilities, params)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    seconds = _best(way, image, probabilities, params, rounds=1 if backend == "tf" else 3)
    return seconds, memory("VmHWM") - before


def memory(field: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1000


def count_points(image: np.ndarray, params: CrfParams) -> int:
    with Team(1) as team:
        return compiled.build_bilateral(image, params.sigma_alpha, params.sigma_beta, "after", team).num_points


def measure_curves(scene: Scene, labels: np.ndarray, out: str) -> None:
    """Measures one scene at several sizes, numbers of classes, widths of the kernel and threads; draws the curves."""
    name, image, probabilities = scene
    params = PARAMS[0]
    backends = ("compiled", "tf")

    def resized(width: int, height: int) -> Scene:
        p = cv2.resize(probabilities[..., :8], (width, height))
        return name, cv2.resize(image, (width, height)), p / p.sum(-1, keepdims=True)

    def draw(file: str, xs: list[float], of_backends: dict[str, list[float]], x_title: str) -> None:
        if out:
            lines = [charts.Line(backend, ys) for backend, ys in of_backends.items()]
            (Path(out) / file).write_text(charts.line_chart(xs, lines, x_title, "seconds") + "\n")

    print("\nwidth x height, lattice points; seconds and MB more at the peak: compiled, then tf (8 classes)")
    pixels: list[float] = []
    times: dict[str, list[float]] = {backend: [] for backend in backends}
    for width, height in ((256, 128), (512, 256), (1024, 512), (1448, 724), (2048, 1024)):
        sized = resized(width, height)
        pixels.append(width * height / 1e6)
        measured = [best_time(sized, params, 0.0, backend) for backend in backends]
        for backend, (seconds, _) in zip(backends, measured, strict=True):
            times[backend].append(seconds)
        cells = "; ".join(f"{seconds:.3f} s, {megabytes:.0f} MB" for seconds, megabytes in measured)
        print(f"{width} x {height}, {count_points(sized[1], params)}; {cells}", flush=True)
    draw("crf_pixels.svg", pixels, times, "megapixels")

    print("\nclasses (none left out); seconds and MB more at the peak: compiled, then tf")
    classes = [4.0, 8, 16, 24, 32, 64]
    times = {backend: [] for backend in backends}
    for num_classes in map(int, classes):
        of_classes = like_a_network(np.where(labels == 255, 0, labels) % num_classes, num_classes, seed=1)
        measured = [best_time((name, image, of_classes), params, 0.0, backend) for backend in backends]
        for backend, (seconds, _) in zip(backends, measured, strict=True):
            times[backend].append(seconds)
        cells = "; ".join(f"{seconds:.3f} s, {megabytes:.0f} MB" for seconds, megabytes in measured)
        print(f"{num_classes}; {cells}", flush=True)
    draw("crf_classes.svg", classes, times, "classes, none left out")

    print("\nsigma_beta, lattice points; seconds compiled, tf (8 classes)")
    points: list[float] = []
    times = {backend: [] for backend in backends}
    eight = resized(image.shape[1], image.shape[0])
    for sigma_beta in (13, 8, 5, 4, 3, 2):
        narrow = CrfParams(4, 67, sigma_beta, 3, 1)
        points.append(count_points(image, narrow) / 1e3)
        for backend in backends:
            times[backend].append(best_time(eight, narrow, 0.0, backend)[0])
        print(f"{sigma_beta}, {1e3 * points[-1]:.0f}; {times['compiled'][-1]:.3f}, {times['tf'][-1]:.3f}", flush=True)
    draw("crf_points.svg", points, times, "thousand lattice points")

    print("\nthreads, seconds compiled (8 classes, 1024 x 512)")
    large = resized(1024, 512)
    threads = [float(count) for count in (1, 2, 4, 8, 16) if count <= len(os.sched_getaffinity(0))]
    by_threads = [best_time(large, params, 0.0, threads=int(count))[0] for count in threads]
    print(", ".join(f"{count:.0f} {seconds:.3f}" for count, seconds in zip(threads, by_threads, strict=True)))
    draw("crf_threads.svg", threads, {"compiled": by_threads}, "threads")


def _shrink(name: str, image: np.ndarray, labels: np.ndarray, times: int) -> tuple[str, np.ndarray, np.ndarray]:
    labels = np.ascontiguousarray(labels[::times, ::times])
    return name, cv2.resize(image, labels.shape[::-1], interpolation=cv2.INTER_AREA), labels


def main() -> None:
    values = flags.FLAGS
    source = photographs(values.root, values.split, values.images) if values.root else generated(values.images)
    stored = [_shrink(*one, values.shrink) for one in source]
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
        f"{timing.machine()}\n"
        f"{len(scenes)} images of {', '.join(sorted({f'{i.shape[1]}x{i.shape[0]}' for _, i, _ in scenes}))}, "
        f"{scenes[0][2].shape[-1]} classes, {likely:.1f} of them reach 0.01 in an image on average; {cores} cores"
    )
    for section in values.sections:
        if section == "one":
            for params in PARAMS:
                compare(scenes, params, values.rounds)
        elif section == "steps":
            measure_steps(scenes)
        elif section == "many":
            measure_many(scenes, values.rounds)
        elif section == "labels":
            measure_labels(scenes[0], stored[0][2], values.rounds)
        elif section == "search":
            measure_search(scenes, values.rounds)
        elif section == "check":
            check(stored)
        else:
            measure_curves(scenes[0], stored[0][2], values.out)


def _define_flags() -> None:
    flags.DEFINE_string("root", "", "VOC2012 folder with photographs; generated images without.")
    flags.DEFINE_string("split", "val", "Its split.")
    flags.DEFINE_integer("images", 8, "Images.", lower_bound=1)
    flags.DEFINE_integer("shrink", 1, "Take images at 1/2, 1/3 ... of their size.", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "Rounds that count.", lower_bound=1)
    flags.DEFINE_integer("classes", 21, "Classes, without --workdir.", lower_bound=4)
    flags.DEFINE_string("workdir", "", "A trained network for the probabilities.")
    flags.DEFINE_multi_enum("sections", list(SECTIONS), SECTIONS, "What to measure.")
    flags.DEFINE_string("out", "", "Folder for the drawn curves.")


if __name__ == "__main__":
    _define_flags()
    command_line.run(main)
