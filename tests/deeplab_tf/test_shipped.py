import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import deeplab_tf as dl
from deeplab_tf import shipped
from deeplab_tf.export import load as loader
from deeplab_tf.inference.segmenter import Segmenter

ROOT = Path(__file__).resolve().parents[2]


def test_the_names_are_the_folders_below_models():
    names = dl.list_pretrained()
    assert "voc_animals" in names
    assert names == sorted(path.parent.name for path in (ROOT / "models").glob("*/config.json"))


def test_lists_of_names_need_no_tensorflow():
    code = (
        "import sys, deeplab_tf as dl; print(dl.list_pretrained(), dl.list_experiments('*lite0*'));"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names, imported = done.stdout.splitlines()
    assert "voc_animals" in names and "['efficientnet_lite0_aspp']" in names and imported == "False"


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    assert shipped.folder_or_path("voc_animals") == str(ROOT / "models" / "voc_animals")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc_animals").mkdir()
    assert shipped.folder_or_path("voc_animals") == "voc_animals"
    assert shipped.folder_or_path("anything") == "anything"


def test_what_cannot_be_loaded_is_said_with_the_mend(tmp_path):
    with pytest.raises(dl.UserError, match=r"did you mean voc_animals\?\): the names are .*voc_animals"):
        dl.load_pretrained("voc_animal")
    (tmp_path / "a.caffemodel").touch()
    with pytest.raises(dl.UserError, match=r"build_model.EXPERIMENT, num_classes=K., then load_weights"):
        dl.load_pretrained(tmp_path / "a.caffemodel")
    with pytest.raises(dl.UserError, match=r"is not a workdir of train\.py"):
        dl.load_pretrained(tmp_path)


@pytest.mark.slow  # the whole network is built, and its kernels are packed
def test_a_shipped_network_segments_in_one_line():
    pixels = np.full((65, 97, 3), 128, np.uint8)
    segmenter = dl.load_pretrained("voc_animals")
    result = segmenter.segment(pixels)
    expected = loader.load_segmenter(str(ROOT / "models" / "voc_animals")).segmenter.segment(pixels)
    np.testing.assert_array_equal(result.probabilities, expected.probabilities)
    assert isinstance(segmenter, Segmenter) and segmenter.model.count_params() > 4e6 and "cat" in result.names
    assert dl.load_pretrained("voc_animals", crf=True, crf_backend="tf").crf is not None
