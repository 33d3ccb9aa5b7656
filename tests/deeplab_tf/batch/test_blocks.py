"""One block of encoded images to encoded labels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.batch.blocks import Picture, segment_block
from deeplab_tf.crf.params import CrfParams
from deeplab_tf.dataset_info import DatasetInfo, pascal_palette
from deeplab_tf.errors import UserError
from deeplab_tf.inference.segmenter import Segmenter

INFO = DatasetInfo("tiny", ("a", "b", "c"), pascal_palette(3))


class Colours:
    """A model that says which channel is the brightest, and keeps in mind which shapes it saw."""

    def __init__(self, most_images: int = 100) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.most_images = most_images

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.shapes.append(images.shape)
        if (images.ndim == 4 and len(images) > self.most_images) or images.shape[-2] == 13:
            raise UserError("does not fit into memory")
        exponents = np.exp(images / 64.0, dtype=np.float32)
        return exponents / exponents.sum(axis=-1, keepdims=True)


def picture(name: str, height: int, width: int, seed: int = 0) -> Picture:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return Picture(name, data=encoded.getvalue())


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


PICTURES = [
    picture("a", 5, 7, 1),
    picture("b", 6, 7, 2),
    Picture("c", data=b"no image"),
    picture("d", 5, 7, 3),
    Picture("e", "id", reason="no such file"),
    picture("f", 9, 13, 4),
    picture("g", 5, 7, 5),
]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("crf", [None, CrfParams(iterations=1)])
def test_labels_are_those_of_one_image_alone_in_order(batch_size, crf):
    segmenter = Segmenter(Colours(), INFO, crf=crf)
    segmented = segment_block(segmenter, PICTURES, batch_size)
    assert [entry.input for entry in segmented.entries] == list("abcdefg")
    for one, entry, labels in zip(PICTURES, segmented.entries, segmented.labels, strict=True):
        if one.input in "cef":
            assert labels == b"" and entry.reason
            continue
        expected = segmenter.segment(one.data).labels
        np.testing.assert_array_equal(pixels(labels), expected)
        assert entry.size == expected.shape and not entry.reason
    assert "cannot decode" in segmented.entries[2].reason
    assert segmented.entries[4].reason == "no such file" and segmented.entries[4].record == "id"
    assert "fit into memory" in segmented.entries[5].reason
    assert segmented.network_seconds > 0 and (segmented.crf_seconds > 0) == (crf is not None)


def test_images_of_one_size_are_segmented_together():
    model = Colours()
    segment_block(Segmenter(model, INFO), [*PICTURES[:5], PICTURES[6]], 2)
    assert sorted(model.shapes) == [(2, 5, 7, 3), (5, 7, 3), (6, 7, 3)]


def test_a_batch_that_does_not_fit_into_memory_is_segmented_one_by_one():
    model = Colours(most_images=1)
    segmented = segment_block(Segmenter(model, INFO), [PICTURES[0], PICTURES[3]], 8)
    assert all(segmented.labels) and model.shapes == [(2, 5, 7, 3), (5, 7, 3), (5, 7, 3)]


def test_an_empty_block_has_no_labels():
    assert segment_block(Segmenter(Colours(), INFO), [], 4).entries == []
