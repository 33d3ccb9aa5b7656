"""The constants of the dense CRF (Eq. 3)."""

from __future__ import annotations

import dataclasses
from typing import Any

# Of a constant: float32 ends at 3e38.
_LARGEST = 1e30


def _constant(default: float, low: float, high: float, step: float, meaning: str) -> Any:
    """A field with what a slider for it needs: the range that is usual, and its meaning in a few words."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "step": step, "meaning": meaning})


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

    w1: float = _constant(4.0, 0, 20, 0.1, "weight of: near and alike in colour")
    sigma_alpha: float = _constant(67.0, 5, 200, 0.5, "its reach, in pixels")
    sigma_beta: float = _constant(3.0, 1, 30, 0.1, "its reach in colour, in RGB levels")
    w2: float = _constant(3.0, 0, 20, 0.1, "weight of: near, of any colour")
    sigma_gamma: float = _constant(1.0, 0.5, 20, 0.1, "its reach, in pixels")
    iterations: int = _constant(10, 0, 20, 1, "mean-field updates")

    def __post_init__(self) -> None:
        for name in ("w1", "w2"):
            if not 0 <= getattr(self, name) <= _LARGEST:
                raise ValueError(f"the CRF weight {name} must be >= 0 and finite, got {getattr(self, name)}.")
        for name in ("sigma_alpha", "sigma_beta", "sigma_gamma"):
            if not 0 < getattr(self, name) <= _LARGEST:
                raise ValueError(f"the CRF's {name} must be > 0 and finite, got {getattr(self, name)}.")
        if not 0 <= self.iterations <= _LARGEST or self.iterations != int(self.iterations):
            raise ValueError(f"CRF iterations must be a whole number >= 0, got {self.iterations}.")
        object.__setattr__(self, "iterations", int(self.iterations))  # 10.0 is welcome too

    def __str__(self) -> str:
        """Returns "w1 4, sigma_alpha 67, sigma_beta 3, w2 3, sigma_gamma 1, 10 updates"."""
        weights = {name: value for name, value in vars(self).items() if name != "iterations"}
        return ", ".join(f"{name} {value:g}" for name, value in weights.items()) + f", {self.iterations} updates"
