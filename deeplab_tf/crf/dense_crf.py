"""Fully connected conditional random field by mean-field inference (Sec. 3.3).

The energy (Eq. 2) is a unary term per pixel plus a pairwise term (Eq. 3) between all pairs of pixels:

    theta_i(x)      = -log P_i(x)
    theta_ij(x, x') = [x != x'] * (  w1 * exp(-|p_i - p_j|^2 / (2 sigma_alpha^2) - |I_i - I_j|^2 / (2 sigma_beta^2))
                                   + w2 * exp(-|p_i - p_j|^2 / (2 sigma_gamma^2)))

with pixel positions p and RGB colours I. Each mean-field update filters the current probabilities with both
Gaussians, which the permutohedral lattice does in time linear in the number of pixels. This file is for arrays: it
checks them and gives them to a backend: `with_tensorflow`, `with_kernels` or `with_pydensecrf`. `mean_field.refine` is
the same as a TensorFlow graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from deeplab_tf.crf.backends import choose_backend, require_memory
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError
from deeplab_tf.images.files import ImageLike, pixels_of

NORMALIZATIONS = ("symmetric", "after")


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
        from deeplab_tf.crf import with_pydensecrf

        return with_pydensecrf.refine(image, probabilities, params, min_probability, normalization)
    return _refine(image, probabilities, params, [params.w1], backend, min_probability, normalization, threads)[0]


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
    return _refine(image, probabilities, params, checked, backend, None, "symmetric", threads)


def _refine(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams,
    weights: Sequence[float],
    backend: str,
    min_probability: float | None,
    normalization: str,
    threads: int | None,
) -> list[np.ndarray]:
    """Refines once for each of some w1, by our own code."""
    _check_sigmas(image, params)
    if backend == "tf":
        from deeplab_tf.crf import with_tensorflow

        return with_tensorflow.refine(image, probabilities, params, weights, min_probability, normalization)
    from deeplab_tf.crf import with_kernels

    return with_kernels.refine(image, probabilities, params, weights, min_probability, normalization, threads)


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


def _check_sigmas(image: np.ndarray, params: CrfParams) -> None:
    # Imported here, because configurations know CrfParams and are to load without TensorFlow.
    from deeplab_tf.crf.permutohedral import check_extents

    farthest = [(side - 1) / params.sigma_alpha for side in (image.shape[1], image.shape[0])]
    try:
        check_extents([*farthest, *3 * [255 / params.sigma_beta]])
        check_extents([(side - 1) / params.sigma_gamma for side in (image.shape[1], image.shape[0])])
    except ValueError as error:
        raise UserError(f"the CRF's sigmas are too small for an image {list(image.shape[:2])}: {error}") from None
