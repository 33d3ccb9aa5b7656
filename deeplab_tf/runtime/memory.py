"""How much memory there is, and how much a network will want: the system ends a process that takes too much."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from deeplab_tf.errors import UserError, in_short

SMALL_PIXELS = 4_000_000
"""A machine that can hold the network can hold an image of so many pixels."""


def require(
    image_size: tuple[int, int],
    needed: Callable[[], float],
    *,
    images: int = 1,
    task: str = "",
    way: str = "",
    remedy: str,
) -> None:
    """Refuses a large image that the memory cannot hold; nothing where it is not known how much is free.

    Args:
        image_size: its height and width.
        needed: returns how many bytes it takes; called for large images only.
        images: how many of this size there are in a batch.
        task: what is done with it, such as "the dense CRF of ".
        way: how, such as " in one piece".
        remedy: what to do, a sentence.

    Raises:
        UserError: more is needed than there is.
    """
    height, width = image_size
    if images * height * width <= SMALL_PIXELS:
        return
    free = available_bytes()
    if free is None or (num_bytes := needed()) <= free:
        return
    batch = "an image" if images == 1 else f"a batch of {images} images"
    raise UserError(
        f"{task}{batch} of {width}x{height} pixels takes about {num_bytes / 1e9:.1f} GB{way}; {free / 1e9:.1f} GB are"
        f" free. {remedy}"
    )


@contextlib.contextmanager
def explaining_exhaustion(task: str, remedy: Callable[[], str]) -> Iterator[None]:
    """Says in one line what did not fit into memory, and what to do.

    Args:
        task: what is done, such as "validating".
        remedy: returns what to do, a sentence.

    Raises:
        UserError: the memory of this machine or of a GPU was not enough. (Where the system gives out more memory than
            there is, it ends the process instead.)
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, tf.errors.InternalError, MemoryError) as error:
        what = what_did_not_fit(error)
        if what is None:
            raise
        raise UserError(f"out of memory in {task}: {what}. {remedy()}") from error


_TENSOR = re.compile(r"OOM when allocating tensor with shape\[([\d,]*)\] and type (\w+) on \S*?device:(\w+:\d+)")
_EXHAUSTED = re.compile(
    r"OOM when|out of memory|OUT_OF_MEMORY|(fail\w*|unable|could not|cannot) (to )?allocate|Dst tensor is not init",
    re.IGNORECASE,
)


def what_did_not_fit(error: Exception) -> str | None:
    """Returns what an error says of memory that was not there; None for another error.

    TensorFlow has the same kind of error for a full disk and for too many open files; CUDA's may be an internal one.
    """
    text = " ".join(str(error).split())
    tensor = _TENSOR.search(text)
    if tensor:
        shape, kind, device = tensor.groups()
        count = int(np.prod([int(side) for side in shape.split(",") if side], dtype=object))
        size = getattr(tf.as_dtype({"float": "float32", "double": "float64"}.get(kind, kind)), "size", 0)
        return f"a tensor of {kind} [{shape}], {_in_words(count * size)}, on {device}"
    if _EXHAUSTED.search(text):
        found = re.search(r"trying to allocate ([\d.]+ ?\w+)|[Uu]nable to allocate ([\d.]+ ?\w+)", text)
        return f"{found[1] or found[2]} in one piece" if found else in_short(error)
    return "more than there is" if isinstance(error, MemoryError) else None


def _in_words(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.2f} MB"


def bytes_per_pixel(compute: Callable[[tf.Tensor], tf.Tensor], side: int) -> float:
    """Returns what the greediest operation of a network holds, in bytes for each pixel of the image.

    Counted are those of its arguments and results that depend on the image: they have to be there at one moment. What
    waits for a later operation comes on top. Nothing is computed.

    Args:
        compute: from float32 [1, H, W, 3], RGB 0..255, to anything.
        side: of the images to look at. The larger, the less the borders count.
    """
    function = tf.function(compute, [tf.TensorSpec([1, side, side, 3], tf.float32)], autograph=False)
    graph = function.get_concrete_function().graph
    of_the_image = {graph.inputs[0].ref()}
    most = 0
    for operation in graph.get_operations():
        taken = {tensor.ref() for tensor in operation.inputs} & of_the_image
        if taken:
            given = {tensor.ref() for tensor in operation.outputs}
            of_the_image |= given
            most = max(most, sum(_bytes_of(reference.deref()) for reference in taken | given))
    return most / side**2


def _bytes_of(tensor: tf.Tensor) -> int:
    if not tensor.shape.is_fully_defined():
        return 0
    return int(np.prod(tensor.shape.as_list(), dtype=np.int64)) * tensor.dtype.size


def available_bytes() -> int | None:
    """Returns how much memory is free for this process, by the system and its control group; None where not known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used, statistics = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current", "stat"))
        # Files that are kept in memory go when it is needed.
        files = int(dict(line.split() for line in statistics.splitlines())["inactive_file"])
        return max(0, min(free, int(limit) - int(used) + files))
    except (OSError, KeyError, ValueError):  # no limit ("max"), or another kind of control group
        return free


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
