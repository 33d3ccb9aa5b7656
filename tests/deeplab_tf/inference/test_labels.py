"""Labels from probabilities, by numpy and in a graph."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.inference.labels import labels_and_confidence_in_graph, labels_in_graph, labels_of


@pytest.mark.parametrize("num_classes", [1, 2, 21, 256])
def test_labels_are_the_first_of_the_most_probable_classes_and_confidence_is_theirs(num_classes):
    # Of few levels, so that most pixels have several classes that are the most probable.
    probabilities = np.random.default_rng(0).integers(0, 4, (2, 30, 41, num_classes)).astype(np.float32) / 4
    wanted = probabilities.argmax(-1)
    labels, confidence = labels_and_confidence_in_graph(tf.constant(probabilities))
    for found in (labels, labels_in_graph(tf.constant(probabilities)), labels_of(probabilities)):
        assert np.asarray(found).dtype == np.uint8
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(confidence, probabilities.max(-1))
