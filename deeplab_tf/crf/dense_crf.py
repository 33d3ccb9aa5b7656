"""Fully connected conditional random field by mean-field inference (Sec. 3.3).

The energy (Eq. 2) is a unary term per pixel plus a pairwise term (Eq. 3) between all pairs of pixels:

    theta_i(x)      = -log P_i(x)
    theta_ij(x, x') = [x != x'] * (  w1 * exp(-|p_i - p_j|^2 / (2 sigma_alpha^2) - |I_i - I_j|^2 / (2 sigma_beta^2))
                                   + w2 * exp(-|p_i - p_j|^2 / (2 sigma_gamma^2)))

with pixel positions p and RGB colours I. Each mean-field update filters the current probabilities with both
Gaussians, which the permutohedral lattice does in time linear in the number of pixels. This file is for arrays: it
checks them, picks what computes them and keeps what the next image needs. `mean_field.refine` is the same as a
TensorFlow graph, and `compiled` the same in kernels for the processor.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import ImageLike, pixels_of
from deeplab_tf.runtime.threads import usable_cores

if TYPE_CHECKING:
    from deeplab_tf.crf.compiled import Lattice
    from deeplab_tf.crf.compiled_team import Team
    from deeplab_tf.crf.permutohedral import GaussianFilter

BACKENDS = ("auto", "compiled", "tf", "pydensecrf")
NORMALIZATIONS = ("symmetric", "after")

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
_SMALLEST_PROBABILITY = 1e-20
# Without labels, and for each of them: measured peaks of photographs lie within a third of this.
_BYTES_PER_PIXEL = {"compiled": (700, 24), "tf": (1600, 50), "pydensecrf": (500, 65)}
# Pixels of an image whose filter of the smoothness kernel is kept for the next one.
_LARGEST_KEPT = 2**19
# Most images of a data set have one of two sizes, upright or lying. 20 MB for one of 500 x 375 pixels.
_MOST_KEPT = 2
_smoothness_kept: dict[tuple[int, int, float, str], Lattice] = {}
_keeping = threading.Lock()


def dense_crf(
    image: ImageLike,
    probabilities: np.ndarray,
    params: CrfParams = CrfParams(),
    backend: str = "auto",
    min_probability: float | None = None,
    normalization: str = "symmetric",
    threads: int | None = None,
) -> np.ndarray:
    """Refines the probabilities of one image with the dense CRF.

    A pixel is its own neighbour in the filter. With n_i the sum of a kernel k_ij over all j, i included, kernels are
    normalised as k_ij / sqrt(n_i n_j), pydensecrf's default and that of most published values of the constants, or
    as k_ij / n_i, like the paper's Caffe code.

    Leaving out labels saves time. By default only such labels are left out as could be the likeliest of no pixel in
    the mean field of all labels, and that have little together: the limit follows from w1 + w2, the image and the
    number of classes, and is proved in `deeplab_tf.crf.pruning`.

    Args:
        image: uint8 [H, W, 3], RGB, 0..255: the stored image, never the mean-subtracted one; or a PIL image, or a path.
        probabilities: float [H, W, K], 0..1, summing to 1 over the last axis. One-hot ones never change: the energy of
            all other labels is 46. For labels take `hard_labels.probabilities_of_labels`.
        params: the constants of Eq. 3.
        backend: "compiled", kernels for the processor; "tf", TensorFlow ops; "pydensecrf", the C++ code that most
            others use; or "auto", see `choose_backend`. They agree to float32 rounding.
        min_probability: labels that have less than this in every pixel may be left out of the mean field and get
            probability 0; a label that is the likeliest of some pixel always stays. 0.0 leaves out none. None takes
            the proven limit, and with pydensecrf leaves out none. Labels are left out in fours only, where that saves
            time, by pydensecrf one by one.
        normalization: "symmetric" or "after".
        threads: of the compiled backend, >= 1; None for as many as there are cores. It holds no lock of Python's, so
            for many images, one thread each is fastest. The result does not depend on it.

    Returns:
        float32 [H, W, K], summing to 1 over the last axis. With zero iterations, the input renormalised.

    Raises:
        ValueError: a wrong shape, type or range, or an unknown backend or normalization.
        UserError: sigmas so small for the size of the image that the lattice cannot hold it, an image that the memory
            cannot hold, or a backend that is not installed.
    """
    backend = choose_backend(backend)
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}.")
    image, probabilities = _checked(image, probabilities, min_probability, backend)
    if params.iterations == 0 or probabilities.shape[-1] == 1:
        return probabilities / probabilities.sum(axis=-1, keepdims=True)
    if backend == "pydensecrf":
        return _refine_with_pydensecrf(image, probabilities, params, min_probability, normalization)
    if backend == "tf":
        return _refine_with_tensorflow(image, probabilities, params, [params.w1], min_probability, normalization)[0]
    return _refine_with_kernels(image, probabilities, params, [params.w1], min_probability, normalization, threads)[0]


def choose_backend(backend: str) -> str:
    """Returns what computes the CRF for one of `BACKENDS`.

    "auto" is "tf" where TensorFlow sees a GPU, which then does the work, else "compiled" where numba is installed, else
    "tf".

    Raises:
        ValueError: an unknown name.
        UserError: "compiled" without numba.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend == "compiled" and not _has_numba():
        raise UserError(
            "the compiled backend of the CRF needs numba, which is not installed: "
            "run `pip install -r requirements.txt`, or take the backend tf, which needs nothing."
        )
    if backend != "auto":
        return backend
    return "compiled" if _has_numba() and not _has_gpu() else "tf"


