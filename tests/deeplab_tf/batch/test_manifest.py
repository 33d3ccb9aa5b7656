"""The lines that say what was done."""

from __future__ import annotations

import json

import pytest

from deeplab_tf.batch.manifest import Entry, merge, read_lines
from deeplab_tf.errors import UserError

DONE = Entry("/photos/ü\n.jpg", output="ü\n.png", size=(3, 5))
RECORD = Entry("/d/val.tfrecord", record="cat", output="val.tfrecord", size=(3, 5))
FAILED = Entry("/photos/bad.jpg", reason="the image: expected a whole image")


@pytest.mark.parametrize("entry", [DONE, RECORD, FAILED])
def test_an_entry_survives_the_trip_through_its_line(entry):
    assert entry.to_line().count("\n") == 1
    assert read_lines(entry.to_line() * 2, "x") == [entry, entry]


def test_a_dead_letter_has_the_input_and_the_reason():
    assert json.loads(FAILED.to_line()) == {"input": "/photos/bad.jpg", "reason": "the image: expected a whole image"}


@pytest.mark.parametrize("text", ["{", "[]", '"a"', '{"output": "a"}', '{"input": "a", "height": [1]}'])
def test_a_damaged_manifest_is_one_line_that_names_it(text):
    with pytest.raises(UserError, match=r"^OUT/manifest\.jsonl: expected lines"):
        read_lines(text, "OUT/manifest.jsonl")


def test_every_image_is_there_once_and_labels_win_over_failures():
    mended = Entry(FAILED.input, output="bad.png", size=(2, 2))
    other_record = Entry(RECORD.input, record="dog", reason="damaged")
    for order in ([DONE, FAILED, RECORD, mended, other_record, DONE], [other_record, mended, FAILED, DONE, RECORD]):
        assert merge(order) == [RECORD, other_record, mended, DONE]
    assert merge([FAILED, Entry(FAILED.input, reason="other")]) == [Entry(FAILED.input, reason="other")]
