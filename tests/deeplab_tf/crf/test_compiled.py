import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.crf import backends, compiled, compiled_cache
from deeplab_tf.crf.backends import choose_backend
from deeplab_tf.crf.compiled_filter import build_filter_kernels
from deeplab_tf.crf.compiled_lattice import link, number
from deeplab_tf.crf.compiled_rows import (
    exp,
    largest_of_quads,
    load,
    load_quads,
    load_run,
    repeat,
    store,
    store_quads,
    store_run,
    totals_of_quads,
)
from deeplab_tf.crf.compiled_team import Team
from deeplab_tf.crf.dense_crf import dense_crf, sweep_w1
from deeplab_tf.crf.mean_field import build_bilateral, build_smoothness, embed_pixels
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError
from tests.references import slow_lattice_filter

# (w1, sigma_alpha, sigma_beta, w2, sigma_gamma) as released with, or used for, the paper's networks.
RELEASED = [(4, 67, 3, 3, 1), (4, 49, 5, 3, 3), (4, 121, 5, 3, 3), (5, 67, 3, 3, 3), (4, 80, 13, 3, 3)]


def picture(seed, height, width):
    """Smooth areas, a gradient and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    base = 60 * ((x // 11 + y // 7) % 3) + 80 * x / width
    return np.clip(base[..., None] + rng.normal(0, 6, (height, width, 3)) + [0, 20, 40], 0, 255).astype(np.uint8)


def beliefs(seed, height, width, num_classes, concentration=0.3):
    alpha = np.full(num_classes, concentration)
    return np.random.default_rng(seed).dirichlet(alpha, (height, width)).astype(np.float32)


def matrices(parts):
    """The indices and values of sparse matrices, all entries in one list."""
    return (np.concatenate([getattr(part, name).numpy() for part in parts]) for name in ("indices", "values"))


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
@pytest.mark.parametrize("kernel", ["bilateral", "smoothness"])
@pytest.mark.parametrize("size", [(33, 47), (1, 1), (1, 40)], ids=str)
def test_the_lattice_is_that_of_the_tensorflow_ops_point_by_point(kernel, normalization, size):
    image = picture(1, *size)
    with Team(2) as team:
        if kernel == "bilateral":
            ours = compiled.build_bilateral(image, 30, 4, normalization, team)
            theirs = build_bilateral(tf.constant(image), 30.0, 4.0, normalization)
        else:
            ours = compiled.build_smoothness(*size, 1.5, normalization, team)
            theirs = build_smoothness(*size, 1.5, normalization)
    assert ours.num_points == int(theirs.num_points)
    entries, values = matrices(theirs.splat)
    np.testing.assert_array_equal(ours.rows.ravel(), entries[:, 0])
    np.testing.assert_allclose(ours.weights.ravel(), values, rtol=1e-5, atol=1e-7)
    _, values = matrices(theirs.slice)
    np.testing.assert_allclose((ours.weights * ours.scale).ravel(), values, rtol=1e-5, atol=1e-7)
    for before, after, blur in zip(ours.before, ours.after, theirs.blurs, strict=True):
        links = {(row, column) for row, column in blur.indices.numpy() if row != column}
        points = range(ours.num_points)
        none = ours.num_points
        assert links == {(i, j) for i, j in [*zip(points, before), *zip(points, after)] if j < none}  # noqa: B905
    assert ours.largest_row_sum == pytest.approx(float(theirs.largest_row_sum), rel=1e-5)


def test_filtering_is_that_of_a_dictionary_of_lattice_points():
    image = picture(2, 9, 11)
    values = np.random.default_rng(1).random(99).astype(np.float32)
    with Team(1) as team:
        lattice = compiled.build_bilateral(image, 5, 20, "after", team)
        norm = 1 / lattice.scale
        filtered = compiled._filter(lattice._replace(scale=np.ones(99, np.float32)), values, team)
    position, colour = embed_pixels(tf.constant(image))
    features = np.stack([*(axis / 5 for axis in position), *(axis / 20 for axis in colour)], -1)
    constant = 1 / (1 + 2.0**-5)
    exact, num_points = slow_lattice_filter(features, np.stack([values, np.ones(99)], -1))
    assert lattice.num_points == num_points
    np.testing.assert_allclose(constant * filtered, exact[:, 0], rtol=2e-5)
    np.testing.assert_allclose(constant * norm, exact[:, 1], rtol=2e-5)


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
@pytest.mark.parametrize("num_classes", [2, 4, 5, 8, 9, 21, 60])
@pytest.mark.parametrize("constants", RELEASED[:2], ids=str)
def test_it_answers_what_pydensecrf_answers(constants, num_classes, normalization):
    pytest.importorskip("pydensecrf.densecrf")
    image, probabilities = picture(3, 37, 53), beliefs(4, 37, 53, num_classes)
    params = CrfParams(*constants)
    ours, theirs = (
        dense_crf(image, probabilities, params, backend, 0.0, normalization) for backend in ("compiled", "pydensecrf")
    )
    assert np.abs(ours - theirs).mean() < 1e-6
    assert (ours.argmax(-1) == theirs.argmax(-1)).mean() >= 0.999  # 2 pixels that are about to tie
    assert (theirs.argmax(-1) != probabilities.argmax(-1)).mean() > 0.01  # there was something to do


@pytest.mark.parametrize("min_probability", [None, 0.3])
@pytest.mark.parametrize("constants", RELEASED, ids=str)
def test_labels_that_are_left_out_are_those_of_the_tensorflow_ops_and_so_is_the_answer(constants, min_probability):
    image = picture(5, 30, 42)
    probabilities = 0.999 * np.repeat(np.repeat(beliefs(6, 5, 7, 30, 0.1), 6, 0), 6, 1) + 0.001 / 30
    params = CrfParams(*constants)
    ours, theirs = (
        dense_crf(image, probabilities, params, backend, min_probability=min_probability)
        for backend in ("compiled", "tf")
    )
    np.testing.assert_array_equal(ours.max((0, 1)) > 0, theirs.max((0, 1)) > 0)
    if min_probability:
        assert (ours.max((0, 1)) == 0).any()
    np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-6)
    assert np.abs(ours - theirs).mean() < 1e-6


@pytest.mark.parametrize("num_classes", [3, 21])
def test_no_bit_depends_on_the_number_of_threads(num_classes):
    # Large enough for several threads to have pixels and points of their own.
    image, probabilities = picture(7, 150, 301), beliefs(8, 150, 301, num_classes)
    params = CrfParams(iterations=3)
    first, *others = (
        dense_crf(image, probabilities, params, "compiled", 0.0, threads=threads) for threads in (1, 2, 3, 16)
    )
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_images_refined_at_the_same_time_are_refined_as_one_by_one():
    scenes = [(picture(seed, 40 + seed, 60), beliefs(seed, 40 + seed, 60, 6)) for seed in range(6)]
    alone = [dense_crf(*scene, backend="compiled", threads=1) for scene in scenes]
    together = [None] * len(scenes)

    def refine(place):
        together[place] = dense_crf(*scenes[place], backend="compiled", threads=1)

    threads = [threading.Thread(target=refine, args=(place,)) for place in range(len(scenes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_sweep_is_what_each_weight_gives_alone():
    image, probabilities = picture(9, 20, 31), beliefs(9, 20, 31, 5)
    params = CrfParams(sigma_alpha=30, sigma_beta=5)
    swept = sweep_w1(image, probabilities, params, [0.0, 6.5], backend="compiled")
    for weight, refined in zip([0.0, 6.5], swept, strict=True):
        alone = dense_crf(image, probabilities, CrfParams(weight, 30, 5), backend="compiled")
        np.testing.assert_array_equal(refined, alone)
    with pytest.raises(ValueError, match="pydensecrf cannot keep"):
        sweep_w1(image, probabilities, params, [1.0], backend="pydensecrf")


@pytest.mark.parametrize("count", [1, 255, 256, 257, 70_000])
def test_keys_are_numbered_as_they_come_and_linked_to_all_successors(count):
    rng = np.random.default_rng(count)
    keys = rng.integers(0, max(2, count // 2), count) * 7919
    ids, different = np.empty(count, np.int32), np.empty(count, np.int64)
    compiled_cache.compile_kernels([number, link])
    found = number(keys, ids, different)
    wanted, first = np.unique(keys, return_index=True)
    np.testing.assert_array_equal(different[:found], keys[np.sort(first)])
    np.testing.assert_array_equal(different[ids], keys)
    following = np.unique(rng.integers(0, max(2, count // 2), count) * 7919)
    after, before = (np.full(wanted.size + following.size, -5, np.int32) for _ in range(2))
    link(wanted, following, 7919, 0, wanted.size, 10**6, after, before)
    place = {int(key): wanted.size + i for i, key in enumerate(following)}
    expected = [place.get(int(key) + 7919, 10**6) for key in wanted]
    np.testing.assert_array_equal(after[: wanted.size], expected)
    back = {point: i for i, point in enumerate(expected)}
    np.testing.assert_array_equal(
        before[wanted.size :], [back.get(wanted.size + i, 10**6) for i in range(following.size)]
    )


@pytest.mark.parametrize("width", [4, 8, 16])
def test_rows_compute_what_numpy_computes(width):
    @numba.njit
    def compute(given, exponentials, tops, sums):
        for n in range(given.shape[0]):
            row = load(given, n, width)
            store(exponentials, n, exp(row))
            store(tops, n, largest_of_quads(row))
            store(sums, n, totals_of_quads(row))

    given = -np.geomspace(1e-6, 86, 100 * width, dtype=np.float32)
    given = np.random.default_rng(1).permutation(given).reshape(100, width)
    given[0] = 0
    given[1] = -1000
    exponentials, tops, sums = (np.empty_like(given) for _ in range(3))
    compute(given, exponentials, tops, sums)
    np.testing.assert_allclose(exponentials, np.exp(np.maximum(given, -87).astype(np.float64)), rtol=2e-7)
    quads = given.reshape(-1, 4)
    np.testing.assert_array_equal(tops.reshape(-1, 4), np.repeat(quads.max(-1, keepdims=True), 4, -1))
    expected = np.repeat(quads.sum(-1, keepdims=True, dtype=np.float64), 4, -1)
    np.testing.assert_allclose(sums.reshape(-1, 4), expected, rtol=1e-6)


def test_quads_are_read_and_written_where_they_are():
    @numba.njit
    def move(quads, numbers, pairs, runs, repeated):
        store_quads(pairs, 1, 3, load_quads(quads, 2, 5, 8))
        store_run(runs, 1, load_run(quads, 2, 16))
        store_run(repeated, 0, repeat(numbers, 1, 16))

    quads = np.arange(40, dtype=np.float32).reshape(10, 4)
    pairs, runs, repeated = np.zeros((5, 4), np.float32), np.zeros((6, 4), np.float32), np.zeros((4, 4), np.float32)
    move(quads, np.arange(6, dtype=np.float32), pairs, runs, repeated)
    np.testing.assert_array_equal(pairs[[1, 4]], quads[[2, 7]])
    np.testing.assert_array_equal(runs[1:5], quads[2:6])
    np.testing.assert_array_equal(repeated, np.repeat([[1], [2], [3], [4]], 4, -1))
    for written, places in ((pairs, [0, 2, 3]), (runs, [0, 5])):
        assert not written[places].any()


@pytest.mark.parametrize("num_classes", [1, 3, 4, 21, 150])
def test_a_survey_finds_what_the_choice_of_labels_depends_on(num_classes):
    probabilities = beliefs(10, 130, 127, num_classes).reshape(-1, num_classes)
    probabilities[:100] *= 0.995
    probabilities[7, :] = 1 / num_classes  # all are the likeliest of this pixel
    probabilities[8, num_classes // 2] = 2
    order = np.random.default_rng(2).permutation(num_classes).astype(np.int32)
    exact = probabilities / probabilities.sum(-1, keepdims=True)
    with Team(2) as team:
        found = compiled.survey_labels(probabilities, team)
        together = compiled.sum_of_tails(probabilities, found, order, 5, team)
    np.testing.assert_allclose(found.highest, exact.max(0), rtol=1e-6)
    assert found.is_likeliest.all()
    tails = [exact[:, order[start:]].sum(-1).max() for start in range(0, num_classes, 4)]
    np.testing.assert_allclose(together[1:], tails[1:], rtol=1e-5)
    probabilities[:, 0], probabilities[7:, 0] = 0, 0
    with Team(1) as team:
        likely = compiled.survey_labels(probabilities, team).is_likeliest
    np.testing.assert_array_equal(likely, (probabilities == probabilities.max(-1, keepdims=True)).any(0))


@pytest.mark.parametrize("num_classes", [3, 12, 21])
def test_no_bit_depends_on_how_many_quads_are_filtered_together(num_classes, monkeypatch):
    image, probabilities = picture(11, 33, 47), beliefs(12, 33, 47, num_classes)
    two = dense_crf(image, probabilities, backend="compiled", min_probability=0.0)
    monkeypatch.setattr(compiled, "_MOST_FOR_TWO", 0)
    one = dense_crf(image, probabilities, backend="compiled", min_probability=0.0)
    np.testing.assert_array_equal(one, two)


def test_a_team_runs_all_calls_and_raises_what_one_raises():
    with Team(3) as team:
        done = []
        team.run([lambda i=i: done.append(i) for i in range(10)])
        assert sorted(done) == list(range(10))
        with pytest.raises(IndexError, match="mine"):
            team.run([lambda: done.append(0), lambda: (_ for _ in ()).throw(IndexError("mine"))])
        assert team.split(10) == [(0, 3), (3, 6), (6, 10)]
        assert team.split(10, smallest=5) == [(0, 5), (5, 10)]
        assert team.split(3, smallest=5) == [(0, 3)]


def fresh_kernels():
    """Kernels as a new process would make them."""
    return [*build_filter_kernels.__wrapped__(4), *build_filter_kernels.__wrapped__(8)]


def test_making_kernels_compiles_nothing_and_compiling_again_reads_the_cache():
    compiled_cache.compile_kernels(fresh_kernels())
    kernels = fresh_kernels()
    assert not any(kernel.signatures for kernel in kernels)
    compiled_cache.compile_kernels(kernels)
    assert all(len(kernel.signatures) == 1 for kernel in kernels)
    assert all(sum(kernel.stats.cache_hits.values()) == 1 for kernel in kernels)


@pytest.mark.parametrize("filled", [True, False])
def test_a_cache_that_cannot_be_written_to_is_read_where_it_is_filled_and_done_without_where_not(
    monkeypatch, tmp_path, capfd, filled
):
    monkeypatch.setattr(compiled_cache.config, "CACHE_DIR", str(tmp_path))
    if filled:
        compiled_cache.compile_kernels(fresh_kernels())
        assert list(tmp_path.rglob("*.nbc"))
    before = sorted(tmp_path.rglob("*"))

    def refuse(self):
        raise PermissionError("read-only")

    monkeypatch.setattr(compiled_cache.caching._CacheLocator, "ensure_cache_path", refuse)
    if not filled:
        monkeypatch.setattr(compiled_cache.os.path, "isdir", lambda path: False)
    capfd.readouterr()
    monkeypatch.setattr(compiled_cache, "_PATIENCE", 0.0)
    compiled_cache._announce.cache_clear()
    kernels = fresh_kernels()
    compiled_cache.compile_kernels(kernels)
    assert sum(sum(kernel.stats.cache_hits.values()) for kernel in kernels) == (len(kernels) if filled else 0)
    assert sorted(tmp_path.rglob("*")) == before
    assert ("compiling the dense CRF" in capfd.readouterr().err) is not filled


def test_without_numba_auto_takes_tensorflow_and_compiled_says_what_to_install(monkeypatch):
    assert choose_backend("auto") == "compiled"
    monkeypatch.setattr(backends, "_has_numba", lambda: False)
    assert choose_backend("auto") == "tf"
    with pytest.raises(UserError, match=r"needs numba.*pip install -r requirements.txt.*backend tf"):
        choose_backend("compiled")
    monkeypatch.setattr(backends, "_has_numba", lambda: True)
    monkeypatch.setattr(backends, "_has_gpu", lambda: True)
    assert choose_backend("auto") == "tf"


def test_numba_is_not_imported_with_the_package():
    code = "import sys, deeplab_tf.crf.dense_crf; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_that_need_kernels_at_once_get_the_same_ones():
    begun = threading.Barrier(2, timeout=10)
    built = []

    @compiled_cache.built_once
    def build(width):
        built.append(width)
        time.sleep(0.05)  # the other thread comes meanwhile
        return object()

    found = []

    def ask():
        begun.wait()
        found.append(build(4))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [4] and found[0] is found[1]
