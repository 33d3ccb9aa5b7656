"""An image in, its classes out; and many images, one by the network while others are read, refined and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from deeplab_tf.crf.dense_crf import dense_crf
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo
from deeplab_tf.errors import UserError
from deeplab_tf.images import visualize
from deeplab_tf.images.files import decode_pixels
from deeplab_tf.runtime.threads import map_in_order, read_ahead

Result = TypeVar("Result")

# Images that are read before the network sees them, and those that wait for the CRF and for being used.
_AHEAD = 2
_WORKERS = 2


class Prediction(NamedTuple):
    """What a model says of an image.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], the most probable class of each pixel.
        probabilities: float32 [H, W, K], after the CRF where there is one; None where the model has labels only.
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A trained model, and what is made of its answers.

    Attributes:
        ask: from an image uint8 [H, W, 3] to probabilities float32 [H, W, K], K <= 256, or to labels uint8 [H, W].
        info: the classes.
        has_probabilities: which of the two it is.
        crf: refine with these constants; None for not. It needs probabilities.
        crf_backend: "tf" or "pydensecrf".
    """

    ask: Callable[[np.ndarray], np.ndarray]
    info: DatasetInfo
    has_probabilities: bool = True
    crf: CrfParams | None = None
    crf_backend: str = "tf"

    def segment(self, image: np.ndarray | bytes) -> Prediction:
        """Segments one image.

        Args:
            image: uint8 [H, W, 3], RGB, any size from 1x1; or the bytes of any image file that Pillow reads.

        Raises:
            UserError: bytes that are no whole image, an image that does not fit into memory, or a missing CRF backend.
        """
        pixels = decode_pixels(image) if isinstance(image, bytes) else image
        return self.finish(pixels, self.answer(pixels))

    def finish(self, image: np.ndarray, answer: np.ndarray) -> Prediction:
        """Makes a prediction of what `answer` returned; for any thread.

        Raises:
            UserError: the CRF backend is not installed.
        """
        if not self.has_probabilities:
            return Prediction(image, answer, None)
        if self.crf is not None:
            answer = dense_crf(image, answer, self.crf, self.crf_backend)
        return Prediction(image, np.argmax(answer, axis=-1).astype(np.uint8), answer)

    def overlay(self, prediction: Prediction) -> np.ndarray:
        """Draws the classes over the image: uint8 [H, W, 3], RGB."""
        return visualize.overlay(prediction.image, prediction.labels, self.info.palette)

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Asks the model: the network's probabilities or labels; for one thread at a time.

        Raises:
            UserError: the image does not fit into memory.
        """
        try:
            return self.ask(image)
        except tf.errors.ResourceExhaustedError as error:
            height, width = image.shape[:2]
            raise UserError(
                f"an image of {width}x{height} pixels does not fit into memory. Make it smaller, or try --tile=513."
            ) from error


def segment_all(
    segmenter: Segmenter,
    pictures: Iterable[tuple[str, np.ndarray | UserError]],
    use: Callable[[str, Prediction], Result],
) -> Generator[Result | UserError, None, None]:
    """Segments many images: while the network sees one, more are read, and those before are refined and used.

    The network runs in the calling thread, reading in another, the CRF and `use` in two more. However many images there
    are, eleven at most are in memory.

    Args:
        segmenter: the model.
        pictures: names with images uint8 [H, W, 3], or with the error that kept one from being read.
        use: what to do with a prediction, such as to write it. It gets two at a time, and not always in order.

    Returns:
        For each picture, in order, what `use` returned; or its error, which is the one that came with it, or that it
        does not fit into memory. What `use` raises is raised.

    Raises:
        UserError: the CRF backend is not installed.
    """

    def ask(picture: tuple[str, np.ndarray | UserError]) -> tuple[str, np.ndarray, np.ndarray] | UserError:
        name, image = picture
        if isinstance(image, UserError):
            return image
        try:
            return name, image, segmenter.answer(image)
        except UserError as error:
            return UserError(f"{name}: {error}")

    def finish(asked: tuple[str, np.ndarray, np.ndarray] | UserError) -> Result | UserError:
        if isinstance(asked, UserError):
            return asked
        name, image, answer = asked
        return use(name, segmenter.finish(image, answer))

    return map_in_order(finish, map(ask, read_ahead(pictures, _AHEAD)), workers=_WORKERS, ahead=_AHEAD + _WORKERS)
