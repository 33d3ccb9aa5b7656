"""What can compute the dense CRF: which backends there are, which one is taken here, and the memory it needs."""

from __future__ import annotations

import functools
import importlib.util

from deeplab_tf.errors import UserError

BACKENDS = ("auto", "compiled", "tf", "pydensecrf")

# Without labels, and for each of them: measured peaks of photographs lie within a third of this.
_BYTES_PER_PIXEL = {"compiled": (700, 24), "tf": (1600, 50), "pydensecrf": (500, 65)}


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
            "run `pip install -r requirements.txt`, or use the backend tf, which needs no other package."
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


def check_backend(backend: str) -> None:
    """Checks that a backend is installed, before anything is computed for it.

    Raises:
        UserError: it is not.
    """
    from deeplab_tf.crf.with_pydensecrf import import_pydensecrf

    if choose_backend(backend) == "pydensecrf":
        import_pydensecrf()


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
