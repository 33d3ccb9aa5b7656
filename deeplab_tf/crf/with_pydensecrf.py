"""The dense CRF of one image by pydensecrf, the C++ code that most others use."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplab_tf.crf.params import CrfParams
from deeplab_tf.errors import UserError

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
_SMALLEST_PROBABILITY = 1e-20


def import_pydensecrf() -> Any:
    """Returns the module `pydensecrf.densecrf`.

    Raises:
        UserError: it is not installed.
    """
    try:
        from pydensecrf import densecrf
    except ImportError:
        raise UserError(
            "the pydensecrf backend of the CRF is not installed: run `pip install -r requirements-crf.txt` "
            "(needs a C++ compiler and Python < 3.13), or use the backend tf, which needs no other package."
        ) from None
    return densecrf


def refine(
    image: np.ndarray, probabilities: np.ndarray, params: CrfParams, min_probability: float | None, normalization: str
) -> np.ndarray:
    """Refines once; takes and returns what `dense_crf` does, its arguments checked."""
    densecrf = import_pydensecrf()
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