@functools.cache
def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def sweep_w1(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    weights: Sequence[float],
    backend: str = "auto",
    threads: int | None = None,
) -> list[np.ndarray]:
    """Refines with several w1: as `dense_crf` with each of them, but the lattice, which they share, is built once.

    Args:
        image: uint8 [H, W, 3], RGB, 0..255: the stored image, never the mean-subtracted one.
        probabilities: float [H, W, K], 0..1, summing to 1 over the last axis.
        params: the other constants of Eq. 3.
        weights: the values of w1, >= 0.
        backend: as for `dense_crf`, but pydensecrf.
        threads: as for `dense_crf`.

    Returns:
        For each weight what `dense_crf` returns by its defaults.

    Raises:
        ValueError: a wrong shape, type or range.
        UserError: as by `dense_crf`.
    """
    backend = choose_backend(backend)
    if backend == "pydensecrf":
        raise ValueError("pydensecrf cannot keep its lattice: sweep with the backend compiled or tf.")
    image, probabilities = _checked(image, probabilities, None, backend)
    checked = [dataclasses.replace(params, w1=weight).w1 for weight in weights]
    if params.iterations == 0 or probabilities.shape[-1] == 1:
        return [probabilities / probabilities.sum(axis=-1, keepdims=True)] * len(checked)
    if backend == "tf":
        return _refine_with_tensorflow(image, probabilities, params, checked, None, "symmetric")
    return _refine_with_kernels(image, probabilities, params, checked, None, "symmetric", threads)


