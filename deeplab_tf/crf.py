"""Fully connected conditional random field by mean-field inference (Sec. 3.3).

The energy (Eq. 2) is a unary term per pixel plus a pairwise term (Eq. 3) between all pairs of pixels:

    theta_i(x)      = -log P_i(x)
    theta_ij(x, x') = [x != x'] * (  w1 * exp(-|p_i - p_j|^2 / (2 sigma_alpha^2) - |I_i - I_j|^2 / (2 sigma_beta^2))
                                   + w2 * exp(-|p_i - p_j|^2 / (2 sigma_gamma^2)))

with pixel positions p and RGB colours I. Each mean-field update filters the current probabilities with both
Gaussians, which the permutohedral lattice does in time linear in the number of pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from deeplab_tf.errors import UserError

# log(0) has to be finite: a label given probability 0 can still be won back, at a cost of 46.
_SMALLEST_PROBABILITY = 1e-20


@dataclasses.dataclass(frozen=True)
class CrfParams:
    """The constants of Eq. 3 under the paper's names; the defaults are those released with ResNet-101.

    Attributes:
        w1: weight of the bilateral kernel, >= 0: how much pixels alike in place and colour should agree.
        sigma_alpha: reach of the bilateral kernel, in pixels, > 0.
        sigma_beta: reach of the bilateral kernel in colour, in RGB levels of 0..255, > 0.
        w2: weight of the smoothness kernel, >= 0: how much neighbours should agree whatever their colour.
        sigma_gamma: reach of the smoothness kernel, in pixels, > 0.
        iterations: mean-field updates, >= 0. The paper uses 10.
    """

    w1: float = 4.0
    sigma_alpha: float = 67.0
    sigma_beta: float = 3.0
    w2: float = 3.0
    sigma_gamma: float = 1.0
    iterations: int = 10

    def __post_init__(self) -> None:
        for name in ("w1", "w2"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"the CRF weight {name} must be >= 0, got {getattr(self, name)}.")
        for name in ("sigma_alpha", "sigma_beta", "sigma_gamma"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"the CRF's {name} must be > 0, got {getattr(self, name)}.")
        if self.iterations < 0 or self.iterations != int(self.iterations):
            raise ValueError(f"CRF iterations must be a whole number >= 0, got {self.iterations}.")


def dense_crf(
    image: np.ndarray,
    probabilities: np.ndarray,
    params: CrfParams = CrfParams(),
    backend: str = "pydensecrf",
    min_probability: float = 0.0,
) -> np.ndarray:
    """Refines the probabilities of one image with the dense CRF.

    Kernels are normalised symmetrically, as pydensecrf does by default: k_ij / sqrt(n_i n_j), where n_i is the sum
    of k_ij over all j, i included. (The paper's Caffe code divides by n_i after filtering.) A pixel is its own
    neighbour in the filter.

    Args:
        image: uint8 [H, W, 3], RGB, 0..255: the stored image, never the mean-subtracted one.
        probabilities: float [H, W, K], 0..1, summing to 1 over the last axis.
        params: the constants of Eq. 3.
        backend: "pydensecrf", the reference implementation in C++.
        min_probability: labels whose highest probability anywhere in the image is below this are left out of the
            mean field and get probability 0; the most probable label always stays. 0.0 leaves out none. Time is
            proportional to the number of labels that stay.

    Returns:
        float32 [H, W, K], summing to 1 over the last axis. With zero iterations, the input renormalised.

    Raises:
        ValueError: a wrong shape, type or range, or an unknown backend.
        UserError: pydensecrf is not installed.
    """
    _validate(image, probabilities, min_probability)
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {sorted(BACKENDS)}, got {backend!r}.")
    highest = probabilities.max(axis=(0, 1))  # [K]
    kept = (highest >= min_probability) | (np.arange(highest.size) == highest.argmax())
    clipped = np.maximum(probabilities[..., kept], _SMALLEST_PROBABILITY).astype(np.float32)  # [H, W, K kept]
    clipped /= clipped.sum(axis=-1, keepdims=True)
    if params.iterations > 0 and clipped.shape[-1] > 1:
        clipped = BACKENDS[backend](image, -np.log(clipped), params)
        # The backends' float32 softmax is off by up to 1e-6.
        clipped = clipped / clipped.sum(axis=-1, keepdims=True)
    refined = np.zeros(probabilities.shape, np.float32)
    refined[..., kept] = clipped
    return refined


def _validate(image: np.ndarray, probabilities: np.ndarray, min_probability: float) -> None:
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"the CRF's image must be uint8 [H, W, 3], RGB 0..255 as stored, got {image.dtype} {list(image.shape)}."
        )
    if probabilities.ndim != 3 or probabilities.shape[:2] != image.shape[:2] or 0 in probabilities.shape:
        raise ValueError(
            f"probabilities must be [H, W, K] with the image's height and width {list(image.shape[:2])}, "
            f"got {list(probabilities.shape)}."
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floats, got {probabilities.dtype}.")
    sums = probabilities.sum(axis=-1)
    # Written so that a NaN fails. The tolerance lets float16 pass and stops logits.
    if not (probabilities.min() >= 0 and np.abs(sums - 1).max() < 1e-2):
        raise ValueError(
            "probabilities must be >= 0 and sum to 1 over the classes (softmax, not logits), got values from "
            f"{probabilities.min():g} to {probabilities.max():g} and sums from {sums.min():g} to {sums.max():g}."
        )
    if not 0 <= min_probability <= 1:
        raise ValueError(f"min_probability must be 0..1, got {min_probability}.")


def _pydensecrf(image: np.ndarray, unary: np.ndarray, params: CrfParams) -> np.ndarray:
    """Mean field by pydensecrf. Takes uint8 [H, W, 3] and float32 [H, W, K]; returns float32 [H, W, K]."""
    try:
        from pydensecrf import densecrf
    except ImportError:
        raise UserError(
            "the pydensecrf backend of the CRF is not installed: run `pip install -r requirements-crf.txt` "
            "(needs a C++ compiler and Python < 3.13)."
        ) from None
    height, width, num_labels = unary.shape
    # pydensecrf counts in (width, height), and flattens pixels row by row like numpy.
    crf = densecrf.DenseCRF2D(width, height, num_labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, num_labels).T))  # [K, N]
    if params.w2 > 0:
        crf.addPairwiseGaussian(sxy=params.sigma_gamma, compat=params.w2)
    if params.w1 > 0:
        # A copy, because its buffer has to be writable and frozen arrays are common.
        crf.addPairwiseBilateral(
            sxy=params.sigma_alpha, srgb=params.sigma_beta, rgbim=np.array(image, order="C"), compat=params.w1
        )
    marginals = np.array(crf.inference(int(params.iterations)), np.float32)  # [K, N]
    return marginals.T.reshape(height, width, num_labels)


BACKENDS: dict[str, Callable[[np.ndarray, np.ndarray, CrfParams], np.ndarray]] = {"pydensecrf": _pydensecrf}
