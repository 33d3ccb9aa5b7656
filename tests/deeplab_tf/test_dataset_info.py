import dataclasses

import pytest

from datasets import DATASETS, dataset_info
from deeplab_tf.dataset_info import DatasetInfo, find_background, pascal_palette


def info(*names, **fields):
    return DatasetInfo("toy", names, pascal_palette(len(names)), **fields)


@pytest.mark.parametrize("name", ["background", "_background_", "Background", "BG", "void", "unlabelled", "other"])
def test_a_class_by_one_of_the_usual_names_is_the_background(name):
    assert find_background((name, "road")) == 0
    assert find_background(("road", name)) == 1


def test_without_such_a_name_no_class_is_the_background():
    assert find_background(("road", "sidewalk", "backgrounds and more", "another")) is None


def test_a_data_set_may_say_itself_what_its_background_is():
    assert info("background", "thing").background_label == 0
    assert info("background", "thing", background_label=None).background_label is None
    assert info("sky", "thing", background_label=0).background_label == 0
    with pytest.raises(ValueError, match="label of 0 to 1, or none; got 2"):
        info("a", "b", background_label=2)


@pytest.mark.parametrize(("names", "expected"), [(("background", "cat"), 0), (("road", "car"), None)])
def test_a_manifest_from_before_is_read_by_the_names(names, expected):
    now = info(*names)
    before = {key: value for key, value in now.to_json().items() if key != "background_label"}
    assert DatasetInfo.from_json(before) == now and now.background_label == expected
    assert DatasetInfo.from_json(now.to_json()) == now


def test_what_a_data_set_says_survives_a_file():
    said = dataclasses.replace(info("background", "thing"), background_label=None)
    assert DatasetInfo.from_json(said.to_json()).background_label is None


def test_of_the_papers_data_sets_only_cityscapes_has_no_background():
    known = {name: dataset_info(name).background_label for name in DATASETS if name != "folder"}
    assert known.pop("cityscapes") is None
    assert set(known.values()) == {0}