def _checked(
    image: ImageLike, probabilities: np.ndarray, min_probability: float | None, backend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [H, W, 3] and float32 [H, W, K], or raises what `dense_crf` does."""
    image, probabilities = pixels_of(image, "the CRF's image"), np.asarray(probabilities)
    _check_shapes(image, probabilities, min_probability)
    require_memory((image.shape[0], image.shape[1]), probabilities.shape[-1], backend)
    single = np.ascontiguousarray(probabilities, np.float32)
    if backend == "compiled":
        from deeplab_tf.crf import compiled

        if compiled.are_distributions(single.reshape(-1, single.shape[-1])):
            return image, single
    _check_values(probabilities)
    return image, single


def _check_shapes(image: np.ndarray, probabilities: np.ndarray, min_probability: float | None) -> None:
    if probabilities.ndim != 3 or probabilities.shape[:2] != image.shape[:2] or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must be [H, W, K] with the image's height and width {list(image.shape[:2])}, "
            f"got {list(probabilities.shape)}."
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floats, got {probabilities.dtype}.")
    if min_probability is not None and not 0 <= min_probability <= 1:
        raise ValueError(f"min_probability must be 0..1, got {min_probability}.")


def _check_values(probabilities: np.ndarray) -> None:
    sums = probabilities.sum(axis=-1)
    # Written so that a NaN fails. The tolerance lets float16 pass and stops logits.
    if not (probabilities.min() >= 0 and np.abs(sums - 1).max() < 1e-2):
        raise ValueError(
            "probabilities must be >= 0 and sum to 1 over the classes (softmax, not logits), got values from "
            f"{probabilities.min():g} to {probabilities.max():g} and sums from {sums.min():g} to {sums.max():g}."
        )


def check_backend(backend: str) -> None:
    """Checks that a backend is installed, before anything is computed for it.

    Raises:
        UserError: it is not.
    """
    if choose_backend(backend) == "pydensecrf":
        _import_pydensecrf()


def needed_bytes(image_size: tuple[int, int], num_classes: int, backend: str) -> float:
    """Returns how much memory refining an image of this height and width takes, at most."""
    lattice, label = _BYTES_PER_PIXEL[choose_backend(backend)]
    return (lattice + label * num_classes) * image_size[0] * image_size[1]


def require_memory(image_size: tuple[int, int], num_classes: int, backend: str) -> None:
    """Refuses a large image, of this height and width, that the memory cannot hold.

    Raises:
        UserError: refining it takes more than there is.
    """
    from deeplab_tf.runtime import memory

    memory.require(
        image_size,
        lambda: needed_bytes(image_size, num_classes, backend),
        task="the dense CRF of ",
        remedy="Leave the CRF out, or make the image smaller or cut it into several.",
    )


def _refine_with_tensorflow(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    weights: Sequence[float],
    min_probability: float | None,
    normalization: str,
) -> list[np.ndarray]:
    """Refines once for each of some w1, which take the place of that of params."""
    _check_sigmas(image, params)
    height, width, num_classes = probabilities.shape
    # A large one is not worth the memory that it would keep.
    build = _build_smoothness if height * width <= _LARGEST_KEPT else _build_smoothness.__wrapped__
    smoothness = build(height, width, params.sigma_gamma, normalization)
    bilateral = _trace_bilateral(normalization)(image, np.float32(params.sigma_alpha), np.float32(params.sigma_beta))
    function = _trace(num_classes, int(params.iterations), normalization, min_probability is None)
    others = [np.float32(constant) for constant in (params.w2, min_probability or 0)]
    return [function(probabilities, bilateral, smoothness, np.float32(w1), *others).numpy() for w1 in weights]


def _check_sigmas(image: np.ndarray, params: CrfParams) -> None:
    # Imported here, because configurations know CrfParams and are to load without TensorFlow.
    from deeplab_tf.crf.permutohedral import check_extents

    farthest = [(side - 1) / params.sigma_alpha for side in (image.shape[1], image.shape[0])]
    try:
        check_extents([*farthest, *3 * [255 / params.sigma_beta]])
        check_extents([(side - 1) / params.sigma_gamma for side in (image.shape[1], image.shape[0])])
    except ValueError as error:
        raise UserError(f"the CRF's sigmas are too small for an image {list(image.shape[:2])}: {error}") from None


def _refine_with_kernels(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    weights: Sequence[float],
    min_probability: float | None,
    normalization: str,
    threads: int | None,
) -> list[np.ndarray]:
    """Refines once for each of some w1, which take the place of that of params."""
    from deeplab_tf.crf import compiled
    from deeplab_tf.crf.compiled_team import Team

    _check_sigmas(image, params)
    height, width, num_classes = probabilities.shape
    flat = probabilities.reshape(-1, num_classes)
    with Team(threads or usable_cores()) as team:
        smoothness = _find_smoothness(height, width, params.sigma_gamma, normalization, team)
        bilateral = compiled.build_bilateral(image, params.sigma_alpha, params.sigma_beta, normalization, team)
        refined = []
        for w1 in weights:
            kernels = [(bilateral, w1), (smoothness, params.w2)]
            total_weight = sum(weight * lattice.largest_row_sum for lattice, weight in kernels)
            labels = _choose_labels(flat, min_probability, total_weight)
            refined.append(compiled.update(flat, labels, kernels, int(params.iterations), team))
    return [one.reshape(probabilities.shape) for one in refined]


def _choose_labels(probabilities: np.ndarray, min_probability: float | None, total_weight: float) -> np.ndarray:
    """Returns the labels that the TensorFlow graph would keep, int32, of float32 [N, K]."""
    num_classes = probabilities.shape[1]
    if min_probability == 0:
        return np.arange(num_classes, dtype=np.int32)
    choose = _trace_choice(num_classes, min_probability is None)
    return choose(probabilities, np.float32(total_weight), np.float32(min_probability or 0)).numpy()


@functools.lru_cache(maxsize=16)
def _trace_choice(num_classes: int, takes_proven_limit: bool) -> Any:
    """Returns a tf.function from float32 [N, K], the total weight and min_probability to labels, on the processor."""
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import choose_labels

    def choose(probabilities: tf.Tensor, total_weight: tf.Tensor, min_probability: tf.Tensor) -> tf.Tensor:
        with tf.device("CPU"):
            by_class = tf.transpose(probabilities)
            by_class /= tf.reduce_sum(by_class, axis=0)
            return choose_labels(by_class, total_weight, None if takes_proven_limit else min_probability)

    signature = [tf.TensorSpec([None, num_classes]), *2 * [tf.TensorSpec([], tf.float32)]]
    return tf.function(choose, input_signature=signature, autograph=False)


def _find_smoothness(height: int, width: int, sigma_gamma: float, normalization: str, team: Team) -> Lattice:
    """Takes the lattice of the smoothness kernel from those kept, or builds it."""
    from deeplab_tf.crf import compiled

    key = (height, width, sigma_gamma, normalization)
    if (lattice := _smoothness_kept.get(key)) is None:
        lattice = compiled.build_smoothness(height, width, sigma_gamma, normalization, team)
        # A large one is not worth the memory that it would keep.
        if height * width <= _LARGEST_KEPT:
            with _keeping:
                _smoothness_kept[key] = lattice
                for oldest in list(_smoothness_kept)[:-_MOST_KEPT]:
                    del _smoothness_kept[oldest]
    return lattice


# Most images of a data set have one of two sizes, upright or lying. 35 MB for one of 500 x 375 pixels.
@functools.lru_cache(maxsize=2)
def _build_smoothness(height: int, width: int, sigma_gamma: float, normalization: str) -> GaussianFilter:
    return _trace_smoothness(normalization)(height, width, np.float32(sigma_gamma))


@functools.lru_cache(maxsize=2)
def _trace_smoothness(normalization: str) -> Any:
    """Returns a tf.function from height, width and sigma_gamma to a filter."""
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import build_smoothness

    signature = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)]
    build = functools.partial(build_smoothness, normalization=normalization)
    return tf.function(build, input_signature=signature, autograph=False)


@functools.lru_cache(maxsize=2)
def _trace_bilateral(normalization: str) -> Any:
    """Returns a tf.function from an image, sigma_alpha and sigma_beta to a filter."""
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import build_bilateral

    signature = [tf.TensorSpec([None, None, 3], tf.uint8), *2 * [tf.TensorSpec([], tf.float32)]]
    build = functools.partial(build_bilateral, normalization=normalization)
    return tf.function(build, input_signature=signature, autograph=False)


@functools.lru_cache(maxsize=16)
def _trace(num_classes: int, iterations: int, normalization: str, takes_proven_limit: bool) -> Any:
    """Returns a tf.function from probabilities, the two filters, w1, w2 and min_probability to the refined ones.

    With takes_proven_limit the last argument does not matter.
    """
    import tensorflow as tf

    from deeplab_tf.crf.mean_field import update

    def refined(
        probabilities: tf.Tensor,
        bilateral: GaussianFilter,
        smoothness: GaussianFilter,
        w1: tf.Tensor,
        w2: tf.Tensor,
        min_probability: tf.Tensor,
    ) -> tf.Tensor:
        kernels = ((bilateral, w1), (smoothness, w2))
        least = None if takes_proven_limit else min_probability
        return update(probabilities, kernels, iterations=iterations, min_probability=least)

    filters = [
        tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype),
            trace(normalization).get_concrete_function().structured_outputs,
        )
        for trace in (_trace_bilateral, _trace_smoothness)
    ]
    probabilities = tf.TensorSpec([None, None, num_classes], tf.float32)
    signature = [probabilities, *filters, *3 * [tf.TensorSpec([], tf.float32)]]
    return tf.function(refined, input_signature=signature, autograph=False)


def _import_pydensecrf() -> Any:
    try:
        from pydensecrf import densecrf
    except ImportError:
        raise UserError(
            "the pydensecrf backend of the CRF is not installed: run `pip install -r requirements-crf.txt` "
            "(needs a C++ compiler and Python < 3.13), or take the backend tf, which needs nothing."
        ) from None
    return densecrf


def _refine_with_pydensecrf(
    image: np.ndarray, probabilities: np.ndarray, params: CrfParams, min_probability: float | None, normalization: str
) -> np.ndarray:
    densecrf = _import_pydensecrf()
    normalize = {"symmetric": densecrf.NORMALIZE_SYMMETRIC, "after": densecrf.NORMALIZE_AFTER}[normalization]
    kept = _find_kept(probabilities, min_probability or 0)  # [K]
    rest = probabilities[..., ~kept].sum(axis=-1, keepdims=True)
    together = np.concatenate([probabilities[..., kept], rest] if not kept.all() else [probabilities], axis=-1)
    clipped = np.maximum(together, _SMALLEST_PROBABILITY)  # [H, W, labels]
    clipped /= clipped.sum(axis=-1, keepdims=True)
    height, width, num_labels = clipped.shape
    # The labels left out share a label that earns nothing from its neighbours.
    earns = np.arange(num_labels) < kept.sum()
    # pydensecrf counts in (width, height), and flattens pixels row by row like numpy.
    crf = densecrf.DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(clipped).reshape(-1, num_labels).T))  # [K, N]
    if params.w2 > 0:
        compatibility = params.w2 if earns.all() else -params.w2 * earns.astype(np.float32)
        crf.addPairwiseGaussian(sxy=params.sigma_gamma, compat=compatibility, normalization=normalize)
    if params.w1 > 0:
        crf.addPairwiseBilateral(
            sxy=params.sigma_alpha,
            srgb=params.sigma_beta,
            rgbim=np.array(image, order="C"),  # a copy, because its buffer has to be writable
            compat=params.w1 if earns.all() else -params.w1 * earns.astype(np.float32),
            normalization=normalize,
        )
    marginals = np.array(crf.inference(int(params.iterations)), np.float32)[earns]  # [K kept, N]
    # Its float32 softmax is off by up to 1e-6.
    marginals /= marginals.sum(axis=0)
    refined = np.zeros(probabilities.shape, np.float32)
    refined[..., kept] = marginals.T.reshape(height, width, -1)
    return refined


def _find_kept(probabilities: np.ndarray, min_probability: float) -> np.ndarray:
    """Returns bool [K]: the labels that reach min_probability, or are the likeliest, in some pixel."""
    is_likeliest = (probabilities >= probabilities.max(axis=-1, keepdims=True)).any(axis=(0, 1))
    return is_likeliest | (probabilities.max(axis=(0, 1)) >= min_probability)
