"""The constants of the dense CRF (Eq. 3)."""

from __future__ import annotations

import dataclasses

# Of a constant: float32 ends at 3e38.
_LARGEST = 1e30


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
            if not 0 <= getattr(self, name) <= _LARGEST:
                raise ValueError(f"the CRF weight {name} must be >= 0 and finite, got {getattr(self, name)}.")
        for name in ("sigma_alpha", "sigma_beta", "sigma_gamma"):
            if not 0 < getattr(self, name) <= _LARGEST:
                raise ValueError(f"the CRF's {name} must be > 0 and finite, got {getattr(self, name)}.")
        if not 0 <= self.iterations <= _LARGEST or self.iterations != int(self.iterations):
            raise ValueError(f"CRF iterations must be a whole number >= 0, got {self.iterations}.")
